//! Opening a store.

use std::time::Duration;

use deadpool_postgres::{Pool, QueueMode};
use tokio::time::timeout;

use super::{
    connection::{Failure, batch, check, run},
    error::{Kind, PostgresError},
    inbox::{HandOff, InboxSql},
    sql::Sql,
    store::PostgresStore,
    table_name::TableName,
    tls,
};
use crate::telemetry;

/// The settings that a [`PostgresStore`] is opened with.
#[derive(Debug, Clone)]
#[must_use]
pub struct PostgresStoreBuilder {
    table: String,
    max_connections: usize,
    deadline: Duration,
    hand_off: Option<HandOff>,
}

/// How long connecting and creating the tables may take. Longer than a claim: nobody waits for a response yet.
const START: Duration = Duration::from_secs(10);

impl PostgresStoreBuilder {
    pub(super) fn new() -> Self {
        let table = PostgresStore::TABLE.into();
        Self { table, max_connections: 10, deadline: Duration::from_secs(2), hand_off: None }
    }

    /// Sets the name of the ledger's table. Default: [`klikit_deliveries`](PostgresStore::TABLE). The names of the inbox's tables start
    /// with it.
    ///
    /// The name has up to 48 of `a-z`, `0-9` and `_`, and does not start with a digit. The name of an existing schema and a dot may
    /// precede it. Any other name is rejected when the store is opened.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = name.into();
        self
    }

    /// Sets how many connections there may be at once, at least 1. Default: 10. [`from_pool`](Self::from_pool) ignores it.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// Sets how long a call may take, including the wait for a connection, before it fails. Default: 2 seconds. Forgetting, purging and
    /// counting may take 30 times as long.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Hands deliveries that the inbox accepts to another queue in this database, instead of storing them in the inbox's own tables: see
    /// the [module](super#handing-off-to-another-queue). Not set by default.
    ///
    /// `sql` is one statement. Its result is ignored. If it fails, the delivery is not accepted, and klikit sends it again. It is checked
    /// when the store is opened.
    ///
    /// | parameter | type | value |
    /// |---|---|---|
    /// | `$1` | `bytea` | the body: customers' data |
    /// | `$2` | `text` | a JSON object: `method`, `uri`, `tenant`, `secret_id`, `received_at` in milliseconds since 1970, and, if there are any, `content_type`, `event_id`, `event_type`, and `conflict`, which is `true` if the event's id came with another body before |
    /// | `$3` | `text` | the key of the delivery, in hexadecimal: a job key that no other delivery has |
    ///
    /// It need not use all of them.
    pub fn hand_off(mut self, sql: impl Into<String>) -> Self {
        self.hand_off = Some(HandOff::new(sql.into()));
        self
    }

    /// Connects to the database that `url` names, and creates the tables if they are missing.
    ///
    /// `sslmode=require` encrypts the connection and checks the server's certificate, including its name, against those that the system
    /// trusts (or that `SSL_CERT_FILE` names). `sslmode=disable`, and `sslmode=prefer`, which is the default, connect without TLS: use
    /// them for a server on the same machine only. For anything else, such as a client certificate, make a pool of your own and pass it
    /// to [`from_pool`](Self::from_pool).
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is invalid, if the system's certificates cannot be read, or if [`from_pool`](Self::from_pool) would
    /// return one.
    pub async fn connect(self, url: &str) -> Result<PostgresStore, PostgresError> {
        let table = TableName::parse(&self.table)?;
        // The pool has no time limits of its own: a call has its deadline, and opening the store may take longer.
        let pool = Pool::builder(tls::manager(url, self.deadline)?)
            .max_size(self.max_connections)
            // Uses few connections if few are needed, so that those have the statements prepared.
            .queue_mode(QueueMode::Lifo)
            .build()
            .map_err(|error| PostgresError::because(Kind::Pool, error))?;
        self.open(table, pool).await
    }

    /// Uses connections of a pool of your own, and creates the tables if they are missing.
    ///
    /// A connection that fails, or that does not answer in time, is closed instead of going back to the pool.
    ///
    /// # Errors
    ///
    /// Returns an error if the table's name is invalid, or if there is no connection within 10 seconds. Returns an error if the tables can be
    /// neither found nor created, or are another program's, and if the server cannot run the [hand-off](Self::hand_off).
    pub async fn from_pool(self, pool: Pool) -> Result<PostgresStore, PostgresError> {
        let table = TableName::parse(&self.table)?;
        self.open(table, pool).await
    }

    async fn open(self, table: TableName, pool: Pool) -> Result<PostgresStore, PostgresError> {
        let (sql, inbox) = (Sql::new(&table), InboxSql::new(&table, self.deadline));
        let failed = |kind, failure| match failure {
            Failure::Pool(error) => PostgresError::because(Kind::Connect, error),
            failure => PostgresError::because(kind, failure),
        };
        let prepare = async {
            let (ledger, beside) = (|| Kind::Table(table.quoted()), || Kind::Table(table.with("_inbox")));
            create(&pool, &sql.each(), &sql.create).await.map_err(|failure| failed(ledger(), failure))?;
            create(&pool, &inbox.each(), &inbox.create).await.map_err(|failure| failed(beside(), failure))?;
            // Finds another program's tables of the same names now, and not when a delivery comes in.
            check(&pool, &sql.each()).await.map_err(|failure| failed(ledger(), failure))?;
            check(&pool, &inbox.each()).await.map_err(|failure| failed(beside(), failure))?;
            if let Some(hand_off) = &self.hand_off
                && !hand_off.check(&pool).await.map_err(|failure| failed(Kind::HandOff, failure))?
            {
                return Err(PostgresError::because(Kind::HandOff, "it is empty, or has more than three parameters"));
            }
            warn_of_forgetting(&pool).await.map_err(|failure| failed(Kind::Connect, failure))
        };
        let prepared = timeout(START, prepare).await;
        prepared.unwrap_or_else(|elapsed| Err(PostgresError::because(Kind::Connect, elapsed)))?;
        Ok(PostgresStore::new(pool, sql, inbox, self.hand_off, self.deadline))
    }
}

/// Creates tables unless they exist, so that a user of existing tables needs no right to create any.
async fn create(pool: &Pool, statements: &[&str], create: &str) -> Result<(), Failure> {
    match check(pool, statements).await {
        Err(Failure::Statement(_)) => batch(pool, create).await,
        checked => checked,
    }
}

/// Logs a warning if the server, or this user of it, does not wait for stable storage before it answers.
async fn warn_of_forgetting(pool: &Pool) -> Result<(), Failure> {
    let answer = run(pool, "SELECT current_setting('synchronous_commit'), current_setting('fsync')", &[]).await?;
    let off = |column| {
        let setting: Option<&str> = answer.rows.first().and_then(|row| row.try_get(column).ok());
        setting == Some("off")
    };
    if off(0) {
        telemetry::may_forget("synchronous_commit is off, so what it has just committed ends with it");
    }
    if off(1) {
        telemetry::may_forget("fsync is off, so what is not yet on the disk ends with the machine");
    }
    Ok(())
}

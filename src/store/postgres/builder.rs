//! How a store is opened.

use std::time::Duration;

use deadpool_postgres::{Pool, QueueMode, Runtime, Timeouts};
use tokio::time::timeout;

use super::{
    connection::{Failure, batch, check},
    error::{Kind, PostgresError},
    sql::{Sql, TableName},
    store::PostgresStore,
    tls,
};

/// What a [`PostgresStore`] is opened with.
#[derive(Debug, Clone)]
#[must_use]
pub struct PostgresStoreBuilder {
    table: String,
    max_connections: usize,
    deadline: Duration,
}

/// To connect and to create the table. Longer than for a claim: nobody is waiting for an answer yet.
const START: Duration = Duration::from_secs(10);

impl PostgresStoreBuilder {
    pub(super) fn new() -> Self {
        Self { table: PostgresStore::TABLE.into(), max_connections: 10, deadline: Duration::from_secs(2) }
    }

    /// The table to use, in place of [`klikit_deliveries`](PostgresStore::TABLE).
    ///
    /// At most 48 of `a-z`, `0-9` and `_`, not a digit first. A schema's name and a dot may stand before it; that schema
    /// must exist. Anything else is refused when the store is opened.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = name.into();
        self
    }

    /// How many connections there may be at once: 10 unless set, and at least 1. [`from_pool`](Self::from_pool) ignores it.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// How long a claim, a completion, a renewal or a release may take, the wait for a connection included, until it is an
    /// error: 2 seconds unless set. Forgetting and purging may take 30 times as long.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Connects to the database that `url` names, and creates the table if it is missing.
    ///
    /// `sslmode=require` has the connection encrypted and the server's certificate checked, name included, against those
    /// that the system trusts (or that `SSL_CERT_FILE` names). `sslmode=disable`, and `sslmode=prefer`, which is the
    /// default, connect without TLS: right for a server on the same machine only. For anything else, such as a client
    /// certificate, make a pool of your own and give it to [`from_pool`](Self::from_pool).
    ///
    /// # Errors
    ///
    /// When the URL or the table's name is none, when the system's certificates cannot be read, when the server cannot be
    /// reached within 10 seconds, and when the table can be neither found nor created, or is another program's.
    pub async fn connect(self, url: &str) -> Result<PostgresStore, PostgresError> {
        let table = TableName::parse(&self.table)?;
        let limit = Some(self.deadline);
        let pool = Pool::builder(tls::manager(url, self.deadline)?)
            .max_size(self.max_connections)
            // So that few connections are in use when few are needed, and those know the statements.
            .queue_mode(QueueMode::Lifo)
            .timeouts(Timeouts { wait: limit, create: limit, recycle: limit })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| PostgresError::because(Kind::Pool, error))?;
        self.open(table, pool).await
    }

    /// Uses connections of a pool of your own, and creates the table if it is missing.
    ///
    /// A connection that fails, or that does not answer in time, is closed and not given back to the pool.
    ///
    /// # Errors
    ///
    /// When the table's name is none, when no connection can be had within 10 seconds, and when the table can be neither
    /// found nor created, or is another program's.
    pub async fn from_pool(self, pool: Pool) -> Result<PostgresStore, PostgresError> {
        let table = TableName::parse(&self.table)?;
        self.open(table, pool).await
    }

    async fn open(self, table: TableName, pool: Pool) -> Result<PostgresStore, PostgresError> {
        let sql = Sql::new(&table);
        match timeout(START, prepare_table(&pool, &sql)).await {
            Ok(Ok(())) => Ok(PostgresStore::new(pool, sql, self.deadline)),
            Ok(Err(Failure::Pool(error))) => Err(PostgresError::because(Kind::Connect, error)),
            Ok(Err(error)) => Err(PostgresError::because(Kind::Table(table.quoted()), error)),
            Err(elapsed) => Err(PostgresError::because(Kind::Connect, elapsed)),
        }
    }
}

/// Creates the table unless it is there, so that a user who may only use it need not have the right to create it.
async fn prepare_table(pool: &Pool, sql: &Sql) -> Result<(), Failure> {
    match check(pool, &sql.claim).await {
        Ok(()) => {}
        Err(Failure::Statement(_)) => batch(pool, &sql.create).await?,
        Err(failure) => return Err(failure),
    }
    // Another program's table of the same name shows here, and not when an order comes in.
    for statement in sql.each() {
        check(pool, statement).await?;
    }
    Ok(())
}

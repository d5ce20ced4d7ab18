//! The builder that opens a store.

use std::time::Duration;

use deadpool_postgres::{Manager, Pool, QueueMode};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;

use crate::{
    connection::{Cancel, Connections, Failure, Naming, Sql},
    error::{Kind, PostgresError, Target},
    inbox::{HandOff, InboxBatches, InboxSql, KnownTenants, Searches},
    ledger::LedgerSql,
    names::Names,
    schema::{Migration, Schema, SchemaFailure},
    store::{PostgresStore, Shared},
    sweep::Sweeper,
    telemetry,
    tls::{self, Access},
};

/// The settings that a [`PostgresStore`] is opened with.
#[derive(Debug, Clone)]
#[must_use]
pub struct PostgresStoreBuilder {
    table_prefix: String,
    is_ledger_only: bool,
    max_connections: usize,
    deadline: Duration,
    naming: Naming,
    hand_off: Option<HandOff>,
}

/// The time limit for connecting and for checking the tables. Longer than a call's deadline, because no response waits.
const START: Duration = Duration::from_secs(10);

/// The time limit for a migration, including the wait for another node's migration.
const MIGRATION: Duration = Duration::from_secs(300);

impl PostgresStore {
    /// Connects to the database that `url` names, with the default settings. See [`PostgresStoreBuilder::open`].
    ///
    /// # Errors
    ///
    /// Returns an error if [`PostgresStoreBuilder::open`] does.
    pub async fn open(url: &str) -> Result<Self, PostgresError> {
        Self::builder().open(url).await
    }

    /// Uses the connections of your own pool, with the default settings. See [`PostgresStoreBuilder::from_pool`].
    ///
    /// # Errors
    ///
    /// Returns an error if [`PostgresStoreBuilder::from_pool`] does.
    pub async fn from_pool(pool: Pool) -> Result<Self, PostgresError> {
        Self::builder().from_pool(pool).await
    }

    /// Returns a builder, which sets the tables' names, the number of connections, the deadline and more.
    pub fn builder() -> PostgresStoreBuilder {
        PostgresStoreBuilder {
            table_prefix: Self::DEFAULT_TABLE_PREFIX.into(),
            is_ledger_only: false,
            max_connections: 10,
            deadline: Duration::from_secs(2),
            naming: Naming::Unnamed,
            hand_off: None,
        }
    }
}

impl PostgresStoreBuilder {
    /// Sets the prefix of the names of all tables. Default: [`klikit_`](PostgresStore::DEFAULT_TABLE_PREFIX).
    ///
    /// The prefix has up to 40 of `a-z`, `0-9` and `_`, and does not start with a digit. The name of an existing schema
    /// and a dot may precede it, as in `webhooks.klikit_`. Any other prefix is rejected when the store is opened.
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = prefix.into();
        self
    }

    /// Leaves out the inbox: opening the store creates only the ledger's tables, which suffice for
    /// [`KlikitDedupeLayer`](tower_klikit::dedupe::KlikitDedupeLayer). Every call of an inbox on the store then returns an
    /// [error](crate::PostgresErrorKind::LedgerOnly). Opening the store later without this setting creates the inbox's
    /// tables.
    pub fn ledger_only(mut self) -> Self {
        self.is_ledger_only = true;
        self
    }

    /// Sets the largest number of connections, at least 1. Default: 10. [`from_pool`](Self::from_pool) ignores this
    /// setting.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// Sets how long a call may take, including the wait for a connection, before it fails. Default: 2 seconds.
    /// Forgetting, purging and counting may take 30 times as long.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Prepares each statement once per connection, under a name, so that the server parses and plans it only once. Not
    /// set by default.
    ///
    /// Use this only if each connection has its own session on the server. Behind a pooler in transaction mode, such as
    /// PgBouncer, two processes that use the same names would run each other's statements.
    pub fn named_statements(mut self) -> Self {
        self.naming = Naming::Named;
        self
    }

    /// Hands deliveries that the inbox accepts to another queue in this database, instead of storing them in the
    /// inbox's tables: see [the crate's page](crate#handing-off-to-another-queue). Not set by default.
    ///
    /// `sql` is one statement, whose result is ignored. If the statement fails, the delivery is not accepted, and klikit
    /// sends it again. The statement is checked when the store is opened.
    ///
    /// | parameter | type | value |
    /// |---|---|---|
    /// | `$1` | `bytea` | the body: customers' data |
    /// | `$2` | `text` | the head: a JSON object, see below |
    /// | `$3` | `text` | the key of the delivery, in hexadecimal: a job key that no other delivery has |
    ///
    /// The statement need not use all parameters. The head contains `method`, `uri`, `tenant`, `secret_id`,
    /// `received_at`, in milliseconds since 1970, and `conflict`, which is `true` if the event's id was used with another
    /// body before. If the request had them, the head also contains `content_type`, `event_id` and `event_type`.
    pub fn hand_off(mut self, sql: impl Into<String>) -> Self {
        self.hand_off = Some(HandOff::new(sql.into()));
        self
    }

    /// Returns the SQL of all migrations, in order, for your own migration tool.
    ///
    /// A store whose tables are up to date when it is opened does not change them. Its role then needs only `SELECT`,
    /// `INSERT`, `UPDATE` and `DELETE` on the tables.
    ///
    /// ```
    /// use tower_klikit_postgres::PostgresStore;
    ///
    /// for migration in PostgresStore::builder().migrations()? {
    ///     println!("{migration}");
    /// }
    /// # Ok::<(), tower_klikit_postgres::PostgresError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the [prefix](Self::table_prefix) is invalid.
    pub fn migrations(&self) -> Result<Vec<Migration>, PostgresError> {
        Ok(self.schema(&Names::parse(&self.table_prefix)?).migrations())
    }

    /// Connects to the database that `url` names, and returns the migrations that [`open`](Self::open) would run, in
    /// order. Changes nothing, so that a tool can look at a store without migrating it under nodes of an older release.
    ///
    /// # Errors
    ///
    /// Returns an error if [`open`](Self::open) would return one before it changes anything: if the URL is invalid or
    /// the tables belong to a later release, for example.
    pub async fn pending_migrations(&self, url: &str) -> Result<Vec<Migration>, PostgresError> {
        let names = Names::parse(&self.table_prefix)?;
        let Access { manager, cancel, target } = tls::access(url, self.deadline)?;
        let connections = Connections::new(self.pool(manager)?, cancel, self.naming, self.deadline);
        self.pending(&names, &connections, &target).await
    }

    /// Connects to the database that `url` names, and creates or migrates the tables as needed.
    ///
    /// `sslmode=require` encrypts the connection and checks the server's certificate, including its name, against those
    /// that the system trusts (or that `SSL_CERT_FILE` names). `sslmode=disable`, and `sslmode=prefer`, which is the
    /// default, connect without TLS: use them for a server on the same machine only. For anything else, such as a
    /// client certificate, create your own pool and pass it to [`from_pool`](Self::from_pool).
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is invalid, if the system's certificates cannot be read, or if
    /// [`from_pool`](Self::from_pool) would return one.
    pub async fn open(self, url: &str) -> Result<PostgresStore, PostgresError> {
        let names = Names::parse(&self.table_prefix)?;
        let Access { manager, cancel, target } = tls::access(url, self.deadline)?;
        let pool = self.pool(manager)?;
        self.prepare(&names, pool, cancel, &target).await
    }

    /// Uses connections of your own pool, and creates or migrates the tables as needed.
    ///
    /// Each call takes a connection for a single transaction. The server never has more backends than the pool's size, if
    /// only one store uses the pool and its size does not change.
    ///
    /// # Errors
    ///
    /// Returns an error in these cases; the [kind](PostgresError::kind) tells which:
    ///
    /// - The table prefix is invalid.
    /// - There is no connection within 10 seconds, or the server denies access.
    /// - The tables belong to a later release, or to a release that had no schema versions.
    /// - A table cannot be created, for example because the role may not create tables, or cannot be used.
    /// - Another node is still migrating the tables after five minutes.
    /// - The server cannot run the [hand-off](Self::hand_off).
    pub async fn from_pool(self, pool: Pool) -> Result<PostgresStore, PostgresError> {
        let names = Names::parse(&self.table_prefix)?;
        self.prepare(&names, pool, tls::cancel_without_tls(), &Target::default()).await
    }

    fn schema(&self, names: &Names) -> Schema {
        if self.is_ledger_only { Schema::ledger_only(names) } else { Schema::whole(names) }
    }

    fn pool(&self, manager: Manager) -> Result<Pool, PostgresError> {
        // Set no time limits for the pool: each call has its deadline, and opening the store may take longer.
        Pool::builder(manager)
            .max_size(self.max_connections)
            // Keep the number of open connections small.
            .queue_mode(QueueMode::Lifo)
            .build()
            .map_err(|error| PostgresError::because(Kind::Pool, error))
    }

    async fn pending(
        &self,
        names: &Names,
        connections: &Connections,
        target: &Target,
    ) -> Result<Vec<Migration>, PostgresError> {
        let late = |elapsed| PostgresError::because(Kind::Unreachable(target.clone()), elapsed);
        let pending = timeout(START, self.schema(names).pending(connections)).await.map_err(late)?;
        pending.map_err(|failure| unusable_schema(failure, target, names))
    }

    async fn prepare(
        self,
        names: &Names,
        pool: Pool,
        cancel: Cancel,
        target: &Target,
    ) -> Result<PostgresStore, PostgresError> {
        let connections = Connections::new(pool, cancel, self.naming, self.deadline);
        let Self { is_ledger_only, deadline, hand_off, .. } = &self;
        if *is_ledger_only && hand_off.is_some() {
            return Err(PostgresError::because(
                Kind::HandOff,
                "a store with ledger_only() has no inbox to hand off from",
            ));
        }
        let late = |elapsed| PostgresError::because(Kind::Unreachable(target.clone()), elapsed);
        if !self.pending(names, &connections, target).await?.is_empty() {
            let migrated = timeout(MIGRATION, self.schema(names).migrate(&connections)).await;
            let migrated = migrated.map_err(|elapsed| PostgresError::because(Kind::LateMigration, elapsed))?;
            migrated.map_err(|failure| unusable_schema(failure, target, names))?;
        }

        let ledger = LedgerSql::new(names);
        let inbox = InboxSql::new(names, *deadline);
        let failed = |kind, failure| unusable(kind, failure, target);
        let check = async {
            // Find a missing table or permission now, not when a delivery arrives.
            let tables = || Kind::Tables(format!("the table {}", names.plain("ledger")));
            connections.check(&ledger.each()).await.map_err(|failure| failed(tables(), failure))?;
            if !is_ledger_only {
                let tables = || Kind::Tables(format!("the tables {}*", names.plain("inbox")));
                connections.check(&inbox.each()).await.map_err(|failure| failed(tables(), failure))?;
            }
            if let Some(hand_off) = hand_off
                && !hand_off.check(&connections).await.map_err(|failure| failed(Kind::HandOff, failure))?
            {
                return Err(PostgresError::because(Kind::HandOff, "the statement is empty"));
            }
            warn_if_not_durable(&connections)
                .await
                .map_err(|failure| failed(Kind::Unreachable(target.clone()), failure))
        };
        timeout(START, check).await.map_err(late)??;
        let Self { is_ledger_only, deadline, hand_off, .. } = self;
        let sweeper = Sweeper::new(connections.clone(), ledger.sweep.clone(), deadline);
        Ok(PostgresStore::new(Shared {
            connections,
            ledger,
            inbox,
            is_ledger_only,
            hand_off,
            deadline,
            searches: Searches::new(deadline),
            tenants: KnownTenants::default(),
            batches: InboxBatches::new(),
            sweeper,
        }))
    }
}

/// Returns the error for a failure. The error has this kind unless there was no connection.
fn unusable(kind: Kind, failure: Failure, target: &Target) -> PostgresError {
    /// The class of "Invalid Authorization Specification", and the code of a missing right to connect.
    const DENIED: [&str; 2] = ["28", "42501"];
    match failure {
        Failure::Pool(_) => {
            let is_denied =
                failure.code().is_some_and(|code| DENIED.iter().any(|denied| code.code().starts_with(denied)));
            let kind = if is_denied { Kind::Denied(target.clone()) } else { Kind::Unreachable(target.clone()) };
            PostgresError::because(kind, failure)
        }
        failure => PostgresError::because(kind, failure),
    }
}

fn unusable_schema(failure: SchemaFailure, target: &Target, names: &Names) -> PostgresError {
    match failure {
        SchemaFailure::Outdated(table) => PostgresError::new(Kind::OutdatedSchema { table }),
        SchemaFailure::Newer { part, found, known } => PostgresError::new(Kind::NewerSchema { part, found, known }),
        SchemaFailure::Failed(failure) => {
            unusable(Kind::Tables(format!("the table {}", names.plain("schema"))), failure, target)
        }
        SchemaFailure::Step { part, version, failure } => {
            let hint = failure.code().and_then(hint);
            unusable(Kind::Migration { part, version, hint }, failure, target)
        }
    }
}

/// Returns advice for a migration that failed.
fn hint(code: &SqlState) -> Option<&'static str> {
    const EXISTS: [SqlState; 4] = [
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_FUNCTION,
        SqlState::DUPLICATE_OBJECT,
        SqlState::WRONG_OBJECT_TYPE,
    ];
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        Some("apply the migrations as a role that may create tables")
    } else if *code == SqlState::INVALID_SCHEMA_NAME {
        Some("create the schema, or set another table prefix")
    } else if EXISTS.contains(code) {
        Some("another program has a table of that name: set another table prefix")
    } else {
        None
    }
}

/// Logs a warning if the server, or the server's settings for this user, do not make commits durable.
async fn warn_if_not_durable(connections: &Connections) -> Result<(), Failure> {
    let sql = Sql::new("SELECT current_setting('synchronous_commit'), current_setting('fsync')".into());
    let answer = connections.run(&sql, &[]).await?;
    let off = |column| {
        let setting: Option<&str> = answer.rows.first().and_then(|row| row.try_get(column).ok());
        setting == Some("off")
    };
    if off(0) {
        telemetry::warn_not_durable("synchronous_commit is off, so a crash of the server loses its latest commits");
    }
    if off(1) {
        telemetry::warn_not_durable("fsync is off, so a crash of the machine loses data that is not yet on disk");
    }
    Ok(())
}

//! The store.

use std::{error::Error, fmt, future::Future, sync::Arc, time::Duration};

use deadpool_postgres::{Pool, Status};
use tokio::time::timeout;
use tower_klikit::dedupe::StoreError;

use super::{
    builder::PostgresStoreBuilder,
    connection::{Answer, Params, run},
    error::PostgresError,
    inbox::{HandOff, InboxSql},
    sql::Sql,
    sweep::Sweeper,
};

/// A [`Ledger`](tower_klikit::dedupe::Ledger) and an [`InboxStore`](tower_klikit::inbox::InboxStore) in Postgres tables: see the [module](super) for
/// the rules.
///
/// Clones share the connections.
#[derive(Clone)]
pub struct PostgresStore {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) pool: Pool,
    pub(super) sql: Sql,
    pub(super) inbox: InboxSql,
    pub(super) hand_off: Option<HandOff>,
    pub(super) deadline: Duration,
    pub(super) sweeper: Sweeper,
}

/// How often a call starts over because what it has read is no longer so when it acts on it. Another node would have to change the same
/// row again and again, at the same pace, for a call to need more than two.
pub(super) const TRIES: u32 = 16;

/// How many deadlines a call may take that may look at a whole table.
pub(super) const PATIENCE: u32 = 30;

impl PostgresStore {
    /// The default name of the table.
    pub const TABLE: &'static str = "klikit_deliveries";

    /// Connects to the database that `url` names, with the default settings. See [`PostgresStoreBuilder::connect`].
    ///
    /// # Errors
    ///
    /// Returns an error if [`PostgresStoreBuilder::connect`] does.
    pub async fn connect(url: &str) -> Result<Self, PostgresError> {
        Self::builder().connect(url).await
    }

    /// Uses the connections of a pool of your own, with the default settings. See [`PostgresStoreBuilder::from_pool`].
    ///
    /// # Errors
    ///
    /// Returns an error if [`PostgresStoreBuilder::from_pool`] does.
    pub async fn from_pool(pool: Pool) -> Result<Self, PostgresError> {
        Self::builder().from_pool(pool).await
    }

    /// Returns a builder, to set the table, the number of connections and the deadline.
    pub fn builder() -> PostgresStoreBuilder {
        PostgresStoreBuilder::new()
    }

    pub(super) fn new(pool: Pool, sql: Sql, inbox: InboxSql, hand_off: Option<HandOff>, deadline: Duration) -> Self {
        Self { shared: Arc::new(Shared { pool, sql, inbox, hand_off, deadline, sweeper: Sweeper::default() }) }
    }

    pub(super) async fn run(&self, sql: &str, params: Params<'_>) -> Result<Answer, StoreError> {
        self.within(1, run(&self.shared.pool, sql, params)).await
    }

    /// Runs a statement that may look at a whole table.
    pub(super) async fn run_long(&self, sql: &str, params: Params<'_>) -> Result<Answer, StoreError> {
        self.within(PATIENCE, run(&self.shared.pool, sql, params)).await
    }

    /// Waits for `work`, but not longer than this many deadlines.
    pub(super) async fn within<T, E>(
        &self,
        deadlines: u32,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.in_time(deadlines, work).await?.map_err(StoreError::new)
    }

    /// Does the same for work whose own errors are yet to be looked at.
    pub(super) async fn in_time<T>(&self, deadlines: u32, work: impl Future<Output = T>) -> Result<T, StoreError> {
        let limit = self.shared.deadline.saturating_mul(deadlines);
        timeout(limit, work).await.map_err(|_| {
            let Status { max_size, size, available, .. } = self.shared.pool.status();
            let used = size.saturating_sub(available);
            StoreError::new(format!(
                "Postgres did not answer within {limit:?} ({used} of {max_size} connections are in use)"
            ))
        })
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The pool would print how it connects.
        f.debug_struct("PostgresStore").field("deadline", &self.shared.deadline).finish_non_exhaustive()
    }
}

//! The public type of the store.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tower_klikit::dedupe::StoreError;

use crate::{
    connection::{Answer, Connections, LONG_CALL_DEADLINES, Params, Sql},
    error::{Kind, PostgresError},
    inbox::{HandOff, InboxBatches, InboxSql, KnownTenants, Searches},
    ledger::LedgerSql,
    sweep::Sweeper,
    values::BoxError,
};

/// A [`Ledger`](tower_klikit::dedupe::Ledger) and an [`InboxStore`](tower_klikit::inbox::InboxStore) in Postgres
/// tables. The [crate's page](crate) states the rules.
///
/// Clones share the connections.
#[derive(Clone)]
pub struct PostgresStore {
    pub(crate) shared: Arc<Shared>,
}

/// The parts of a store, which its clones share.
pub(crate) struct Shared {
    pub(crate) connections: Connections,
    pub(crate) ledger: LedgerSql,
    pub(crate) inbox: InboxSql,
    /// Whether the inbox's tables are left out.
    pub(crate) is_ledger_only: bool,
    pub(crate) hand_off: Option<HandOff>,
    pub(crate) deadline: Duration,
    pub(crate) searches: Searches,
    pub(crate) tenants: KnownTenants,
    pub(crate) batches: InboxBatches,
    pub(crate) sweeper: Sweeper,
}

impl PostgresStore {
    /// The default [prefix](crate::PostgresStoreBuilder::table_prefix) of the tables' names.
    pub const DEFAULT_TABLE_PREFIX: &'static str = "klikit_";

    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Returns an error if the store has no inbox.
    pub(crate) fn require_inbox(&self) -> Result<(), StoreError> {
        if self.shared.is_ledger_only {
            return Err(StoreError::new(PostgresError::new(Kind::LedgerOnly)));
        }
        Ok(())
    }

    pub(crate) async fn run(&self, sql: &Sql, params: Params<'_>) -> Result<Answer, StoreError> {
        self.within(1, self.shared.connections.run(sql, params)).await
    }

    /// Runs a statement that may read a whole table.
    pub(crate) async fn run_long(&self, sql: &Sql, params: Params<'_>) -> Result<Answer, StoreError> {
        self.within(LONG_CALL_DEADLINES, self.shared.connections.run_long(sql, params)).await
    }

    /// Waits for `work`, but not longer than this many deadlines.
    pub(crate) async fn within<T, E>(
        &self,
        deadlines: u32,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError>
    where
        E: Into<BoxError>,
    {
        self.in_time(deadlines, work).await?.map_err(StoreError::new)
    }

    /// Waits for `work` in the same way, and returns its own error to the caller.
    pub(crate) async fn in_time<T>(&self, deadlines: u32, work: impl Future<Output = T>) -> Result<T, StoreError> {
        let limit = self.shared.deadline.saturating_mul(deadlines);
        self.shared.connections.in_time(limit, work).await.map_err(StoreError::new)
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The pool's `Debug` contains the connection settings.
        f.debug_struct("PostgresStore").field("deadline", &self.shared.deadline).finish_non_exhaustive()
    }
}

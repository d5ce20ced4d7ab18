//! The stores that the command can open.

use tower_klikit::{
    dedupe::{EventKey, Ledger, LedgerAdmin, LedgerEntry, LedgerSelection, StoreError},
    inbox::Inbox,
};
use tower_klikit_postgres::PostgresStore;
use tower_klikit_sqlite::SqliteStore;

/// An open store of either kind.
pub(crate) enum Backend {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl Backend {
    /// Returns the inbox of the store.
    pub(crate) fn inbox(&self) -> Inbox {
        match self {
            Self::Sqlite(store) => Inbox::new(store.clone()),
            Self::Postgres(store) => Inbox::new(store.clone()),
        }
    }

    pub(super) async fn entries(
        &self,
        selection: &LedgerSelection,
        after: Option<EventKey>,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        match self {
            Self::Sqlite(store) => store.entries(selection, after, limit).await,
            Self::Postgres(store) => store.entries(selection, after, limit).await,
        }
    }

    pub(super) async fn count(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.count(selection).await,
            Self::Postgres(store) => store.count(selection).await,
        }
    }

    pub(crate) async fn forget(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.forget(selection).await,
            Self::Postgres(store) => store.forget(selection).await,
        }
    }
}

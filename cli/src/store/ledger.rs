//! The ledger of a store, with or without an inbox.

use tower_klikit::{
    dedupe::{EventKey, Ledger, LedgerAdmin, LedgerEntry, LedgerSelection, StoreError},
    inbox::Inbox,
};
use tower_klikit_postgres::PostgresStore;
use tower_klikit_sqlite::SqliteStore;

use super::{Location, OpenError, StoreArguments, failed};
use crate::{
    error::{CliError, one_line},
    output,
};

/// The ledger of an open store, whose schema is the one of this release.
pub(crate) struct LedgerStore {
    /// The inbox, or `None` if the store has the tables of the ledger only, for the dedupe layer.
    pub(crate) inbox: Option<Inbox>,
    /// The store's place, without a password.
    pub(crate) name: String,
    ledger: AnyLedger,
}

enum AnyLedger {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl StoreArguments {
    /// Opens the store as [`open`](Self::open) does, also if it has no tables of an inbox.
    pub(crate) async fn open_ledger(&self) -> Result<LedgerStore, CliError> {
        let location = self.location()?;
        let pending = self.pending_migrations(&location).await?;
        let lacks_inbox = pending.iter().any(|step| step.part == "inbox" && step.version == 1);
        let has_ledger = pending.iter().all(|step| step.part == "inbox");
        let has_inbox = !(lacks_inbox && has_ledger);
        if has_inbox {
            Self::check_migrated(&location, &pending)?;
        }
        let store = self.open_parts(&location, has_inbox).await?;
        output::note(format_args!("store: {}", store.name));
        Ok(store)
    }

    async fn open_parts(&self, location: &Location, has_inbox: bool) -> Result<LedgerStore, OpenError> {
        let name = one_line(&location.to_string());
        Ok(match location {
            Location::File(path) => {
                let builder = self.sqlite();
                let builder = if has_inbox { builder } else { builder.ledger_only() };
                let store = builder.open(path).map_err(|error| OpenError::of_sqlite(location, &error))?;
                let inbox = has_inbox.then(|| Inbox::new(store.clone()));
                LedgerStore { inbox, name, ledger: AnyLedger::Sqlite(store) }
            }
            Location::Database(url) => {
                let builder = self.postgres();
                let builder = if has_inbox { builder } else { builder.ledger_only() };
                let store = builder.open(url).await;
                let store = store.map_err(|error| OpenError::of_reached_postgres(location, &error))?;
                let inbox = has_inbox.then(|| Inbox::new(store.clone()));
                LedgerStore { inbox, name, ledger: AnyLedger::Postgres(store) }
            }
        })
    }
}

impl LedgerStore {
    /// Returns the error for a call that failed.
    pub(crate) fn failed(&self, error: &StoreError) -> CliError {
        failed(&self.name, error)
    }

    /// Lists up to `limit` entries with keys larger than `after`, in the order of their keys.
    pub(crate) async fn entries(
        &self,
        selection: &LedgerSelection,
        after: Option<EventKey>,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, CliError> {
        let entries = match &self.ledger {
            AnyLedger::Sqlite(store) => store.entries(selection, after, limit).await,
            AnyLedger::Postgres(store) => store.entries(selection, after, limit).await,
        };
        entries.map_err(|error| self.failed(&error))
    }

    /// Counts the entries that [`forget`](Self::forget) would remove.
    pub(crate) async fn count(&self, selection: &LedgerSelection) -> Result<u64, CliError> {
        let counted = match &self.ledger {
            AnyLedger::Sqlite(store) => store.count(selection).await,
            AnyLedger::Postgres(store) => store.count(selection).await,
        };
        counted.map_err(|error| self.failed(&error))
    }

    /// Removes the entries from the ledger. Returns the number of removed entries.
    pub(crate) async fn forget(&self, selection: &LedgerSelection) -> Result<u64, CliError> {
        let forgotten = match &self.ledger {
            AnyLedger::Sqlite(store) => store.forget(selection).await,
            AnyLedger::Postgres(store) => store.forget(selection).await,
        };
        forgotten.map_err(|error| self.failed(&error))
    }
}

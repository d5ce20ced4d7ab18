//! The ledger of a store, with or without an inbox.

use tower_klikit::{
    dedupe::{EventKey, LedgerEntry, LedgerSelection, StoreError},
    inbox::Inbox,
};

use super::{Backend, Parts, StoreArguments, failed};
use crate::{error::CliError, output};

/// The ledger of an open store, whose schema is the one of this release.
pub(crate) struct LedgerStore {
    /// The inbox, or `None` if the store has only a ledger, for the dedupe layer.
    pub(crate) inbox: Option<Inbox>,
    /// The store's place, without a password.
    pub(crate) name: String,
    backend: Backend,
}

impl StoreArguments {
    /// Opens the store as [`open`](Self::open) does, also if it has only a ledger.
    pub(crate) async fn open_ledger(&self) -> Result<LedgerStore, CliError> {
        let location = self.location()?;
        let pending = self.pending_migrations(&location).await?;
        let parts = pending.parts();
        let pending = pending.of(parts);
        if !pending.is_empty() {
            return Err(pending.error(&location));
        }
        let backend = self.connect(&location, parts).await?;
        let inbox = (parts == Parts::LedgerAndInbox).then(|| backend.inbox());
        let store = LedgerStore { inbox, name: location.to_string(), backend };
        output::note(format_args!("store: {}", store.name));
        Ok(store)
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
        let entries = self.backend.entries(selection, after, limit).await;
        entries.map_err(|error| self.failed(&error))
    }

    /// Counts the entries that [`forget`](Self::forget) would remove.
    pub(crate) async fn count(&self, selection: &LedgerSelection) -> Result<u64, CliError> {
        let counted = self.backend.count(selection).await;
        counted.map_err(|error| self.failed(&error))
    }

    /// Removes the entries from the ledger. Returns the number of removed entries.
    pub(crate) async fn forget(&self, selection: &LedgerSelection) -> Result<u64, CliError> {
        let forgotten = self.backend.forget(selection).await;
        forgotten.map_err(|error| self.failed(&error))
    }
}

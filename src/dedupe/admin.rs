//! The interface for operations on a ledger that only operators need.

use std::future::Future;

use super::{
    entry::{LedgerEntry, LedgerSelection},
    error::StoreError,
    key::EventKey,
};

/// The operations of a [`Ledger`](super::Ledger) that only operators need. They change nothing.
///
/// The layers do not call them. A ledger without them can be used like any other. A store whose storage is damaged may
/// leave out entries, or return an error.
pub trait LedgerAdmin: Send + Sync + 'static {
    /// Lists up to `limit` entries that the selection contains and whose key is larger than `after`, smallest key first.
    /// Leaves out entries whose retention or grace is over, and entries that cannot be read. If there are fewer than
    /// `limit`, no more follow.
    fn entries(
        &self,
        selection: &LedgerSelection,
        after: Option<EventKey>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<LedgerEntry>, StoreError>> + Send;

    /// Returns the number that [`Ledger::forget`](super::Ledger::forget) would return now. Includes entries that cannot
    /// be read.
    fn count(&self, selection: &LedgerSelection) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

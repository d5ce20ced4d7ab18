//! The interface for operations on stored deliveries that only operators need.

use std::{future::Future, sync::Arc};

use super::{
    entry::{DeliveryId, DeliveryState, Entry},
    filter::{Filter, Page},
    pause::{ActivePause, Pause},
};
use crate::{
    dedupe::{LedgerSelection, StoreError},
    object_safe::object_safe_trait,
};

/// The operations of an [`InboxStore`](super::InboxStore) that only operators need.
///
/// Every call that is for one delivery is atomic, as those of the store are. One that is for many may fail after it has
/// changed some of them.
pub trait InboxAdmin: Send + Sync + 'static {
    /// Lists up to `limit` deliveries that the filter selects and whose id is larger than `after`, smallest id first,
    /// without their bodies and records of attempts. A delivery that cannot be read is left out. `limit` is at least 1.
    ///
    /// A page may have fewer deliveries, or no delivery, although more pages follow: a store examines a bounded number
    /// of deliveries in one call. [`Page::next`] is the start of the next page. [`Filter`] lists the parts for which a
    /// store should have an index.
    fn find(
        &self,
        filter: &Filter,
        after: Option<DeliveryId>,
        limit: u32,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// Returns one delivery in any state, with the [records](super::InboxStore#records-of-attempts) of its attempts,
    /// oldest first: at most the last [`SHOWN`](super::AttemptRecord::SHOWN). An open attempt has a record without an
    /// end time and a reason. Reads the body if `body` says so.
    fn show(&self, id: DeliveryId, body: ShowBody) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send;

    /// Makes the deliveries with these ids READY and due now, with no attempts, if they are DEAD or DONE, in one of
    /// `states`, and have a body. Each returns to its old place among the deliveries that share its ordering keys.
    /// Returns the number of deliveries that are READY now.
    ///
    /// Reasons, tokens, ledger rows and records of attempts stay as they are.
    fn requeue(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Dead-letters the deliveries with these ids that are READY or LEASED and in one of `states`. Returns their
    /// number.
    ///
    /// Attempts and leases stay as they are. If the handler of a LEASED delivery succeeds after all, that counts: see
    /// [`settle`](super::InboxStore::settle).
    fn dead_letter(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
        reason: &str,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes the deliveries with these ids that are in one of `states`, with their bodies, ordering keys, search
    /// terms and records of attempts. Their ledger rows stay or are deleted, as `ledger` says. Returns the number of
    /// deleted deliveries.
    ///
    /// A running handler continues, and its outcome has no effect.
    fn delete(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
        ledger: LedgerRows,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Returns the number of keys that [`forget_keys`](Self::forget_keys) would forget now. Changes nothing.
    fn count_keys(&self, selection: &LedgerSelection) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes the DEAD and DONE deliveries and the ledger rows of the selected keys, so that the events are accepted
    /// again if klikit sends them again. Returns the number of forgotten keys: a delivery and its ledger row share one
    /// key.
    ///
    /// - [`Event`](LedgerSelection::Event) selects the keys of the event and of its conflicts.
    /// - [`Claimed`](LedgerSelection::Claimed) selects each key whose delivery was accepted within the window, or whose
    ///   ledger row was claimed within the window and is still kept.
    ///
    /// A READY or LEASED delivery and its ledger row stay: the delivery will be handled, and its copies are duplicates.
    fn forget_keys(&self, selection: &LedgerSelection) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Keeps the deliveries that the pause selects from being leased, by all processes that share the store, until the
    /// pause is [lifted](Self::resume). They are not candidates of [`lease`](super::InboxStore::lease) and are not
    /// dead-lettered by it. They still block their ordering keys.
    ///
    /// Those that are LEASED and have no [open attempt](super::InboxStore#records-of-attempts) become READY and due
    /// now, so that their handlers do not start. Returns their number. Running handlers continue, and their leases can
    /// be extended. A pause that is in force already stays as it is, and releases such deliveries too.
    fn pause(&self, pause: &Pause, operator: &str) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Lifts the pause that is equal to this one. Deliveries that another pause selects stay paused. Returns `false`
    /// and changes nothing if there is no such pause.
    fn resume(&self, pause: &Pause) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Returns the pauses that are in force, in the order of [`Pause`].
    fn pauses(&self) -> impl Future<Output = Result<Vec<ActivePause>, StoreError>> + Send;
}

/// Whether [`InboxAdmin::show`] reads the body, which contains customers' data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a store must handle each")]
pub enum ShowBody {
    /// Without the body.
    Omit,
    /// With the body, if it is still stored.
    Include,
}

/// The treatment of the ledger rows of [deleted](InboxAdmin::delete) deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a store must handle each")]
pub enum LedgerRows {
    /// The rows stay, so copies of the deliveries are still duplicates.
    Keep,
    /// The rows are deleted too, so the events are accepted again if klikit sends them again.
    Delete,
}

object_safe_trait! {
    /// An object-safe [`InboxAdmin`].
    pub(super) trait DynInboxAdmin: InboxAdmin {
        fn find(&'a self, filter: &'a Filter, after: Option<DeliveryId>, limit: u32) -> Page;
        fn show(&'a self, id: DeliveryId, body: ShowBody) -> Option<Entry>;
        fn requeue(&'a self, ids: &'a [DeliveryId], states: &'a [DeliveryState]) -> u64;
        fn dead_letter(&'a self, ids: &'a [DeliveryId], states: &'a [DeliveryState], reason: &'a str) -> u64;
        fn delete(&'a self, ids: &'a [DeliveryId], states: &'a [DeliveryState], ledger: LedgerRows) -> u64;
        fn count_keys(&'a self, selection: &'a LedgerSelection) -> u64;
        fn forget_keys(&'a self, selection: &'a LedgerSelection) -> u64;
        fn pause(&'a self, pause: &'a Pause, operator: &'a str) -> u64;
        fn resume(&'a self, pause: &'a Pause) -> bool;
        fn pauses(&'a self) -> Vec<ActivePause>;
    }
}

/// The store that operators' calls go to.
pub(super) type SharedAdmin = Arc<dyn DynInboxAdmin>;

//! Operations on the stored deliveries, for operators.

use std::{future::Future, ops::Range, sync::Arc, time::SystemTime};

use super::{
    entry::{DeliveryId, DeliveryState, Entry},
    filter::{Filter, Page},
};
use crate::{
    dedupe::{EventKey, StoreError},
    object_safe::object_safe_twin,
};

/// The operations of an [`InboxStore`](super::InboxStore) that only operators need.
///
/// Every call that is for one delivery is atomic, as those of the store are. One that is for many may fail after it has
/// changed some of them.
pub trait InboxAdmin: Send + Sync + 'static {
    /// Lists up to `limit` deliveries that the filter selects and whose id is larger than `after`, smallest id first,
    /// without their bodies. A delivery that cannot be read is left out. `limit` is at least 1.
    ///
    /// A page may have fewer deliveries, or none, although others follow: a store looks at a bounded number of
    /// deliveries in one call, and [`Page::next`] says where to go on.
    fn find(
        &self,
        filter: &Filter,
        after: Option<DeliveryId>,
        limit: u32,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// Returns one delivery in any state, with its body if that is still stored.
    fn show(&self, id: DeliveryId) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send;

    /// Makes a DEAD delivery READY again and due now, with no attempts, in its old place among those that share its
    /// ordering keys. Returns `false` and changes nothing if no DEAD delivery has this id.
    fn retry(&self, id: DeliveryId) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Dead-letters those of these deliveries that are READY or LEASED, and in one of these states. Returns how many.
    ///
    /// Attempts and leases stay as they are. If the handler of a LEASED delivery succeeds after all, that counts: see
    /// [`settle`](super::InboxStore::settle).
    fn dead_letter(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
        reason: &str,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes those of these deliveries that are in one of these states with their bodies and ledger rows, so that
    /// their events are accepted when they come again. Returns how many.
    ///
    /// A handler that is running goes on, and its outcome changes nothing any more.
    fn forget_deliveries(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes the DEAD and DONE deliveries of this event, conflicts included, and the event's ledger rows, so that the
    /// event is accepted when it comes again. Returns how many keys were forgotten; a delivery and its ledger row share
    /// one.
    ///
    /// A delivery that is READY or LEASED stays, and so does its ledger row: it will be handled, and its copies are
    /// duplicates.
    fn forget_event(&self, event: &EventKey) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Forgets, as [`forget_event`](Self::forget_event) does, every key whose delivery was accepted within this window,
    /// or whose ledger row was claimed within it and is still kept, of whichever tenant. Returns how many keys were
    /// forgotten.
    fn forget_accepted(&self, window: Range<SystemTime>) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

object_safe_twin! {
    /// [`InboxAdmin`], callable without knowing the store's type.
    pub(super) trait DynInboxAdmin: InboxAdmin {
        fn find(&'a self, filter: &'a Filter, after: Option<DeliveryId>, limit: u32) -> Page;
        fn show(&'a self, id: DeliveryId) -> Option<Entry>;
        fn retry(&'a self, id: DeliveryId) -> bool;
        fn dead_letter(&'a self, ids: &'a [DeliveryId], states: &'a [DeliveryState], reason: &'a str) -> u64;
        fn forget_deliveries(&'a self, ids: &'a [DeliveryId], states: &'a [DeliveryState]) -> u64;
        fn forget_event(&'a self, event: &'a EventKey) -> u64;
        fn forget_accepted(&'a self, window: Range<SystemTime>) -> u64;
    }
}

/// The store, as operators see it.
pub(super) type SharedAdmin = Arc<dyn DynInboxAdmin>;

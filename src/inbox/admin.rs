//! The interface for operations on stored deliveries that only operators need.

use std::{future::Future, ops::Range, sync::Arc, time::SystemTime};

use super::{
    entry::{DeliveryId, DeliveryState, Entry},
    filter::{Filter, Page},
};
use crate::{
    dedupe::{EventKey, StoreError},
    object_safe::object_safe_trait,
};

/// The operations of an [`InboxStore`](super::InboxStore) that only operators need.
///
/// Every call that is for one delivery is atomic, as those of the store are. One that is for many may fail after it has
/// changed some of them.
pub trait InboxAdmin: Send + Sync + 'static {
    /// Lists up to `limit` deliveries that the filter selects and whose id is larger than `after`, smallest id first,
    /// without their bodies. A delivery that cannot be read is left out. `limit` is at least 1.
    ///
    /// A page may have fewer deliveries, or no delivery, although more pages follow: a store examines a bounded number
    /// of deliveries in one call. [`Page::next`] is the start of the next page.
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

    /// Deletes the deliveries with these ids that are in one of `states`, with their bodies and ledger rows. So their
    /// events are accepted again if klikit sends them again. Returns the number of deleted deliveries.
    ///
    /// A running handler continues, and its outcome has no effect.
    fn forget_deliveries(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes the DEAD and DONE deliveries of this event, including conflicts, and the event's ledger rows. So the
    /// event is accepted again if klikit sends it again. Returns the number of forgotten keys: a delivery and its
    /// ledger row share one key.
    ///
    /// A READY or LEASED delivery and its ledger row stay: the delivery will be handled, and its copies are duplicates.
    fn forget_event(&self, event: &EventKey) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Forgets keys of all tenants in the way of [`forget_event`](Self::forget_event): each key whose delivery was
    /// accepted within `window`, or whose ledger row was claimed within `window` and is still kept. Returns the number
    /// of forgotten keys.
    fn forget_accepted(&self, window: Range<SystemTime>) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

object_safe_trait! {
    /// An object-safe [`InboxAdmin`].
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

/// The store that operators' calls go to.
pub(super) type SharedAdmin = Arc<dyn DynInboxAdmin>;

//! Operations on the stored deliveries, for operators.

use std::{future::Future, ops::Range, sync::Arc, time::SystemTime};

use super::entry::{DeliveryId, Entry};
use crate::{
    dedupe::{EventKey, StoreError},
    object_safe::object_safe_twin,
};

/// The operations of an [`InboxStore`](super::InboxStore) that only operators need.
///
/// Every call is atomic, as those of the store are.
pub trait InboxAdmin: Send + Sync + 'static {
    /// Lists up to `limit` DEAD deliveries whose id is larger than `after`, smallest id first, without their bodies. A
    /// delivery that cannot be read is left out.
    fn dead(
        &self,
        after: Option<DeliveryId>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Entry>, StoreError>> + Send;

    /// Returns one delivery in any state, with its body if that is still stored.
    fn show(&self, id: DeliveryId) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send;

    /// Makes a DEAD delivery READY again and due now, with no attempts, in its old place among those that share its
    /// ordering keys. Returns `false` and changes nothing if no DEAD delivery has this id.
    fn retry(&self, id: DeliveryId) -> impl Future<Output = Result<bool, StoreError>> + Send;

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
        fn dead(&'a self, after: Option<DeliveryId>, limit: u32) -> Vec<Entry>;
        fn show(&'a self, id: DeliveryId) -> Option<Entry>;
        fn retry(&'a self, id: DeliveryId) -> bool;
        fn forget_event(&'a self, event: &'a EventKey) -> u64;
        fn forget_accepted(&'a self, window: Range<SystemTime>) -> u64;
    }
}

/// The store, as operators see it.
pub(super) type SharedAdmin = Arc<dyn DynInboxAdmin>;

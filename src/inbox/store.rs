//! What a store of accepted deliveries has to do.
//!
//! ```text
//!  accept ▶ READY ──lease──▶ LEASED ──finish──▶ gone, or DONE for as long as bodies are kept ─ purge_done ▶ gone
//!            ▲  ▲             │ │ └─ bury ─────▶ DEAD ── retry, or accepted again ──▶ READY
//!            │  └ postpone ───┘ │
//!            └─── give_back ────┘
//!            └─── the lease ran out: it can be leased again, without anybody's doing
//! ```

use std::{future::Future, ops::Range, pin::Pin, sync::Arc, time::Duration, time::SystemTime};

use super::{
    delivery::{Lease, Leased, NewDelivery},
    entry::{Counts, DeliveryId, Entry},
};
use crate::dedupe::{BodyDigest, EventKey, StoreError};

/// A store that keeps what was accepted until it is handled.
///
/// Every call is atomic, and all clones and processes that share the store see one order of calls. What a call has changed
/// is on stable storage when it returns. Time is by the store's one clock: a database's own where there is one. A store that is
/// unsure must return an error: klikit then sends the delivery again, or the worker handles it again, and nothing is lost.
///
/// A lease is held as long as the delivery is LEASED under its token, even when its time is up: then nobody else has taken the
/// delivery yet, and how it ended may still be told.
///
/// A delivery's ledger row is that of the store's [`Ledger`](crate::dedupe::Ledger): what a
/// [`KlikitDedupeLayer`](crate::dedupe::KlikitDedupeLayer) on the same store has handled is a duplicate here, and the other way
/// round.
///
/// **A store is trusted.** What it hands out is handled as what was verified before it was stored.
///
/// `testing::inbox` has the suite that this crate's own stores pass.
pub trait InboxStore: Send + Sync + 'static {
    /// Stores a delivery together with its ledger row, which is done from the start, for the time `retention`.
    ///
    /// In this order:
    ///
    /// 1. The key has a delivery here that is READY or LEASED: nothing changes but that its ledger row, should it have gone, is
    ///    there again, with the digest of the delivery. [`Acceptance::Known`].
    /// 2. It has one that is DEAD. If the new one [is the same delivery](NewDelivery::is_same_as), that one is READY again, at
    ///    once, without attempts, with the new request and under its old [id](DeliveryId) and time of acceptance, its ledger row done for the time
    ///    `retention`: [`Acceptance::Revived`]. If not, nothing changes: [`Acceptance::Known`].
    /// 3. Its ledger row is done: [`Acceptance::Known`]. It is claimed: [`Acceptance::InFlight`]. Nothing changes.
    /// 4. Otherwise it is stored as READY, at once, in the place of a DONE one of the same key if there is one, under an id
    ///    larger than all before it: [`Acceptance::Accepted`].
    ///
    /// Accepting again with the same claim, as after an answer that was lost, gives `Known` with its own digest.
    fn accept(
        &self,
        delivery: &NewDelivery,
        retention: Duration,
    ) -> impl Future<Output = Result<Acceptance, StoreError>> + Send;

    /// Leases at most `limit` deliveries for the time `time`: those that are READY and due, and those LEASED whose lease has
    /// run out, the longest due first. Each lease counts as an attempt, and has a token larger than all before it on this
    /// delivery. Those whose lease had run out are [marked](Leased::after_a_lease_that_ran_out).
    ///
    /// A delivery whose lease has run out after `max_attempts` attempts is buried in place of being leased: whoever leased it
    /// died of it. One that is READY is leased however many attempts it has.
    ///
    /// A delivery with [ordering keys](NewDelivery::ordering_keys) waits while any with a smaller id that has one of these keys
    /// is READY, due or not, or LEASED; and while any with a larger id that has one is LEASED and its time is not up, as it may be
    /// when the first was dead before. So no two that share a key are ever leased at once, also across processes.
    fn lease(
        &self,
        limit: u32,
        time: Duration,
        max_attempts: u32,
    ) -> impl Future<Output = Result<Vec<Leased>, StoreError>> + Send;

    /// Has a lease last for the time `time` from now on. `false`, and no change, when its time is up, or it is not held any more.
    fn extend(&self, lease: &Lease, time: Duration) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// The delivery was handled: deletes it with its body, or keeps it as DONE for the time `keep` unless that is zero. `false`,
    /// and no change, when the lease is not held any more, or the delivery is finished already.
    fn finish(&self, lease: &Lease, keep: Duration) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// The attempt failed, for `reason`: READY again, due after the time `pause`. `false`, and no change, when the lease is not
    /// held any more.
    fn postpone(
        &self,
        lease: &Lease,
        pause: Duration,
        reason: &str,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// No attempt is to be made any more, for `reason`: DEAD. `false`, and no change, when the lease is not held any more.
    fn bury(&self, lease: &Lease, reason: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// There was no attempt after all: READY again, due at once, with one attempt less. `false`, and no change, when the lease
    /// is not held any more.
    fn give_back(&self, lease: &Lease) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// How many there are.
    fn counts(&self) -> impl Future<Output = Result<Counts, StoreError>> + Send;

    /// How many are READY or LEASED, or `limit` if there are more: for a store that cannot count all of them cheaply.
    fn backlog(&self, limit: u64) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// The DEAD ones with an id larger than `after`, `limit` of them at most, the smallest first, without their bodies.
    fn dead(
        &self,
        after: Option<DeliveryId>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Entry>, StoreError>> + Send;

    /// One delivery in any state, with its body if that is still there.
    fn show(&self, id: DeliveryId) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send;

    /// A DEAD one is READY again, at once, without attempts, in its old place among those that share its ordering keys. `false`,
    /// and no change, when there is no DEAD one of this id.
    fn retry(&self, id: DeliveryId) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Deletes what is DEAD or DONE of this event, conflicts included, and the ledger rows of this event, so that it is accepted
    /// when it comes again. How many keys were forgotten: a delivery and its ledger row have one.
    ///
    /// What is READY or LEASED stays, and so does its ledger row: it is going to be handled, and its copy is a duplicate.
    fn forget_event(&self, event: &EventKey) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// The same for every key whose delivery was accepted, or whose ledger row (its time not being up) was claimed, in this time, whoever's it is. How
    /// many there were.
    fn forget_accepted(&self, window: Range<SystemTime>) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes at most `limit` that are DONE and whose time is up. How many there were.
    fn purge_done(&self, limit: u32) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// The reason of a delivery that is dead because its worker has died of it, in this crate's own stores.
pub(crate) const RAN_OUT: &str = "its lease ran out on its last attempt";

/// What became of a delivery that was to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Acceptance {
    /// It is stored now.
    Accepted,
    /// It had been given up, and is to be handled anew.
    Revived,
    /// Its key is known.
    Known {
        /// Of the body under that key.
        digest: BodyDigest,
    },
    /// A [`KlikitDedupeLayer`](crate::dedupe::KlikitDedupeLayer) on the same store is handling it.
    InFlight {
        /// Of the body that is being handled.
        digest: BodyDigest,
        /// How much longer its claim lasts, unless it is renewed.
        remaining: Duration,
    },
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

macro_rules! object_safe_twin {
    ($(fn $name:ident(&'a self $(, $argument:ident: $type:ty)*) -> $output:ty;)*) => {
        /// [`InboxStore`], callable without knowing the store.
        pub(super) trait DynInboxStore: Send + Sync {
            $(fn $name<'a>(&'a self $(, $argument: $type)*) -> Boxed<'a, $output>;)*
        }

        impl<T: InboxStore> DynInboxStore for T {
            $(fn $name<'a>(&'a self $(, $argument: $type)*) -> Boxed<'a, $output> {
                Box::pin(InboxStore::$name(self $(, $argument)*))
            })*
        }
    };
}

object_safe_twin! {
    fn accept(&'a self, delivery: &'a NewDelivery, retention: Duration) -> Acceptance;
    fn lease(&'a self, limit: u32, time: Duration, max_attempts: u32) -> Vec<Leased>;
    fn extend(&'a self, lease: &'a Lease, time: Duration) -> bool;
    fn finish(&'a self, lease: &'a Lease, keep: Duration) -> bool;
    fn postpone(&'a self, lease: &'a Lease, pause: Duration, reason: &'a str) -> bool;
    fn bury(&'a self, lease: &'a Lease, reason: &'a str) -> bool;
    fn give_back(&'a self, lease: &'a Lease) -> bool;
    fn counts(&'a self) -> Counts;
    fn backlog(&'a self, limit: u64) -> u64;
    fn dead(&'a self, after: Option<DeliveryId>, limit: u32) -> Vec<Entry>;
    fn show(&'a self, id: DeliveryId) -> Option<Entry>;
    fn retry(&'a self, id: DeliveryId) -> bool;
    fn forget_event(&'a self, event: &'a EventKey) -> u64;
    fn forget_accepted(&'a self, window: Range<SystemTime>) -> u64;
    fn purge_done(&'a self, limit: u32) -> u64;
}

/// Shared by acceptors and workers.
pub(super) type SharedStore = Arc<dyn DynInboxStore>;

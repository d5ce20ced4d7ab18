//! The interface of a store of accepted deliveries.
//!
//! ```text
//!  accept ▶ READY ──lease──▶ LEASED ──Done──▶ gone, or DONE while handled deliveries are kept ─ purge_done, evict_done ▶ gone
//!            ▲  ▲             │ │ └─ DeadLetter, or lease expired on the last attempt ─▶ DEAD ─ purge_dead ▶ gone
//!            │  └ Reschedule ─┘ │                                 retry, or accepted again │
//!            ├── Release ───────┘                                                          │
//!            ├── lease expired: can be leased again without anybody's doing                │
//!            └─────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    delivery::{Lease, Leased, NewDelivery},
    entry::{Counts, DeliveryId},
};
use crate::{
    dedupe::{BodyDigest, StoreError},
    object_safe::object_safe_twin,
};

/// A store that keeps accepted deliveries until they are handled: what acceptors and workers need.
///
/// # Rules
///
/// - Every call is atomic, and all clones and processes that share the store see one order of calls. Changes are on
///   stable storage when a call returns.
/// - Times are measured by the store's own clock: the database's clock where there is one.
/// - A store that does not know whether a call took effect returns an error. klikit then sends the delivery again, or
///   the worker repeats the call, and nothing is lost.
/// - **The token decides, not the time.** A lease belongs to its worker until another worker leases the delivery, even
///   after the lease has expired. Until then the worker can extend the lease and settle the delivery.
/// - A delivery's ledger row is the one of the store's [`Ledger`](crate::dedupe::Ledger): what a
///   [`KlikitDedupeLayer`](crate::dedupe::KlikitDedupeLayer) on the same store has handled is a duplicate here, and the
///   other way round.
/// - A row that cannot be read concerns its own delivery alone: see [`LeaseBatch`].
/// - **A store is trusted.** Workers handle what it returns as verified.
///
/// The crate `tower-klikit-store-tests` has the suite that every store passes.
pub trait InboxStore: Send + Sync + 'static {
    /// Stores a delivery together with its ledger row, which is done from the start and remembered for `retention`.
    ///
    /// In this order:
    ///
    /// 1. The key has a delivery that is READY or LEASED: nothing changes, except that the ledger row is restored with
    ///    the digest of the stored delivery if it is missing or an expired claim. [`Acceptance::Known`].
    /// 2. The key has a DEAD delivery. If the new one [is not the same delivery](NewDelivery::is_same_as), nothing
    ///    changes: [`Acceptance::Known`]. If it is the same and does not [revive](NewDelivery::revives) the dead one,
    ///    nothing changes either: [`Acceptance::Dead`]. Otherwise the dead one is READY again and due now, with no
    ///    attempts and the new request. It keeps its [id](DeliveryId) and its time of acceptance. Its ledger row is done
    ///    for `retention`. [`Acceptance::Revived`].
    /// 3. The ledger row is done: [`Acceptance::Known`]. It is claimed, and the lease of the claim is not over:
    ///    [`Acceptance::InFlight`]. Nothing changes.
    /// 4. Otherwise the delivery is stored as READY and due now, under an id larger than all before it. It replaces a
    ///    DONE delivery of the same key, and its ledger row replaces an expired claim, whose token can then no longer
    ///    complete it. [`Acceptance::Accepted`].
    ///
    /// Accepting a delivery again with the same claim, as after a lost answer, returns `Known` with its own digest.
    fn accept(
        &self,
        delivery: &NewDelivery,
        retention: Duration,
    ) -> impl Future<Output = Result<Acceptance, StoreError>> + Send;

    /// Leases up to `request.limit` deliveries for `request.duration`, longest due first. Candidates are READY
    /// deliveries that are due, and LEASED deliveries whose lease has expired. The token of a lease is larger than all
    /// earlier tokens of the delivery.
    ///
    /// - The first `request.free_handlers` of the deliveries start at once, and the others are leased ahead of need. A
    ///   READY delivery among the first counts its attempt now, unless that would be its last one, and is
    ///   [marked](Leased::with_attempt_counted). All others count their attempts by [`start`](Self::start), so that a
    ///   worker that dies costs no attempt of a delivery that it has not started.
    /// - A delivery whose lease has expired, or that has had all its attempts, is leased for a free handler only: it is
    ///   left out of those ahead of need, and uses up the limit. Then the worker soon asks for a free handler.
    /// - A lease in `request.held` never counts as expired: its delivery is not a candidate, is not dead-lettered, and
    ///   blocks its ordering keys. If such a lease has expired and is still its delivery's own, the store first extends
    ///   it to `request.duration` from now.
    /// - A lease in `request.held` that is not its delivery's own any more, because another worker has leased the
    ///   delivery since or klikit has sent it again, protects nothing: the delivery is a candidate like any other. But
    ///   it counts no attempt, and [`Lease::attempt`] is the number of attempts so far, because its handler, which this
    ///   process is still running, takes the new lease over.
    /// - A lease in `request.held` may be its delivery's own although the delivery is READY, as while the answer to its
    ///   settlement is lost. A store may leave such a delivery out, or lease it in the same way, without counting an
    ///   attempt.
    /// - A delivery whose lease expired after `request.max_attempts` attempts is dead-lettered instead of being leased,
    ///   because every worker that took it died. [`LeaseBatch::dead_lettered`] reports it. A READY delivery is leased
    ///   after any number of attempts.
    /// - A delivery with [ordering keys](NewDelivery::ordering_keys) is blocked while a delivery with a smaller id that
    ///   shares one of the keys is READY, due or not, or LEASED. It is also blocked while one with a larger id that
    ///   shares a key is LEASED and its lease has not expired, as it can be after a dead delivery was retried. So no
    ///   two deliveries that share a key are leased to unexpired leases, also across processes.
    /// - A delivery that was leased before and whose lease expired is [marked](Leased::after_expired_lease).
    fn lease(&self, request: &LeaseRequest<'_>) -> impl Future<Output = Result<LeaseBatch, StoreError>> + Send;

    /// Counts the attempts of these leases, whose handlers are about to start: a delivery gets as many attempts as
    /// [`Lease::attempt`] says, unless it has more already. Returns one value for each lease, in the same order:
    /// `false`, and no change, if the delivery is not LEASED with this token any more.
    ///
    /// An error leaves it open which attempts were counted. Repeating the call is harmless. The counts must outlast the
    /// calling process, but may be lost together with the store's machine.
    fn start(&self, leases: &[Lease]) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Extends these leases to `duration` from now, expired or not. Returns one value for each lease, in the same
    /// order: `false`, and no change, if the delivery is not LEASED with this token any more.
    ///
    /// An error leaves it open which leases were extended.
    fn extend(
        &self,
        leases: &[Lease],
        duration: Duration,
    ) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Records how attempts ended. Returns one value for each settlement, in the same order.
    ///
    /// A settlement applies if the delivery's token is still the lease's: also after the lease has expired, and also
    /// after [`lease`](Self::lease) has dead-lettered the delivery, because then its handler was running all the while.
    /// It also applies to a dead delivery that was [retried](super::InboxAdmin::retry) and not leased since. A delivery
    /// that was dead is then back in its old place among those that share its ordering keys, unless it stays DEAD.
    ///
    /// A delivery that is DEAD for any [reason](DeadLettered::reason) other than [`LEASE_EXPIRED`], as after an operator
    /// has [dead-lettered](super::InboxAdmin::dead_letter) it, stays DEAD after a failure or a release, and the outcome
    /// is `Settled`. A success counts.
    ///
    /// Repeating a settlement, as after a lost answer, is harmless: a delivery that is DONE stays as it is. Callers pass
    /// each lease once.
    ///
    /// An error leaves it open which settlements were recorded.
    fn settle(
        &self,
        settlements: &[(Lease, Settlement)],
    ) -> impl Future<Output = Result<Vec<SettleOutcome>, StoreError>> + Send;

    /// Counts the READY and LEASED deliveries, up to `limit`: for stores that cannot count all of them cheaply.
    fn backlog(&self, limit: u64) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Counts the deliveries in each state.
    fn counts(&self) -> impl Future<Output = Result<Counts, StoreError>> + Send;

    /// Deletes up to `limit` DONE deliveries that were kept and whose time is over. Returns how many were deleted.
    fn purge_done(&self, limit: u32) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Counts the deliveries in all states, up to `limit`: for stores that cannot count all of them cheaply.
    fn stored(&self, limit: u64) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes up to `limit` DONE deliveries with their bodies, those whose time ends soonest first, whether their time
    /// is over or not. Their ledger rows stay, so that copies are still duplicates. Returns how many were deleted.
    fn evict_done(&self, limit: u32) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes up to `limit` DEAD deliveries that were accepted at least `age` ago with their bodies, smallest id
    /// first. Their ledger rows stay, so that copies are duplicates. Returns how many were deleted.
    ///
    /// Ids grow with the time of acceptance, so a store may stop at the first DEAD delivery that is younger.
    fn purge_dead(&self, age: Duration, limit: u32) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Returns how many deliveries a [worker](super::Worker::prefetch) leases ahead of need by default, at most. The
    /// provided method returns 0, which suits a store whose calls take microseconds.
    fn prefetch(&self) -> usize {
        0
    }
}

/// A request for deliveries to handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the tests of a store make their own")]
pub struct LeaseRequest<'a> {
    /// How many deliveries to lease at most.
    pub limit: u32,
    /// How many of them would start at once, because a handler is free.
    pub free_handlers: u32,
    /// How long each lease lasts.
    pub duration: Duration,
    /// After how many attempts a delivery whose lease expired is dead-lettered.
    pub max_attempts: u32,
    /// The leases whose handlers this process is still running.
    pub held: &'a [Lease],
}

/// The outcome of [`InboxStore::lease`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct LeaseBatch {
    /// The deliveries to handle, longest due first.
    pub leased: Vec<Leased>,
    /// The deliveries that this call dead-lettered: their lease expired on the last attempt, or they cannot be read.
    pub dead_lettered: Vec<DeadLettered>,
    /// The deliveries that can be neither read nor dead-lettered, as on a damaged page. Each call may report them
    /// again.
    pub unreadable: Vec<Unreadable>,
}

impl LeaseBatch {
    /// A batch of deliveries to handle, with nothing else to report.
    pub fn new(leased: Vec<Leased>) -> Self {
        Self { leased, ..Self::default() }
    }
}

/// A delivery that [`InboxStore::lease`] has dead-lettered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "stores make their own")]
pub struct DeadLettered {
    /// The delivery.
    pub id: DeliveryId,
    /// How many attempts it had.
    pub attempts: u32,
    /// The [head](NewDelivery::head), if it can be read.
    pub head: Option<String>,
    /// Why it was dead-lettered: [`LEASE_EXPIRED`], or what cannot be read.
    pub reason: String,
}

/// A delivery that a store could not read.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "stores make their own")]
pub struct Unreadable {
    /// The delivery.
    pub id: DeliveryId,
    /// The cause.
    pub error: StoreError,
}

/// The reason of a delivery that was dead-lettered because its lease expired on the last attempt.
pub const LEASE_EXPIRED: &str = "the lease expired on the last attempt: its worker died, or lost the store";

/// How an attempt ended, and what becomes of the delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a store that does not know an outcome could not record it")]
pub enum Settlement {
    /// It was handled. The delivery is deleted with its body, or kept as DONE for `keep` unless that is zero.
    Done {
        /// How long to keep the delivery.
        keep: Duration,
    },
    /// The attempt failed. The delivery is READY again and due after `delay`.
    Reschedule {
        /// How long until the next attempt.
        delay: Duration,
        /// Why the attempt failed.
        reason: String,
        /// Whether the delivery loses its ordering keys, so that later deliveries no longer wait for it.
        unordered: bool,
    },
    /// No further attempt is made. The delivery is DEAD.
    DeadLetter {
        /// Why.
        reason: String,
    },
    /// The attempt does not count, as when a worker stops: the delivery has no more attempts than before this one. It
    /// is READY again and due now. Changes nothing if the delivery is READY already.
    Release,
}

/// Whether a [`Settlement`] was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a worker must handle each")]
pub enum SettleOutcome {
    /// The settlement is recorded.
    Settled,
    /// The delivery is not in the inbox any more: it was settled before, by a call whose answer was lost or in the
    /// handler's own transaction, or somebody forgot it.
    Gone,
    /// Another worker has leased the delivery since, or klikit has sent it again. Nothing was changed.
    Superseded,
}

/// The outcome of [`InboxStore::accept`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Acceptance {
    /// The delivery is stored.
    Accepted,
    /// The delivery had been dead-lettered and is pending again.
    Revived,
    /// The delivery is dead-lettered, and the new one does not [revive](NewDelivery::revives) it.
    Dead {
        /// The stored [head](NewDelivery::head), if it can be read.
        head: Option<String>,
    },
    /// The key is known.
    Known {
        /// The digest of the body under that key.
        digest: BodyDigest,
        /// The body under that key, if it is still stored and the new delivery is [not the
        /// same](NewDelivery::is_same_as): by it the acceptor tells whether only the JSON was written anew.
        body: Option<Bytes>,
    },
    /// A [`KlikitDedupeLayer`](crate::dedupe::KlikitDedupeLayer) on the same store is handling the delivery.
    InFlight {
        /// The digest of the body that is being handled.
        digest: BodyDigest,
        /// How much longer the claim is exclusive, unless it is renewed.
        remaining: Duration,
    },
}

object_safe_twin! {
    /// [`InboxStore`], callable without knowing the store's type.
    pub(super) trait DynInboxStore: InboxStore {
        plain fn prefetch() -> usize;
        fn accept(&'a self, delivery: &'a NewDelivery, retention: Duration) -> Acceptance;
        fn lease(&'a self, request: &'a LeaseRequest<'a>) -> LeaseBatch;
        fn start(&'a self, leases: &'a [Lease]) -> Vec<bool>;
        fn extend(&'a self, leases: &'a [Lease], duration: Duration) -> Vec<bool>;
        fn settle(&'a self, settlements: &'a [(Lease, Settlement)]) -> Vec<SettleOutcome>;
        fn backlog(&'a self, limit: u64) -> u64;
        fn counts(&'a self) -> Counts;
        fn purge_done(&'a self, limit: u32) -> u64;
        fn stored(&'a self, limit: u64) -> u64;
        fn evict_done(&'a self, limit: u32) -> u64;
        fn purge_dead(&'a self, age: Duration, limit: u32) -> u64;
    }
}

/// The store that acceptors and workers share.
pub(super) type SharedStore = Arc<dyn DynInboxStore>;

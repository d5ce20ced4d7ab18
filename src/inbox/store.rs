//! The interface of a store of accepted deliveries.
//!
//! ```text
//!  accept ▶ READY ──lease──▶ LEASED ──Done──▶ gone, or DONE if kept ── purge_done, evict_done ▶ gone
//!            ▲  ▲             │ │ └─ DeadLetter, Expire, or ▶ DEAD ── purge_dead ▶ gone
//!            │  └ Reschedule ─┘ │    last lease expired        │
//!            ├── Release ───────┘                              │
//!            ├── lease expired: can be leased again            │
//!            └───────────────────── requeue, or accepted again ┘
//! ```

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    delivery::{Lease, Leased, NewDelivery},
    entry::{Counts, DeliveryId},
    settlement::{SettleOutcome, Settlement},
};
use crate::{
    dedupe::{BodyDigest, StoreError},
    object_safe::object_safe_trait,
};

/// A store that keeps accepted deliveries until they are handled. Acceptors and workers use this interface.
///
/// # Rules
///
/// - Every call is atomic, and all clones and processes that share the store see the same order of calls. Changes are
///   durable when a call returns.
/// - Times are measured by the store's own clock: the database's clock where there is one.
/// - A store that does not know whether a call took effect returns an error. klikit then sends the delivery again, or
///   the worker repeats the call, and nothing is lost.
/// - **The token decides, not the time.** A lease belongs to its worker until another worker leases the delivery, even
///   after the lease has expired. Until then the worker can extend the lease and settle the delivery.
/// - The inbox and the store's [`Ledger`](crate::dedupe::Ledger) share ledger rows. A delivery that a
///   [`KlikitDedupeLayer`](crate::dedupe::KlikitDedupeLayer) on the same store has handled is a duplicate here, and
///   vice versa.
/// - A row that cannot be read does not affect other deliveries: see [`LeaseBatch`].
/// - **The store is trusted.** Workers treat the deliveries that it returns as verified.
///
/// # Records of attempts
///
/// The store keeps an [`AttemptRecord`](super::AttemptRecord) of each attempt for as long as the delivery is stored:
///
/// - An attempt **starts** when [`lease`](Self::lease) counts it, or else when [`start`](Self::start) is called for its
///   lease. It is then *open*, with a start time and the name of its worker. An attempt that is open already stays as
///   it is: a handler that takes over a lease in `request.held` continues its attempt.
/// - [`settle`](Self::settle) **ends** an open attempt, and records the end time, the status and the reason. That
///   applies also to a failure that [leaves](Settlement::leaves_dead) a dead letter as it is. A settlement that takes
///   the attempt off leaves no record.
/// - An open attempt **ends unknown** if its delivery is leased for another attempt, or is dead-lettered because its
///   lease expired. Its record then has no end time. Its reason is [`OUTCOME_UNKNOWN`](super::OUTCOME_UNKNOWN), and its
///   number is the delivery's number of attempts, at least 1. If the attempt of such a dead letter is settled
///   afterwards, the outcome replaces that record.
/// - No other call changes records. They are deleted with the delivery.
///
/// The crate `tower-klikit-store-tests` has a test suite for stores.
pub trait InboxStore: Send + Sync + 'static {
    /// Stores a delivery together with its ledger row, which is done from the start and remembered for `retention`.
    ///
    /// The first rule that applies decides:
    ///
    /// 1. The key has a delivery that is READY or LEASED: returns [`Acceptance::Known`] and changes nothing, with one
    ///    exception. If the ledger row is missing or is an expired claim, it is restored with the digest of the stored
    ///    delivery.
    /// 2. The key has a DEAD delivery:
    ///    - If the new delivery [is not the same](NewDelivery::is_same_as), returns [`Acceptance::Known`] and changes
    ///      nothing.
    ///    - If it is the same and does not [revive](NewDelivery::revives) the dead letter, returns [`Acceptance::Dead`]
    ///      and changes nothing.
    ///    - Otherwise returns [`Acceptance::Revived`]. The dead letter is READY again and due now, with no attempts and
    ///      the new request. It keeps its [id](DeliveryId) and its time of acceptance. Its ledger row is done for
    ///      `retention`.
    /// 3. The ledger row is done: returns [`Acceptance::Known`] and changes nothing.
    /// 4. The ledger row is a claim whose lease has not expired: returns [`Acceptance::InFlight`] and changes nothing.
    /// 5. Otherwise returns [`Acceptance::Accepted`]. The delivery is stored as READY and due now, with an id larger
    ///    than all earlier ids. It replaces a DONE delivery of the same key. Its ledger row replaces an expired claim,
    ///    whose token can then no longer complete the row.
    ///
    /// Accepting a delivery again with the same claim, as after a lost response of the store, returns `Known` with the
    /// delivery's own digest.
    fn accept(
        &self,
        delivery: &NewDelivery,
        retention: Duration,
    ) -> impl Future<Output = Result<Acceptance, StoreError>> + Send;

    /// Leases up to `request.limit` deliveries for `request.duration`. Candidates are READY deliveries that are due,
    /// and LEASED deliveries whose lease has expired, unless they are [paused](super::InboxAdmin::pause). The token of
    /// a lease is larger than all earlier tokens of the delivery.
    ///
    /// Tenants share the leases, so that the backlog of one does not delay the deliveries of another:
    ///
    /// - The candidates of one tenant are leased longest due first.
    /// - The rank of a candidate is the number of `request.held` deliveries of its tenant plus the number of candidates
    ///   of its tenant that come before it. A smaller rank is leased first.
    /// - Among candidates of equal rank, the order of the tenants is drawn at random for each call. So a tenant gets
    ///   its turn even if each call leases one delivery.
    ///
    /// Attempts:
    ///
    /// - The first `request.free_handlers` deliveries start at once. The others are prefetched: they wait in the worker
    ///   for a free handler.
    /// - A READY delivery that starts at once counts its attempt now and is [marked](Leased::with_attempt_counted),
    ///   unless the attempt is its last one. All other deliveries count their attempts by [`start`](Self::start). So a
    ///   worker that crashes costs no attempt of a delivery that it has not started.
    /// - A delivery whose lease has expired, or that has had all its attempts, is leased only to start at once. If only
    ///   prefetching is left, it is skipped but counts against the limit, so that the worker soon asks again with a
    ///   free handler.
    /// - A delivery whose lease expired after `request.max_attempts` attempts is dead-lettered instead of being leased,
    ///   because every worker that took it crashed. [`LeaseBatch::dead_lettered`] reports it. A READY delivery is
    ///   leased after any number of attempts.
    /// - A delivery whose previous lease expired is [marked](Leased::after_expired_lease).
    ///
    /// Each leased delivery has its [age](Leased::with_age). A delivery whose reason is [`EXPIRED`](super::EXPIRED) is
    /// [marked](Leased::after_expiry): it was a dead letter, and was retried although it had expired.
    ///
    /// Ordering:
    ///
    /// - A delivery is blocked while a delivery with a smaller id that shares one of its [ordering
    ///   keys](NewDelivery::ordering_keys) is READY (due or not) or LEASED.
    /// - After a dead letter is retried, a delivery with a larger id that shares a key may be LEASED already. It blocks
    ///   the retried delivery until its lease expires. So two deliveries that share a key never have unexpired leases
    ///   at the same time, even in different processes.
    ///
    /// Leases in `request.held`, whose handlers the calling process is still running:
    ///
    /// - If the lease is still the delivery's latest, it never counts as expired. The delivery is not a candidate, is
    ///   not dead-lettered, and blocks its ordering keys. If the lease has expired, the store first extends it to
    ///   `request.duration` from now.
    /// - If another worker has leased the delivery since, or klikit has sent it again, the delivery is a candidate like
    ///   any other. The running handler then takes over the new lease, so that lease counts no attempt: its
    ///   [`Lease::attempt`] is the number of attempts so far.
    /// - The lease may be the latest one although the delivery is READY, as while the response to its settlement is
    ///   lost. A store may skip such a delivery, or lease it without counting an attempt.
    fn lease(&self, request: &LeaseRequest<'_>) -> impl Future<Output = Result<LeaseBatch, StoreError>> + Send;

    /// Counts the attempts of these leases, whose handlers are about to start. Sets the delivery's number of attempts
    /// to [`Lease::attempt`], unless it is higher already. Opens the [record](#records-of-attempts) of the attempt,
    /// with the name of the `worker`.
    ///
    /// Returns one value for each lease, in the same order: `false`, and no change, if the delivery is no longer LEASED
    /// with this token.
    ///
    /// After an error, any of the attempts may have been counted. Repeating the call is harmless. The counts must
    /// survive a crash of the calling process, but may be lost if the store's machine fails.
    fn start(&self, leases: &[Lease], worker: &str) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Extends these leases to `duration` from now, even if they have expired. Returns one value for each lease, in the
    /// same order: `false`, and no change, if the delivery is no longer LEASED with this token.
    ///
    /// After an error, any of the leases may have been extended.
    fn extend(
        &self,
        leases: &[Lease],
        duration: Duration,
    ) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Records the outcomes of attempts. Returns one value for each settlement, in the same order.
    ///
    /// A settlement applies while the lease's token is the delivery's latest token:
    ///
    /// - It applies after the lease has expired, also if the delivery was dead-lettered for that reason. If the
    ///   settlement makes a dead letter READY again, the delivery returns to its old place among the deliveries that
    ///   share its ordering keys.
    /// - A failure or a release [leaves](Settlement::leaves_dead) a delivery that is DEAD for another reason, as after
    ///   an operator has [dead-lettered](super::InboxAdmin::dead_letter) it. The outcome is `Settled`. A success
    ///   counts.
    /// - A DONE delivery stays unchanged, so repeating a settlement, as after a lost response, is harmless. Callers
    ///   pass each lease once.
    ///
    /// After an error, any of the settlements may have been recorded.
    fn settle(
        &self,
        settlements: &[(Lease, Settlement)],
    ) -> impl Future<Output = Result<Vec<SettleOutcome>, StoreError>> + Send;

    /// Counts the READY and LEASED deliveries, but no further than `limit`. Counting all of them may be expensive.
    fn backlog(&self, limit: u64) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Counts the deliveries in each state.
    fn counts(&self) -> impl Future<Output = Result<Counts, StoreError>> + Send;

    /// Deletes up to `limit` DONE deliveries whose time to be kept is over. If the [history](Settlement::Done) of such
    /// a delivery is kept for longer, deletes the body alone. Returns the number of deliveries that it deleted or whose
    /// body it deleted.
    fn purge_done(&self, limit: u32) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Counts the deliveries in all states, but no further than `limit`. Counting all of them may be expensive.
    fn stored(&self, limit: u64) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes up to `limit` DONE deliveries with their bodies, even if their time to be kept is not over. Deletes
    /// first the deliveries whose time ends first. Their ledger rows stay, so copies are still duplicates. Returns the
    /// number of deleted deliveries.
    fn evict_done(&self, limit: u32) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes up to `limit` DEAD deliveries that were accepted at least `age` ago, with their bodies, smallest id
    /// first. Their ledger rows stay, so copies are still duplicates. Returns the number of deleted deliveries.
    ///
    /// Ids grow with the time of acceptance, so a store may stop at the first DEAD delivery that is younger.
    fn purge_dead(&self, age: Duration, limit: u32) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Returns the default maximum number of deliveries that a worker [prefetches](super::Worker::prefetch). The
    /// provided method returns 0, which suits a store whose calls take microseconds.
    fn prefetch(&self) -> usize {
        0
    }
}

/// A request for deliveries to handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the tests of a store make their own")]
pub struct LeaseRequest<'a> {
    /// The maximum number of deliveries to lease.
    pub limit: u32,
    /// The number of free handlers: so many deliveries start at once.
    pub free_handlers: u32,
    /// The duration of each lease.
    pub duration: Duration,
    /// The number of attempts after which a delivery whose lease expired is dead-lettered.
    pub max_attempts: u32,
    /// The leases whose handlers this process is still running.
    pub held: &'a [Lease],
    /// The name of the worker, for the [records of attempts](InboxStore#records-of-attempts).
    pub worker: &'a str,
}

/// The outcome of [`InboxStore::lease`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct LeaseBatch {
    /// The deliveries to handle, in the order in which they were chosen: see [`InboxStore::lease`].
    pub leased: Vec<Leased>,
    /// The deliveries that this call dead-lettered: their lease expired on the last attempt, or they cannot be read.
    pub dead_lettered: Vec<DeadLettered>,
    /// The deliveries that can neither be read nor dead-lettered, as on a damaged page. Each call may report them
    /// again.
    pub unreadable: Vec<Unreadable>,
}

impl LeaseBatch {
    /// Creates a batch of deliveries to handle, with nothing else to report.
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
    /// The number of attempts.
    pub attempts: u32,
    /// The [head](NewDelivery::head), if it can be read.
    pub head: Option<String>,
    /// The reason: [`LEASE_EXPIRED`](super::LEASE_EXPIRED), or the part of the delivery that cannot be read.
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

/// The outcome of [`InboxStore::accept`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Acceptance {
    /// The delivery is stored.
    Accepted,
    /// The delivery was a dead letter and is pending again.
    Revived,
    /// The delivery is a dead letter, and the new one does not [revive](NewDelivery::revives) it.
    Dead {
        /// The stored [head](NewDelivery::head), if it can be read.
        head: Option<String>,
    },
    /// The key is known.
    Known {
        /// The digest of the body under that key.
        digest: BodyDigest,
        /// The body under that key, if it is still stored and the new delivery is [not the
        /// same](NewDelivery::is_same_as). The acceptor compares the JSON of both bodies.
        body: Option<Bytes>,
    },
    /// A [`KlikitDedupeLayer`](crate::dedupe::KlikitDedupeLayer) on the same store is handling the delivery.
    InFlight {
        /// The digest of the body that is being handled.
        digest: BodyDigest,
        /// The time for which the claim stays exclusive, unless it is renewed.
        remaining: Duration,
    },
}

object_safe_trait! {
    /// An object-safe [`InboxStore`].
    pub(super) trait DynInboxStore: InboxStore {
        plain fn prefetch() -> usize;
        fn accept(&'a self, delivery: &'a NewDelivery, retention: Duration) -> Acceptance;
        fn lease(&'a self, request: &'a LeaseRequest<'a>) -> LeaseBatch;
        fn start(&'a self, leases: &'a [Lease], worker: &'a str) -> Vec<bool>;
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

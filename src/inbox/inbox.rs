use std::{fmt, sync::Arc, time::Duration};

use super::{
    acceptor::Acceptor,
    admin::{InboxAdmin, SharedAdmin},
    capacity::Capacity,
    config::InboxConfig,
    ordering::OrderBy,
    store::InboxStore,
    worker::Worker,
};
use crate::dedupe::{ConflictPolicy, DedupePolicy, Identity, KlikitDedupeLayer, ReplayLimit};

/// A durable inbox: see the [module](super) for the rules.
///
/// Clones share the store. Change the settings before making [acceptors](Self::acceptor) and [workers](Self::worker).
#[derive(Clone)]
pub struct Inbox {
    pub(super) config: Arc<InboxConfig>,
    pub(super) admin: SharedAdmin,
    capacity: Arc<Capacity>,
}

// The documentation shows the values of literals only.
const _: () = assert!(Inbox::DEFAULT_REPLAY_IDS == KlikitDedupeLayer::DEFAULT_REPLAY_IDS);

impl Inbox {
    /// The default [`retention`](Self::retention): 35 days. klikit's retries span 31 hours, its replays about 30 days.
    pub const DEFAULT_RETENTION: Duration = KlikitDedupeLayer::DEFAULT_RETENTION;

    /// The default [`accept_deadline`](Self::accept_deadline): 2 seconds.
    pub const DEFAULT_ACCEPT_DEADLINE: Duration = Duration::from_secs(2);

    /// The default [`max_backlog`](Self::max_backlog): 100,000 deliveries.
    pub const DEFAULT_MAX_BACKLOG: u64 = 100_000;

    /// The default [`max_stored`](Self::max_stored): 1,000,000 deliveries.
    pub const DEFAULT_MAX_STORED: u64 = 1_000_000;

    /// The default [`replay_limit`](Self::replay_limit): 16 event ids for one body.
    pub const DEFAULT_REPLAY_IDS: u16 = 16;

    /// The default window of the [`replay_limit`](Self::replay_limit): an hour.
    pub const DEFAULT_REPLAY_WINDOW: Duration = KlikitDedupeLayer::DEFAULT_REPLAY_WINDOW;

    /// Creates an inbox that keeps deliveries in `store`.
    ///
    /// # Panics
    ///
    /// Panics if the system has no source of random bytes.
    pub fn new(store: impl InboxStore + InboxAdmin) -> Self {
        let store = Arc::new(store);
        let config = InboxConfig {
            store: Arc::clone(&store) as _,
            policy: DedupePolicy::new(),
            retention: Self::DEFAULT_RETENTION,
            accept_deadline: Self::DEFAULT_ACCEPT_DEADLINE,
            max_backlog: Self::DEFAULT_MAX_BACKLOG,
            max_stored: Self::DEFAULT_MAX_STORED,
            order_by: OrderBy::default(),
            keep_bodies: Duration::ZERO,
            keep_history: Duration::ZERO,
            keep_dead_letters: None,
            wake: Arc::default(),
            running: Arc::default(),
            vitals: Arc::default(),
        };
        Self { config: Arc::new(config), admin: store, capacity: Arc::default() }
    }

    /// Sets the time for which an accepted delivery is remembered, so that its copies are duplicates. Default:
    /// [35 days](Self::DEFAULT_RETENTION).
    #[must_use]
    pub fn retention(self, time: Duration) -> Self {
        self.with(|config| config.retention = time)
    }

    /// Sets the time limit for the store to accept a delivery. Default: [2 seconds](Self::DEFAULT_ACCEPT_DEADLINE). At
    /// the limit, the acceptor responds with 503. If the store has stored the delivery nevertheless, klikit's next
    /// attempt is a duplicate.
    #[must_use]
    pub fn accept_deadline(self, time: Duration) -> Self {
        self.with(|config| config.accept_deadline = time)
    }

    /// Sets the maximum number of unfinished deliveries, ready or leased. Default:
    /// [100,000](Self::DEFAULT_MAX_BACKLOG). At the limit, the acceptor responds with 503, to copies of known
    /// deliveries too, and klikit sends the deliveries again.
    ///
    /// The backlog is counted once a second, so processes that share a store may exceed the limit slightly.
    #[must_use]
    pub fn max_backlog(self, deliveries: u64) -> Self {
        self.with(|config| config.max_backlog = deliveries)
    }

    /// Sets the maximum number of stored deliveries: unfinished, dead and [kept](Self::keep_bodies). Default:
    /// [1,000,000](Self::DEFAULT_MAX_STORED). It must not be below [`max_backlog`](Self::max_backlog).
    ///
    /// At the limit, kept deliveries are deleted, those first whose time to be kept ends first. Their copies are still
    /// duplicates. If there are no kept deliveries, the acceptor responds with 503, to copies of known deliveries too,
    /// and klikit sends the deliveries again. Dead letters are never deleted to make space:
    /// [retry](super::Operator::retry) or [purge](super::Operator::purge) them, or limit their age by
    /// [`keep_dead_letters`](Self::keep_dead_letters).
    ///
    /// A warning is logged when 80 % of the limit is reached, and again only after the number has fallen below. With
    /// the feature `metrics`, the gauge `klikit_inbox_stored_ratio` reports the share. Deliveries are counted every 10
    /// seconds while new ones are accepted, and before one is rejected. So processes that share a store may exceed the
    /// limit slightly.
    #[must_use]
    pub fn max_stored(self, deliveries: u64) -> Self {
        self.with(|config| config.max_stored = deliveries)
    }

    /// Sets the rule for deliveries that are handled one after the other. Default: [no ordering](OrderBy::nothing). The
    /// rule applies to deliveries that are accepted from then on.
    #[must_use]
    pub fn order_by(self, order_by: OrderBy) -> Self {
        self.with(|config| config.order_by = order_by)
    }

    /// Sets the time for which a handled delivery is kept with its body. Default: zero, because bodies contain
    /// customers' data. Kept deliveries are deleted earlier if the inbox holds [`max_stored`](Self::max_stored)
    /// deliveries.
    #[must_use]
    pub fn keep_bodies(self, time: Duration) -> Self {
        self.with(|config| config.keep_bodies = time)
    }

    /// Sets the time for which the [records of attempts](super::Entry::history) of a handled delivery are kept, with
    /// its head and without its body. Default: zero. While the delivery is [kept](Self::keep_bodies) with its body, its
    /// records are kept in any case.
    ///
    /// Each delivery counts towards [`max_stored`](Self::max_stored), and is deleted early at that limit.
    #[must_use]
    pub fn keep_history(self, time: Duration) -> Self {
        self.with(|config| config.keep_history = time)
    }

    /// Sets the age after which dead letters are deleted, from the time of acceptance. Default: dead letters are kept
    /// indefinitely, until an operator retries or forgets them.
    ///
    /// [Workers](Self::worker) delete older dead letters with their bodies once a minute. They log the number as a
    /// warning and, with the feature `metrics`, count the deliveries in `klikit_inbox_dead_letters_expired_total`. The
    /// deliveries are lost: copies are duplicates until the [retention](Self::retention) is over. To have klikit's
    /// replay handled, [forget](super::Operator::forget_event) the delivery first.
    #[must_use]
    pub fn keep_dead_letters(self, time: Duration) -> Self {
        self.with(|config| config.keep_dead_letters = Some(time))
    }

    /// Sets the part of a delivery that identifies it. Default: [`Identity::EventId`].
    #[must_use]
    pub fn identity(self, identity: Identity) -> Self {
        self.with(|config| config.policy.identity = identity)
    }

    /// Sets the treatment of a known id that comes with another body. Default: [`ConflictPolicy::Process`].
    #[must_use]
    pub fn on_conflict(self, policy: ConflictPolicy) -> Self {
        self.with(|config| config.policy.on_conflict = policy)
    }

    /// Sets the number of event ids that one body may come with in a window, in whole seconds. Default:
    /// [16](Self::DEFAULT_REPLAY_IDS) in [an hour](Self::DEFAULT_REPLAY_WINDOW). The highest limit is 1,000. Further
    /// ids get 503: see [Replays](crate::dedupe#replays).
    ///
    /// klikit does not sign the id, so a captured delivery can be sent again with any number of ids. Raise the limit if
    /// klikit itself sends you the same body repeatedly.
    #[must_use]
    pub fn replay_limit(self, ids: u16, window: Duration) -> Self {
        self.with(|config| config.policy.limit_replays(Some(ReplayLimit { ids, window })))
    }

    /// Allows a body to come with any number of event ids, each of which is handled. Copies are still marked.
    #[must_use]
    pub fn allow_unlimited_replays(self) -> Self {
        self.with(|config| config.policy.limit_replays(None))
    }

    /// Sets one scope for the deliveries of all tenants. Default: the name of the keyring that verified the delivery.
    ///
    /// Use it only for tenants whose event ids cannot collide.
    #[must_use]
    pub fn scope(self, name: impl Into<Arc<str>>) -> Self {
        self.with(|config| config.policy.scope = Some(name.into()))
    }

    /// Returns the service that stores deliveries and acknowledges them. Mount it where your handler was, behind
    /// [`KlikitVerifyLayer`](crate::KlikitVerifyLayer).
    pub fn acceptor(&self) -> Acceptor {
        Acceptor::new(Arc::clone(&self.config), Arc::clone(&self.capacity))
    }

    /// Returns a worker that calls `handler` with the stored deliveries. `handler` is the Tower service that you would
    /// mount without an inbox.
    ///
    /// The worker does nothing until it [runs](Worker::run_until). One worker per process is enough, because it handles
    /// [several deliveries](Worker::concurrency) at the same time.
    pub fn worker<S>(&self, handler: S) -> Worker<S> {
        Worker::new(handler, Arc::clone(&self.config))
    }

    fn with(mut self, set: impl FnOnce(&mut InboxConfig)) -> Self {
        set(Arc::make_mut(&mut self.config));
        self
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("config", &self.config).finish()
    }
}

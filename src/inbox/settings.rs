use std::{fmt, sync::Arc, time::Duration};

use super::{
    acceptor::Acceptor, backlog::Backlog, config::Config, ordering::OrderBy, store::InboxStore, worker::Worker,
};
use crate::dedupe::{ConflictPolicy, Identity, KlikitDedupeLayer, Recognition};

/// Stores deliveries, acknowledges them, and has them handled later: see the [module](super) for the rules.
///
/// Clones share the store. Change the settings before [acceptors](Self::acceptor) and [workers](Self::worker) are made.
#[derive(Clone)]
pub struct Inbox {
    pub(super) config: Arc<Config>,
    backlog: Arc<Backlog>,
}

impl Inbox {
    /// The [`retention`](Self::retention) unless set: 35 days. klikit's retries span 31 hours, its replays about 30 days.
    pub const DEFAULT_RETENTION: Duration = KlikitDedupeLayer::DEFAULT_RETENTION;

    /// The [`accept_deadline`](Self::accept_deadline) unless set: 2 seconds.
    pub const DEFAULT_ACCEPT_DEADLINE: Duration = Duration::from_secs(2);

    /// The [`max_backlog`](Self::max_backlog) unless set: 100,000 deliveries.
    pub const DEFAULT_MAX_BACKLOG: u64 = 100_000;

    /// Keeps deliveries in `store`.
    ///
    /// # Panics
    ///
    /// When the system has no random bytes to give.
    pub fn new(store: impl InboxStore) -> Self {
        let config = Config {
            store: Arc::new(store),
            recognition: Recognition::new(),
            retention: Self::DEFAULT_RETENTION,
            accept_deadline: Self::DEFAULT_ACCEPT_DEADLINE,
            max_backlog: Self::DEFAULT_MAX_BACKLOG,
            order_by: OrderBy::default(),
            keep_bodies: Duration::ZERO,
            wake: Arc::default(),
        };
        Self { config: Arc::new(config), backlog: Arc::default() }
    }

    /// How long an accepted delivery is remembered, so that its copies are duplicates. [35 days](Self::DEFAULT_RETENTION) unless
    /// set.
    #[must_use]
    pub fn retention(self, time: Duration) -> Self {
        self.with(|config| config.retention = time)
    }

    /// How long the store may take to accept a delivery. [2 seconds](Self::DEFAULT_ACCEPT_DEADLINE) unless set. Then it is
    /// answered with 503; should it have been stored all the same, klikit's next attempt is a duplicate.
    #[must_use]
    pub fn accept_deadline(self, time: Duration) -> Self {
        self.with(|config| config.accept_deadline = time)
    }

    /// How many deliveries may wait to be handled. [100,000](Self::DEFAULT_MAX_BACKLOG) unless set. From then on deliveries are
    /// answered with 503, copies of known ones too, and klikit keeps them for you.
    ///
    /// They are counted once a second, so that somewhat more may be accepted when several processes share the store.
    #[must_use]
    pub fn max_backlog(self, deliveries: u64) -> Self {
        self.with(|config| config.max_backlog = deliveries)
    }

    /// Which deliveries are handled one after the other. [None](OrderBy::nothing) unless set. It holds for what is accepted from
    /// then on.
    #[must_use]
    pub fn order_by(self, order_by: OrderBy) -> Self {
        self.with(|config| config.order_by = order_by)
    }

    /// How long a delivery that was handled is kept, body and all. Not at all unless set: bodies hold customers' data.
    #[must_use]
    pub fn keep_bodies(self, time: Duration) -> Self {
        self.with(|config| config.keep_bodies = time)
    }

    /// By what a delivery is known. [`Identity::EventId`] unless set.
    #[must_use]
    pub fn identity(self, identity: Identity) -> Self {
        self.with(|config| config.recognition.identity = identity)
    }

    /// What is done with a known id that comes with another body. [`ConflictPolicy::Process`] unless set.
    #[must_use]
    pub fn on_conflict(self, policy: ConflictPolicy) -> Self {
        self.with(|config| config.recognition.on_conflict = policy)
    }

    /// Remembers all deliveries under this name, whatever tenant they are for. The name of the keyring that verified them
    /// unless set.
    ///
    /// Only for tenants whose event ids cannot be the same.
    #[must_use]
    pub fn scope(self, name: impl Into<Arc<str>>) -> Self {
        self.with(|config| config.recognition.scope = Some(name.into()))
    }

    /// The service that stores deliveries and acknowledges them. It goes where the handler was, behind
    /// [`KlikitVerifyLayer`](crate::KlikitVerifyLayer).
    pub fn acceptor(&self) -> Acceptor {
        Acceptor::new(Arc::clone(&self.config), Arc::clone(&self.backlog))
    }

    /// Has `handler` handle what is stored: the Tower service that stood where the [acceptor](Self::acceptor) stands now.
    ///
    /// It does nothing before it is [run](Worker::run_until). One in each process is enough: it handles
    /// [several deliveries](Worker::concurrency) at a time.
    pub fn worker<S>(&self, handler: S) -> Worker<S> {
        Worker::new(handler, Arc::clone(&self.config))
    }

    fn with(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(Arc::make_mut(&mut self.config));
        self
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("config", &self.config).finish()
    }
}

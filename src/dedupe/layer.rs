use std::{
    fmt,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tower_layer::Layer;

use super::{
    config::DedupeConfig,
    error::StoreError,
    ledger::Ledger,
    policy::{ConflictPolicy, DedupePolicy, Identity, REPLAY_LIMIT},
    replays::ReplayLimit,
    service::KlikitDedupe,
};
use crate::with_body::WithBody;

/// A layer that handles each delivery once: see the [module](crate::dedupe) for the rules.
#[derive(Clone)]
pub struct KlikitDedupeLayer {
    pub(super) config: Arc<DedupeConfig>,
}

// The documentation shows the values of literals only.
const _: () = assert!(KlikitDedupeLayer::DEFAULT_REPLAY_IDS == REPLAY_LIMIT.ids);

impl KlikitDedupeLayer {
    /// The default [`lease`](Self::lease): 25 seconds, less than klikit's first retry after 30 seconds.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(25);

    /// The default [`retention`](Self::retention): 35 days. klikit's retries span 31 hours, its replays about 30 days.
    pub const DEFAULT_RETENTION: Duration = Duration::from_secs(35 * 24 * 60 * 60);

    /// The default [`claim_deadline`](Self::claim_deadline): 2 seconds.
    pub const DEFAULT_CLAIM_DEADLINE: Duration = Duration::from_secs(2);

    /// The default [`handler_deadline`](Self::handler_deadline): 5 minutes.
    pub const DEFAULT_HANDLER_DEADLINE: Duration = Duration::from_secs(5 * 60);

    /// The default [`replay_limit`](Self::replay_limit): 16 event ids for one body.
    pub const DEFAULT_REPLAY_IDS: u16 = 16;

    /// The default window of the [`replay_limit`](Self::replay_limit): an hour.
    pub const DEFAULT_REPLAY_WINDOW: Duration = REPLAY_LIMIT.window;

    /// Creates a layer that remembers deliveries in `store`.
    ///
    /// # Panics
    ///
    /// Panics if the system has no source of random bytes.
    pub fn new(store: impl Ledger) -> Self {
        let config = DedupeConfig {
            ledger: Arc::new(store),
            lease: Self::DEFAULT_LEASE,
            retention: Self::DEFAULT_RETENTION,
            claim_deadline: Self::DEFAULT_CLAIM_DEADLINE,
            handler_deadline: Self::DEFAULT_HANDLER_DEADLINE,
            policy: DedupePolicy::new(),
            running: Arc::default(),
        };
        Self { config: Arc::new(config) }
    }

    /// Sets the duration of a claim. Default: [25 seconds](Self::DEFAULT_LEASE). While the handler runs, the claim is
    /// renewed after each third of that time.
    ///
    /// After a crash, a delivery can be handled again only once its claim has expired, so keep the lease below the time
    /// of klikit's first retry.
    #[must_use]
    pub fn lease(self, time: Duration) -> Self {
        self.with(|config| config.lease = time)
    }

    /// Sets the time for which a handled delivery is remembered. Default: [35 days](Self::DEFAULT_RETENTION).
    #[must_use]
    pub fn retention(self, time: Duration) -> Self {
        self.with(|config| config.retention = time)
    }

    /// Sets the time limit for the store to claim a delivery, and again to complete the claim. Default:
    /// [2 seconds](Self::DEFAULT_CLAIM_DEADLINE).
    #[must_use]
    pub fn claim_deadline(self, time: Duration) -> Self {
        self.with(|config| config.claim_deadline = time)
    }

    /// Sets the time limit for the handler, whether klikit still waits or not. Default: [5
    /// minutes](Self::DEFAULT_HANDLER_DEADLINE). At the limit, the handler is dropped at its current await and the
    /// claim is released, so that klikit's next attempt is handled.
    ///
    /// The store keeps an expired claim for the same time, so that a success counts even if the store was unreachable
    /// while the handler ran.
    #[must_use]
    pub fn handler_deadline(self, time: Duration) -> Self {
        self.with(|config| config.handler_deadline = time)
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

    /// Forgets a delivery, so that it is handled again when klikit replays it. Request the replay after this call.
    /// Returns the number of forgotten entries, which is more than one if the id came with several bodies.
    ///
    /// `tenant` is the name of the keyring, which is `default` unless set.
    ///
    /// Deliveries that are identified by their body, with [`Identity::Body`] or without an id, are forgotten with
    /// [`forget_body`](Self::forget_body).
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn forget(&self, tenant: &str, event_id: &str) -> Result<u64, StoreError> {
        let key = self.config.policy.key_of_event(tenant, event_id);
        self.config.ledger.forget(&key.into()).await
    }

    /// Forgets a delivery that is identified by its body: see [`forget`](Self::forget).
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn forget_body(&self, tenant: &str, body: impl AsRef<[u8]>) -> Result<u64, StoreError> {
        let key = self.config.policy.key_of_body(tenant, body.as_ref());
        self.config.ledger.forget(&key.into()).await
    }

    /// Forgets all deliveries of all tenants that arrived within this window, by the store's clock. Returns the number
    /// of forgotten entries.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails. Some deliveries may be forgotten by then.
    pub async fn forget_received(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        self.config.ledger.forget(&window.into()).await
    }

    /// Returns a layer whose inner service receives each verified body as `B`, without a copy.
    ///
    /// Needed only if the next service requires the body type of a framework, as axum's `from_fn` and salvo's adapter do.
    /// Call this method last: the returned layer has no settings.
    ///
    /// [`KlikitVerifyLayer::with_body`](crate::KlikitVerifyLayer::with_body) has an example. With both layers, call it on the
    /// inner layer only.
    #[must_use]
    pub fn with_body<B: From<Bytes>>(self) -> WithBody<Self, B> {
        WithBody::new(self)
    }

    fn with(mut self, set: impl FnOnce(&mut DedupeConfig)) -> Self {
        let config = Arc::make_mut(&mut self.config);
        set(config);
        // A layer's renewal task uses the layer's settings, so a changed clone needs its own task.
        config.running = Arc::default();
        self
    }
}

impl<S> Layer<S> for KlikitDedupeLayer {
    type Service = KlikitDedupe<S>;

    fn layer(&self, inner: S) -> Self::Service {
        KlikitDedupe::new(inner, Arc::clone(&self.config))
    }
}

impl fmt::Debug for KlikitDedupeLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KlikitDedupeLayer").field("config", &self.config).finish()
    }
}

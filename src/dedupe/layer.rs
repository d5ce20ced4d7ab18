use std::{
    fmt,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tower_layer::Layer;

use super::{
    config::Config,
    error::StoreError,
    identity::{ConflictPolicy, Identity, Recognition},
    ledger::Ledger,
    service::KlikitDedupe,
};

/// Lets each delivery through once: see the [module](crate::dedupe) for the rules.
#[derive(Clone)]
pub struct KlikitDedupeLayer {
    pub(super) config: Arc<Config>,
}

impl KlikitDedupeLayer {
    /// The [`lease`](Self::lease) unless set: 25 seconds, below klikit's first retry at 30 seconds.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(25);

    /// The [`retention`](Self::retention) unless set: 35 days. klikit's retries span 31 hours, its replays about 30 days.
    pub const DEFAULT_RETENTION: Duration = Duration::from_secs(35 * 24 * 60 * 60);

    /// The [`claim_deadline`](Self::claim_deadline) unless set: 2 seconds.
    pub const DEFAULT_CLAIM_DEADLINE: Duration = Duration::from_secs(2);

    /// The [`handler_deadline`](Self::handler_deadline) unless set: 5 minutes.
    pub const DEFAULT_HANDLER_DEADLINE: Duration = Duration::from_secs(5 * 60);

    /// Remembers deliveries in `store`.
    ///
    /// # Panics
    ///
    /// When the system has no random bytes to give.
    pub fn new(store: impl Ledger) -> Self {
        let config = Config {
            ledger: Arc::new(store),
            lease: Self::DEFAULT_LEASE,
            retention: Self::DEFAULT_RETENTION,
            claim_deadline: Self::DEFAULT_CLAIM_DEADLINE,
            handler_deadline: Self::DEFAULT_HANDLER_DEADLINE,
            recognition: Recognition::new(),
        };
        Self { config: Arc::new(config) }
    }

    /// How long a claim lasts unless it is renewed, which it is at a third of that time for as long as the handler runs.
    /// [25 seconds](Self::DEFAULT_LEASE) unless set.
    ///
    /// After a crash, a delivery that was being handled is taken up again when its claim has run out: keep it below klikit's
    /// first retry.
    #[must_use]
    pub fn lease(self, time: Duration) -> Self {
        self.with(|config| config.lease = time)
    }

    /// How long a handled delivery is remembered. [35 days](Self::DEFAULT_RETENTION) unless set.
    #[must_use]
    pub fn retention(self, time: Duration) -> Self {
        self.with(|config| config.retention = time)
    }

    /// How long the store may take to claim, and again to complete. [2 seconds](Self::DEFAULT_CLAIM_DEADLINE) unless set.
    #[must_use]
    pub fn claim_deadline(self, time: Duration) -> Self {
        self.with(|config| config.claim_deadline = time)
    }

    /// How long the handler may take, whether klikit still waits or not. [5 minutes](Self::DEFAULT_HANDLER_DEADLINE) unless
    /// set. Then it is dropped where it stands and its claim is released, so that a handler that hangs does not keep its
    /// delivery from ever being handled.
    #[must_use]
    pub fn handler_deadline(self, time: Duration) -> Self {
        self.with(|config| config.handler_deadline = time)
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

    /// Forgets a delivery, so that it is handled again when klikit replays it: ask for the replay after this. How many entries
    /// there were: more than one if the id came with several bodies.
    ///
    /// `tenant` is the name of the keyring, `default` unless set.
    ///
    /// Deliveries that are known by their body, with [`Identity::Body`] or without an id, are forgotten with
    /// [`forget_body`](Self::forget_body).
    ///
    /// # Errors
    ///
    /// When the store does not answer as it should.
    pub async fn forget(&self, tenant: &str, event_id: &str) -> Result<u64, StoreError> {
        let key = self.config.recognition.key_of_event(tenant, event_id);
        self.config.ledger.forget(&key).await
    }

    /// Forgets a delivery that is known by its body: see [`forget`](Self::forget).
    ///
    /// # Errors
    ///
    /// When the store does not answer as it should.
    pub async fn forget_body(&self, tenant: &str, body: impl AsRef<[u8]>) -> Result<u64, StoreError> {
        let key = self.config.recognition.key_of_body(tenant, body.as_ref());
        self.config.ledger.forget(&key).await
    }

    /// Forgets all deliveries, of all tenants, that came within this time by the store's clock. How many there were.
    ///
    /// # Errors
    ///
    /// When the store does not answer as it should. Some may be forgotten already.
    pub async fn forget_received(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        self.config.ledger.forget_claimed(window).await
    }

    fn with(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(Arc::make_mut(&mut self.config));
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

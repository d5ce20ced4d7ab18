use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tower_layer::Layer;

use super::{
    DynLedger,
    ledger::{BodyDigest, EventKey, Ledger, LedgerError, Token},
    service::KlikitDedupe,
};

/// Lets each delivery through once: see the [module](crate::dedupe) for the rules.
#[derive(Clone)]
pub struct KlikitDedupeLayer {
    config: Arc<Config>,
}

/// By what a delivery is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Identity {
    /// By its event id, checked against its body. A delivery that was let in without an id is known by its body.
    #[default]
    EventId,
    /// By its body alone, whatever id it comes under: a captured body sent again under a fresh id is a duplicate.
    ///
    /// The price: a second genuine event whose body has the very same bytes is dropped.
    Body,
}

/// What is done with a known id that comes with another body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ConflictPolicy {
    /// It is handled, once, and marked as a conflict: nothing is lost.
    #[default]
    Process,
    /// The id alone counts, so it is a duplicate. For the case that klikit should turn out to write the body anew for each
    /// attempt. Whoever captured a delivery can then have a genuine one ignored, by guessing its id.
    TrustEventId,
    /// It is refused with 409, until an operator has looked at it.
    Refuse,
}

pub(super) struct Config {
    pub(super) ledger: Arc<dyn DynLedger>,
    pub(super) lease: Duration,
    pub(super) retention: Duration,
    pub(super) claim_deadline: Duration,
    pub(super) handler_deadline: Duration,
    pub(super) identity: Identity,
    pub(super) on_conflict: ConflictPolicy,
    scope: Option<Arc<str>>,
    tokens: Arc<Tokens>,
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
            identity: Identity::default(),
            on_conflict: ConflictPolicy::default(),
            scope: None,
            tokens: Arc::new(Tokens::new()),
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
        self.with(|config| config.identity = identity)
    }

    /// What is done with a known id that comes with another body. [`ConflictPolicy::Process`] unless set.
    #[must_use]
    pub fn on_conflict(self, policy: ConflictPolicy) -> Self {
        self.with(|config| config.on_conflict = policy)
    }

    /// Remembers all deliveries under this name, whatever tenant they are for. The name of the keyring that verified them
    /// unless set.
    ///
    /// Only for tenants whose event ids cannot be the same.
    #[must_use]
    pub fn scope(self, name: impl Into<Arc<str>>) -> Self {
        self.with(|config| config.scope = Some(name.into()))
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
    pub async fn forget(&self, tenant: &str, event_id: &str) -> Result<u64, LedgerError> {
        let key = EventKey::of_event(self.config.scope_of(tenant), event_id);
        self.config.ledger.forget(&key).await
    }

    /// Forgets a delivery that is known by its body: see [`forget`](Self::forget).
    ///
    /// # Errors
    ///
    /// When the store does not answer as it should.
    pub async fn forget_body(&self, tenant: &str, body: impl AsRef<[u8]>) -> Result<u64, LedgerError> {
        let key = EventKey::of_body(self.config.scope_of(tenant), &BodyDigest::of(body.as_ref()));
        self.config.ledger.forget(&key).await
    }

    /// Forgets all deliveries, of all tenants, that came within this time by the store's clock. How many there were.
    ///
    /// # Errors
    ///
    /// When the store does not answer as it should. Some may be forgotten already.
    pub async fn forget_received(&self, window: Range<SystemTime>) -> Result<u64, LedgerError> {
        self.config.ledger.forget_claimed(window).await
    }

    fn with(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(Arc::make_mut(&mut self.config));
        self
    }
}

impl Config {
    /// Under which name a tenant's deliveries are remembered.
    pub(super) fn scope_of<'a>(&'a self, tenant: &'a str) -> &'a str {
        self.scope.as_deref().unwrap_or(tenant)
    }

    pub(super) fn new_token(&self) -> Token {
        self.tokens.next()
    }
}

impl Clone for Config {
    fn clone(&self) -> Self {
        Self { ledger: Arc::clone(&self.ledger), scope: self.scope.clone(), tokens: Arc::clone(&self.tokens), ..*self }
    }
}

/// Where tokens come from: a random start for each process, and a count.
struct Tokens {
    process: u64,
    count: AtomicU64,
}

impl Tokens {
    fn new() -> Self {
        let process = getrandom::u64().expect("the system has random bytes");
        Self { process, count: AtomicU64::new(0) }
    }

    fn next(&self) -> Token {
        // Only uniqueness matters.
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.process.to_be_bytes());
        bytes[8..].copy_from_slice(&count.to_be_bytes());
        Token::from_bytes(bytes)
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

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("lease", &self.lease)
            .field("retention", &self.retention)
            .field("claim_deadline", &self.claim_deadline)
            .field("handler_deadline", &self.handler_deadline)
            .field("identity", &self.identity)
            .field("on_conflict", &self.on_conflict)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, request::Parts};
use tower_layer::Layer;

#[cfg(feature = "diagnose")]
use super::explain::Explain;
use super::{
    basic::BasicAuth,
    budget::Budget,
    config::{Config, Keyrings},
    rejection::Rejection,
    service::KlikitVerify,
};
use crate::{
    keyring::Keyring,
    klikit,
    secret::{SecretError, WebhookSecret},
    telemetry::LogLimits,
};

/// Lets through only what klikit signed: see the [module](crate::verify) for the rules.
///
/// ```
/// use tower_klikit::{EventId, KlikitVerifyLayer};
/// use axum::{Extension, Router, routing::post};
///
/// async fn order(Extension(id): Extension<EventId>, body: String) {
///     println!("{id}: {body}");
/// }
///
/// let app: Router = Router::new()
///     .route("/webhooks/klikit", post(order))
///     .layer(KlikitVerifyLayer::new("your-webhook-secret"));
/// ```
///
/// Clones, and all services made from them, share one [`buffer_budget`](Self::buffer_budget).
#[derive(Clone)]
pub struct KlikitVerifyLayer {
    pub(super) config: Arc<Config>,
}

impl KlikitVerifyLayer {
    /// The [`body_limit`](Self::body_limit) unless set: 1 MiB. A batch of six large orders is about 160 kB.
    pub const DEFAULT_BODY_LIMIT: usize = 1024 * 1024;

    /// The [`body_deadline`](Self::body_deadline) unless set: 10 seconds, after which klikit counts a delivery as failed
    /// ("Webhook retries" in its developer documentation).
    pub const DEFAULT_BODY_DEADLINE: Duration = klikit::TIMEOUT;

    /// The [`buffer_budget`](Self::buffer_budget) unless set: 64 MiB.
    pub const DEFAULT_BUFFER_BUDGET: usize = 64 * 1024 * 1024;

    /// Verifies with one secret: the `webhook_secret_key`, byte for byte.
    ///
    /// # Panics
    ///
    /// When the secret is empty or blank. Where that is not a mistake in the program, use [`try_new`](Self::try_new).
    #[track_caller]
    pub fn new(secret: impl AsRef<[u8]>) -> Self {
        match Self::try_new(secret) {
            Ok(layer) => layer,
            Err(error) => panic!("{error}"),
        }
    }

    /// Verifies with one secret.
    ///
    /// # Errors
    ///
    /// When the secret is empty or blank: see [`WebhookSecret::new`].
    pub fn try_new(secret: impl AsRef<[u8]>) -> Result<Self, SecretError> {
        WebhookSecret::new(secret).map(|secret| Self::with_keyring(secret.into()))
    }

    /// Verifies with the secret in the environment variable `KLIKIT_WEBHOOK_SECRET`, without trimming it.
    ///
    /// # Errors
    ///
    /// When the variable is not set, empty or blank.
    pub fn from_env() -> Result<Self, SecretError> {
        WebhookSecret::from_env().map(|secret| Self::with_keyring(secret.into()))
    }

    /// Verifies with any secret of a keyring, which can change while the layer serves.
    pub fn with_keyring(keyring: Keyring) -> Self {
        Self::verifying(Keyrings::One(keyring))
    }

    /// Verifies each request with the keyring that `resolve` picks by its head: many businesses, one process.
    ///
    /// Pick by the path, or by the partner key in the `Authorization` header. A request that gets `None` is refused with
    /// 403. `resolve` runs before the body is read and once the headers are sound; nothing that it sees is verified yet. It
    /// must not block. Pick from keyrings that are there: one made up for whatever a request asks for would have forgers fill the
    /// logs and metrics with tenants of theirs.
    ///
    /// The name of a tenant in a path is not a secret: any sender can find out which ones are served. A request that gets `None`
    /// is answered before its body is read, and any other one when its body has arrived and was hashed, although both responses
    /// are the same. If the names must stay secret, make them long and random, or return a decoy in place of `None`: a keyring
    /// whose secret nobody holds. With as many secrets as the other keyrings have, it takes the same time. Its requests then take
    /// up the [`buffer_budget`](Self::buffer_budget) and are rejected as mismatches of the decoy's tenant.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use tower_klikit::{Keyring, KlikitVerifyLayer, WebhookSecret};
    ///
    /// let keyrings: HashMap<String, Keyring> = HashMap::new();
    /// let layer = KlikitVerifyLayer::with_resolver(move |head| {
    ///     let tenant = head.uri.path().strip_prefix("/webhooks/klikit/")?;
    ///     keyrings.get(tenant).cloned()
    /// });
    ///
    /// // With a decoy for unknown tenants. The secret is random, and nobody keeps it.
    /// # let keyrings: HashMap<String, Keyring> = HashMap::new();
    /// # let random_bytes = || [7_u8; 32];
    /// let decoy = Keyring::new("unknown", "decoy", WebhookSecret::new(random_bytes())?);
    /// let layer = KlikitVerifyLayer::with_resolver(move |head| {
    ///     let tenant = head.uri.path().strip_prefix("/webhooks/klikit/").unwrap_or_default();
    ///     Some(keyrings.get(tenant).unwrap_or(&decoy).clone())
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_resolver(resolve: impl Fn(&Parts) -> Option<Keyring> + Send + Sync + 'static) -> Self {
        Self::verifying(Keyrings::PerRequest { resolve: Arc::new(resolve), known: Vec::new() })
    }

    /// Names the keyrings that the [resolver](Self::with_resolver) may pick, as far as they are known when the service starts:
    /// [`preflight`](Self::preflight) looks at them too, and what is counted for them begins at 0, so that an alert hears of a
    /// tenant for whom nothing comes. None unless set. The resolver may pick others, and a layer without one knows its own.
    #[must_use]
    pub fn known_keyrings(self, keyrings: impl IntoIterator<Item = Keyring>) -> Self {
        self.with(|config| {
            if let Keyrings::PerRequest { known, .. } = &mut config.keyrings {
                *known = keyrings.into_iter().collect();
            }
        })
    }

    /// The longest body that is accepted, in bytes; longer ones get 413. [1 MiB](Self::DEFAULT_BODY_LIMIT) unless set.
    ///
    /// Extractors may have a limit of their own: axum's is 2 MB.
    #[must_use]
    pub fn body_limit(self, bytes: usize) -> Self {
        self.with(|config| config.body_limit = bytes)
    }

    /// How long a body may take to arrive; a slower one gets 408. [10 seconds](Self::DEFAULT_BODY_DEADLINE) unless set.
    ///
    /// It runs from when the body first has to be waited for.
    #[must_use]
    pub fn body_deadline(self, time: Duration) -> Self {
        self.with(|config| config.body_deadline = time)
    }

    /// Sets how many bytes all waiting bodies may hold together. Default: [64 MiB](Self::DEFAULT_BUFFER_BUDGET).
    ///
    /// A body that waits for more is charged for the capacity of its buffer, which grows with it in blocks of 1 to 64 KiB.
    /// A body that arrives in one piece does not wait and is not charged. Neither is a verified one whose inner service is
    /// not ready yet.
    ///
    /// If the budget is used up, a body that needs more evicts waiting bodies of any age: of a few drawn at random, the one
    /// whose size, times the time for which it has hardly grown, is largest. The evicted body gets 503. So a sender that fills
    /// the budget evicts mostly its own bodies.
    ///
    /// The budget has to be as large as [`body_limit`](Self::body_limit); a smaller one limits bodies in several pieces.
    ///
    /// Layers that were cloned from this one before keep the budget that they had.
    #[must_use]
    pub fn buffer_budget(self, bytes: usize) -> Self {
        self.with(|config| config.budget = Arc::new(Budget::new(bytes)))
    }

    /// Accepts a delivery without an `x-klikit-event-id`: one of klikit's pages calls it optional. Refused with 400 unless
    /// set.
    ///
    /// Such a delivery has no [`EventId`](crate::EventId) in its extensions, so nothing but its body tells it from another.
    /// An id that is there but malformed is refused all the same.
    ///
    /// klikit does not sign the id, so anybody who has captured a delivery with an id can send it again without. The dedupe
    /// layer and the inbox then know it by its body and not by its id: it is handled once more, and
    /// [marked as a copy](crate::Delivery::is_copy) if this process has seen the body with an id. Allow a missing id only if
    /// klikit sends you none, and then prefer `Identity::Body`, which closes this gap.
    #[must_use]
    pub fn allow_missing_event_id(self) -> Self {
        self.with(|config| config.missing_event_id_allowed = true)
    }

    /// Requires, beside the signature, `Authorization: Basic` with these credentials (RFC 7617), compared in constant time;
    /// anything else gets 403. Not required unless set: one of klikit's pages lists the header, and none of its sample
    /// receivers reads it.
    ///
    /// # Panics
    ///
    /// When a key is empty, or the partner key holds a colon, which such credentials cannot.
    #[must_use]
    #[track_caller]
    pub fn require_basic_auth(self, partner_key: &str, secret_key: &str) -> Self {
        assert!(!partner_key.is_empty() && !secret_key.is_empty(), "the basic credentials are empty");
        assert!(!partner_key.contains(':'), "the partner key holds a colon");
        self.with(|config| config.basic_auth = Some(BasicAuth::new(partner_key, secret_key)))
    }

    /// Accepts deliveries of klikit's older form too, whose time is at most `tolerance` away from this machine's, on either side.
    /// klikit's own receivers took 5 minutes. Refused unless set.
    ///
    /// Only an older text of klikit's (May 2026) has this form: `x-klikit-signature: t=<seconds since 1970>,v1=<hex>` over
    /// `<t>.<body>`, and the envelope `{event_id, event_type, event_version, created_at, business_id, data}`, which
    /// `payload::TimestampedEvent` reads. Id and type of the [`Delivery`](crate::Delivery) are those of the envelope, which are
    /// signed. An `x-klikit-event-id` may be missing; one that is there and is another is refused with 403.
    /// `X-Klikit-Event` and `X-Klikit-Webhook-Id` are not looked at.
    ///
    /// A timestamped signature covers `<t>.<body>`, and a current one `<body>`. A captured timestamped delivery, which is stale,
    /// could therefore be sent as a current one with the body `<t>.<body>`. With this setting, a signed body of the current form
    /// that begins with a number and a dot is rejected with 403. klikit's own bodies begin with `{`. A layer with the same secret
    /// and without this setting does not look at the body: there, the handler must reject what is not JSON.
    #[cfg(feature = "payload")]
    #[must_use]
    pub fn accept_timestamped(self, tolerance: Duration) -> Self {
        self.with(|config| config.timestamped = Some(tolerance))
    }

    /// Answers a refused request with what `respond` makes of the [`Rejection`], in place of
    /// [`Rejection::to_response`].
    ///
    /// A status that is no error would tell klikit that the order has arrived: it is replaced by [`Rejection::status`], and
    /// logged as an error. Keep the reason off the wire; it is for the log.
    ///
    /// ```
    /// use tower_klikit::KlikitVerifyLayer;
    ///
    /// let layer = KlikitVerifyLayer::new("your-webhook-secret").on_rejection(|rejection| {
    ///     let mut response = rejection.to_response();
    ///     if rejection.status() == http::StatusCode::FORBIDDEN {
    ///         *response.status_mut() = http::StatusCode::UNAUTHORIZED;
    ///     }
    ///     response
    /// });
    /// ```
    #[must_use]
    pub fn on_rejection(self, respond: impl Fn(&Rejection) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        self.with(|config| config.on_rejection = Some(Arc::new(respond)))
    }

    /// Looks for the cause when a delivery is refused for its signature or its event id, and logs it with what to do, in the line
    /// that warns of the refusal: see [`diagnose`](crate::diagnose). Not unless set.
    ///
    /// One mismatch a second is looked at, and one at a time, whoever sent it and whatever tenant it is for, and none of a body over
    /// 64 KiB: a flood of forged deliveries costs no more than that, at worst some tens of milliseconds of one thread in each
    /// second and [some megabytes](crate::diagnose#what-it-costs), and hides the others meanwhile. The search runs on a thread for
    /// what blocks (`tokio::task::spawn_blocking`), and that one delivery is answered when it ends. Each layer that was not cloned
    /// from another counts for itself. Beside that, one refusal a second is explained that takes no hashing: by its headers, or
    /// by a body that did not come whole.
    ///
    /// [Candidates](Self::explain_mismatches_with) that were given before are still tried.
    ///
    /// At the level `debug`, a mismatch is followed by the report that klikit's support asks for. Nothing of all this goes on the
    /// wire, and without the feature `tracing` nobody hears of it.
    #[cfg(feature = "diagnose")]
    #[must_use]
    pub fn explain_mismatches(self) -> Self {
        self.with(|config| {
            config.explain.get_or_insert_with(|| Arc::new(Explain::new(None)));
        })
    }

    /// The same, and tries these secrets too, which klikit may have signed with in place of the right one: the partner API's, a
    /// sandbox's, the previous one. Their ids in the keyring are the names by which the log tells of them. Nothing that they
    /// have signed is let in. Given twice, the later ones are tried.
    #[cfg(feature = "diagnose")]
    #[must_use]
    pub fn explain_mismatches_with(self, candidates: Keyring) -> Self {
        self.with(|config| config.explain = Some(Arc::new(Explain::new(Some(candidates)))))
    }

    fn verifying(keyrings: Keyrings) -> Self {
        let config = Config {
            keyrings,
            body_limit: Self::DEFAULT_BODY_LIMIT,
            body_deadline: Self::DEFAULT_BODY_DEADLINE,
            budget: Arc::new(Budget::new(Self::DEFAULT_BUFFER_BUDGET)),
            missing_event_id_allowed: false,
            basic_auth: None,
            timestamped: None,
            on_rejection: None,
            explain: None,
            log_limits: Arc::new(LogLimits::new()),
        };
        Self { config: Arc::new(config) }
    }

    fn with(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(Arc::make_mut(&mut self.config));
        self
    }
}

impl<S> Layer<S> for KlikitVerifyLayer {
    type Service = KlikitVerify<S>;

    fn layer(&self, inner: S) -> Self::Service {
        self.config.announce();
        KlikitVerify::new(inner, Arc::clone(&self.config))
    }
}

impl fmt::Debug for KlikitVerifyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KlikitVerifyLayer").field("config", &self.config).finish()
    }
}

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, request::Parts};
use tower_layer::Layer;

#[cfg(feature = "diagnose")]
use super::explain::Explain;
use super::{
    basic::BasicAuth,
    budget::Budget,
    config::{Keyrings, VerifyConfig},
    rejection::Rejection,
    service::KlikitVerify,
};
use crate::{
    keyring::Keyring,
    klikit,
    rejection_log::RejectionLog,
    secret::{SecretError, WebhookSecret},
    telemetry::LogLimits,
    with_body::WithBody,
};

/// A layer that lets only requests through that klikit signed: see the [module](crate::verify) for the rules.
///
/// ```
/// use axum::{Extension, Router, routing::post};
/// use tower_klikit::{EventId, KlikitVerifyLayer};
///
/// async fn order(Extension(id): Extension<EventId>, body: String) {
///     println!("{id}: {body}");
/// }
///
/// let verify = KlikitVerifyLayer::new("your-webhook-secret");
/// let app: Router = Router::new().route("/webhooks/klikit", post(order).layer(verify));
/// ```
///
/// Clones, and all services made from them, share one [`buffer_budget`](Self::buffer_budget).
#[derive(Clone)]
pub struct KlikitVerifyLayer {
    pub(super) config: Arc<VerifyConfig>,
}

impl KlikitVerifyLayer {
    /// The default [`body_limit`](Self::body_limit): 1 MiB. A batch of six large orders is about 160 kB.
    pub const DEFAULT_BODY_LIMIT: usize = 1_048_576;

    /// The default [`body_deadline`](Self::body_deadline): 10 seconds, after which klikit counts a delivery as failed
    /// ("Webhook retries" in its developer documentation).
    pub const DEFAULT_BODY_DEADLINE: Duration = klikit::timeout();

    /// The default [`buffer_budget`](Self::buffer_budget): 64 MiB.
    pub const DEFAULT_BUFFER_BUDGET: usize = 67_108_864;

    /// Creates a layer that verifies with one secret: the `webhook_secret_key`, byte for byte.
    ///
    /// Responses do not say why a request was rejected. The log does (feature `tracing`), so **rejections are silent in
    /// a program without a `tracing` subscriber**. `tracing_subscriber::fmt::init()` installs one that prints them.
    ///
    /// # Panics
    ///
    /// If the secret is empty or blank. If the secret comes from a configuration, use [`try_new`](Self::try_new).
    #[track_caller]
    pub fn new(secret: impl AsRef<[u8]>) -> Self {
        match Self::try_new(secret) {
            Ok(layer) => layer,
            Err(error) => panic!("{error}"),
        }
    }

    /// Creates a layer that verifies with one secret.
    ///
    /// # Errors
    ///
    /// If the secret is empty or blank: see [`WebhookSecret::new`].
    pub fn try_new(secret: impl AsRef<[u8]>) -> Result<Self, SecretError> {
        WebhookSecret::new(secret).map(|secret| Self::with_keyring(secret.into()))
    }

    /// Creates a layer that verifies with the secret in the environment variable `KLIKIT_WEBHOOK_SECRET`, and with the
    /// secret before a rotation in `KLIKIT_WEBHOOK_SECRET_OLD` if that variable is set: see [`Keyring::from_env`].
    ///
    /// # Errors
    ///
    /// If `KLIKIT_WEBHOOK_SECRET` is not set, or if either variable is empty or blank.
    pub fn from_env() -> Result<Self, SecretError> {
        Keyring::from_env().map(Self::with_keyring)
    }

    /// Creates a layer that verifies with any secret of a keyring. The keyring can change while the layer is serving.
    pub fn with_keyring(keyring: Keyring) -> Self {
        Self::verifying(Keyrings::One(keyring))
    }

    /// Creates a layer that verifies each request with the keyring that `resolve` chooses by the request's head, so
    /// that one process can serve many tenants.
    ///
    /// Choose by the path, or by the partner key in the `Authorization` header. If `resolve` returns `None`, the
    /// request is rejected with 403. `resolve` runs after the headers were checked and before the body is read; its
    /// input is unverified. It must not block. Choose among existing keyrings. If `resolve` created a keyring for each
    /// name in a request, forgers could fill the logs and metrics with made-up tenants.
    ///
    /// A tenant's name in a path is not secret: any sender can find out which tenants exist. A request for an unknown
    /// tenant gets its response before its body is read, and any other request after its body has arrived and was
    /// hashed, although both responses are the same. If the names must stay secret, make them long and random, or
    /// return a decoy instead of `None`: a keyring whose secret nobody holds. The decoy takes the same time if it has
    /// as many secrets as the other keyrings. Its requests use the [`buffer_budget`](Self::buffer_budget) and are
    /// rejected as mismatches of the decoy's tenant.
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
    /// // With a decoy for unknown tenants. Its secret is random and not stored anywhere.
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

    /// Names the keyrings that the [resolver](Self::with_resolver) may return, as far as they are known when the
    /// service starts. Default: none.
    ///
    /// [`preflight`](Self::preflight) checks these keyrings too. Their counters begin at 0, so that an alert can detect
    /// a tenant without deliveries. The resolver may return other keyrings. A layer without a resolver ignores this
    /// setting.
    #[must_use]
    pub fn known_keyrings(self, keyrings: impl IntoIterator<Item = Keyring>) -> Self {
        self.with(|config| {
            if let Keyrings::PerRequest { known, .. } = &mut config.keyrings {
                *known = keyrings.into_iter().collect();
            }
        })
    }

    /// Sets the length of the longest accepted body, in bytes. Longer bodies get 413. Default:
    /// [1 MiB](Self::DEFAULT_BODY_LIMIT).
    ///
    /// Extractors may have a limit of their own: axum's is 2 MB.
    #[must_use]
    pub fn body_limit(self, bytes: usize) -> Self {
        self.with(|config| config.body_limit = bytes)
    }

    /// Sets the time within which a body must arrive. Slower bodies get 408. Default:
    /// [10 seconds](Self::DEFAULT_BODY_DEADLINE).
    ///
    /// The time starts when the layer first has to wait for the body.
    #[must_use]
    pub fn body_deadline(self, time: Duration) -> Self {
        self.with(|config| config.body_deadline = time)
    }

    /// Sets how many bytes all waiting bodies may hold together. Default: [64 MiB](Self::DEFAULT_BUFFER_BUDGET).
    ///
    /// An incomplete body is charged for the capacity of its buffer, which grows in blocks of 1 to 64 KiB.
    /// A body that arrives in one piece does not wait and is not charged. A verified body whose inner service is
    /// not ready yet is not charged either.
    ///
    /// If the budget is used up, a body that needs more evicts waiting bodies of any age. Among a few bodies drawn at
    /// random, the layer evicts the one with the largest product of its size and the time for which it has hardly
    /// grown. The evicted body gets
    /// 503. A sender that fills the budget therefore evicts mostly its own bodies.
    ///
    /// The budget should be at least as large as [`body_limit`](Self::body_limit). A smaller budget lowers the limit
    /// for bodies that arrive in several pieces.
    ///
    /// Layers that were cloned from this one earlier keep their budget.
    #[must_use]
    pub fn buffer_budget(self, bytes: usize) -> Self {
        self.with(|config| config.budget = Arc::new(Budget::new(bytes)))
    }

    /// Accepts deliveries without an `x-klikit-event-id` header, which one of klikit's pages calls optional. By
    /// default, they are rejected with 400.
    ///
    /// Such a delivery has no [`EventId`](crate::EventId) in its extensions, so only its body tells it from another.
    /// A malformed id is still rejected.
    ///
    /// klikit does not sign the id, so an attacker who has captured a delivery with an id can send it again without the
    /// id. The dedupe layer and the inbox then identify it by its body. It is handled once more, and [marked as a
    /// copy](crate::Delivery::is_copy) if this process has seen the body with an id. Allow missing ids only if klikit
    /// sends you none. Then prefer [`Identity::Body`](crate::dedupe::Identity::Body), which closes
    /// this gap.
    #[must_use]
    pub fn allow_missing_event_id(self) -> Self {
        self.with(|config| config.missing_event_id_allowed = true)
    }

    /// Requires `Authorization: Basic` with these credentials (RFC 7617) in addition to the signature. Other requests
    /// get 403. The credentials are compared in constant time.
    ///
    /// Not required by default: one of klikit's pages lists the header, and none of its sample receivers reads it.
    ///
    /// # Panics
    ///
    /// If a key is empty, or the partner key contains a colon, which the header cannot express.
    #[must_use]
    #[track_caller]
    pub fn require_basic_auth(self, partner_key: &str, secret_key: &str) -> Self {
        assert!(!partner_key.is_empty() && !secret_key.is_empty(), "a key of the basic credentials is empty");
        assert!(!partner_key.contains(':'), "the partner key contains a colon");
        self.with(|config| config.basic_auth = Some(BasicAuth::new(partner_key, secret_key)))
    }

    /// Accepts timestamped signatures too, if their time differs by at most `tolerance` from this machine's clock.
    /// klikit's own receivers used 5 minutes. By default, timestamped signatures are rejected.
    ///
    /// Only an older version of klikit's documentation (May 2026) describes them: `x-klikit-signature: t=<seconds since
    /// 1970>,v1=<hex>` over `<t>.<body>`, with the envelope `{event_id, event_type, event_version, created_at,
    /// business_id, data}`, which [`TimestampedEvent`](crate::payload::TimestampedEvent) reads. The id and the type of
    /// the [`Delivery`](crate::Delivery) are taken from the envelope, where they are signed. The `x-klikit-event-id`
    /// header may be missing. If it differs from the envelope, the delivery is rejected with 403. `X-Klikit-Event` and
    /// `X-Klikit-Webhook-Id` are ignored.
    ///
    /// A timestamped signature covers `<t>.<body>`, and a current one covers `<body>`. An attacker could therefore send
    /// a captured timestamped delivery, once it is stale, as a current one with the body `<t>.<body>`. With this
    /// setting, the layer rejects a body with a current signature that begins with a number and a dot, with 403.
    /// klikit's own bodies begin with `{`. A layer with the same secret and without this setting does not check the
    /// body: there, the handler must reject bodies that are not JSON.
    #[cfg(feature = "payload")]
    #[must_use]
    pub fn accept_timestamped(self, tolerance: Duration) -> Self {
        self.with(|config| config.timestamped = Some(tolerance))
    }

    /// Sets a function that builds the response to a rejected request. Default: [`Rejection::to_response`].
    ///
    /// The response must have an error status, because klikit takes any other status as a receipt of the order. The
    /// layer replaces other statuses with [`Rejection::status`] and logs an error. Keep the reason out of the response;
    /// it is for the log.
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

    /// Diagnoses deliveries that are rejected for their signature or their event id, and logs the cause and the remedy
    /// in the warning about the rejection: see [`diagnose`](crate::diagnose). Off by default.
    ///
    /// The layer diagnoses one mismatch at a time and at most one a second, for all senders and tenants together, and
    /// none with a body over 64 KiB. A flood of forged deliveries therefore costs at most some tens of milliseconds of
    /// one thread per second and [some megabytes](crate::diagnose#what-it-costs). Meanwhile, other mismatches are not
    /// diagnosed. The search runs on a blocking thread (`tokio::task::spawn_blocking`), and its delivery gets its
    /// response when the search ends. Clones of a layer share the limit. In addition, the layer explains one rejection
    /// a second that needs no hashing: because of its headers, or because of an incomplete body.
    ///
    /// Keeps [candidates](Self::explain_mismatches_with) that were set before.
    ///
    /// At the level `debug`, a mismatch is followed by a report for klikit's support. Responses hold nothing of the
    /// diagnosis. A [`rejection_log`](Self::rejection_log) has the cause too. Nothing is diagnosed if there is neither such
    /// a log nor a `tracing` subscriber that listens to the warnings.
    #[cfg(feature = "diagnose")]
    #[must_use]
    pub fn explain_mismatches(self) -> Self {
        self.with(|config| {
            config.explain.get_or_insert_with(|| Arc::new(Explain::new(None)));
        })
    }

    /// Diagnoses as [`explain_mismatches`](Self::explain_mismatches) does, and also tries these candidates: secrets
    /// that klikit may have signed with by mistake, such as the partner API's, a sandbox's or the previous one. The log
    /// names a candidate by its id in the keyring. Deliveries that are signed with a candidate are still rejected. A
    /// second call replaces the candidates.
    #[cfg(feature = "diagnose")]
    #[must_use]
    pub fn explain_mismatches_with(self, candidates: Keyring) -> Self {
        self.with(|config| config.explain = Some(Arc::new(Explain::new(Some(candidates)))))
    }

    /// Adds all rejections to this log, in which operators can look them up. Default: no log.
    ///
    /// An entry tells more than the response does, and the log needs no `tracing` subscriber. [`RejectionLog`] describes its
    /// entries, its bounds and its costs, and has an example. A second call replaces the log.
    #[must_use]
    pub fn rejection_log(self, log: RejectionLog) -> Self {
        self.with(|config| config.rejection_log = Some(log))
    }

    /// Returns a layer whose inner service receives each verified body as `B`, without a copy.
    ///
    /// Needed only if the next service requires the body type of a framework, as axum's `from_fn` and salvo's adapter do.
    /// Call this method last: the returned layer has no settings.
    ///
    /// ```
    /// use axum::{
    ///     Router,
    ///     body::Body,
    ///     extract::Request,
    ///     middleware::{Next, from_fn},
    ///     response::Response,
    ///     routing::post,
    /// };
    /// use tower::ServiceBuilder;
    /// use tower_klikit::KlikitVerifyLayer;
    ///
    /// async fn audit(request: Request, next: Next) -> Response {
    ///     next.run(request).await
    /// }
    ///
    /// let stack = ServiceBuilder::new()
    ///     .layer(KlikitVerifyLayer::new("your-webhook-secret").with_body::<Body>())
    ///     .layer(from_fn(audit));
    /// let app: Router = Router::new().route("/webhooks/klikit", post(|| async {}).layer(stack));
    /// ```
    #[must_use]
    pub fn with_body<B: From<Bytes>>(self) -> WithBody<Self, B> {
        WithBody::new(self)
    }

    fn verifying(keyrings: Keyrings) -> Self {
        let config = VerifyConfig {
            keyrings,
            body_limit: Self::DEFAULT_BODY_LIMIT,
            body_deadline: Self::DEFAULT_BODY_DEADLINE,
            budget: Arc::new(Budget::new(Self::DEFAULT_BUFFER_BUDGET)),
            missing_event_id_allowed: false,
            basic_auth: None,
            timestamped: None,
            on_rejection: None,
            explain: None,
            rejection_log: None,
            log_limits: Arc::new(LogLimits::new()),
        };
        Self { config: Arc::new(config) }
    }

    fn with(mut self, set: impl FnOnce(&mut VerifyConfig)) -> Self {
        set(Arc::make_mut(&mut self.config));
        self
    }
}

impl<S> Layer<S> for KlikitVerifyLayer {
    type Service = KlikitVerify<S>;

    fn layer(&self, inner: S) -> Self::Service {
        self.config.register_metrics();
        KlikitVerify::new(inner, Arc::clone(&self.config))
    }
}

impl fmt::Debug for KlikitVerifyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KlikitVerifyLayer").field("config", &self.config).finish()
    }
}

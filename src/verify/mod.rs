//! Is this from klikit?
//!
//! [`KlikitVerifyLayer`] receives a body within limits, verifies its signature, and hands on the same bytes as a
//! [`VerifiedBody`], with an [`EventId`](crate::EventId) and a [`Delivery`](crate::Delivery) in the request's extensions.
//! What it refuses never reaches the inner service.
//!
//! # Rules
//!
//! Before one byte of the body is read:
//!
//! - exactly one `x-klikit-signature`, of 64 hex digits, or 403;
//! - the `Authorization` that [`require_basic_auth`](KlikitVerifyLayer::require_basic_auth) asks for, if it was asked for, or
//!   403;
//! - exactly one `x-klikit-event-id`, of 1 to 255 visible ASCII characters, or 400 (unless
//!   [a missing one is allowed](KlikitVerifyLayer::allow_missing_event_id));
//! - a `Content-Length` of not more than twice [`body_limit`](KlikitVerifyLayer::body_limit), or 413 at once.
//!
//! While the body arrives:
//!
//! - its bytes are counted, also if it has a `Content-Length`. Beyond the limit it gets 413, never "invalid signature";
//! - it has until [`body_deadline`](KlikitVerifyLayer::body_deadline), or 408; frames without data do not prolong it;
//! - all waiting bodies together hold no more than [`buffer_budget`](KlikitVerifyLayer::buffer_budget). If the budget is
//!   used up, a body that needs more evicts others, which get 503 with `Retry-After`;
//! - the rest of a body that gets 413 or 503 is read and dropped for up to a second, and up to twice the limit, so that the
//!   sender sees the response also while it is writing;
//! - an error gets 400, even after the last byte. Trailers are not signed and are dropped.
//!
//! Then the HMAC-SHA256 of the body is compared with the signature in constant time, for each secret of the keyring until
//! one matches; or 403. One poll hashes at most 256 KiB, for all secrets together, and then yields. A body that arrived in one
//! frame is handed on without a copy.
//!
//! Only the body is signed. The method, the path, the query, the content type and all other headers of a verified request are
//! what it came with: whoever has captured a delivery can send it again with others.
//!
//! The answers are short JSON, such as `{"error":"invalid signature"}`: the wire does not say why a signature did not match,
//! the log does, and the [`Rejection`] in the response's extensions tells logging layers outside.
//! [`on_rejection`](KlikitVerifyLayer::on_rejection) words them otherwise. With the feature `diagnose`, `explain_mismatches` has
//! the log name the cause.
//!
//! # The span
//!
//! With the feature `tracing`, each request that reaches the layer has the span `klikit_delivery`, at the level `info` and with the
//! target `tower_klikit::verify`; what the handler logs lies within it. A field of which nothing is known is left out.
//!
//! | field | what it is |
//! |---|---|
//! | `event_id`, `event_type` | what the headers say, once they are sound; unverified until the verdict is `verified`. In the older form, what the signed body says |
//! | `tenant` | that of the keyring the request is verified with |
//! | `secret_id` | the secret that matched |
//! | `verdict` | `verified`; `rejected`; or `abandoned`, when the sender hung up or a layer outside gave up before there was a verdict |
//! | `reason` | of a rejected one, as [`RejectionKind::as_str`] has it |
//! | `status` | of the answer, if there was one |
//! | `bytes` | how much of the body has come |
//! | `body_wait_ms` | how long it was waited for and read, in milliseconds, without the hashing |
//! | `hash_us` | how long it was hashed, in microseconds; pieces of less than 4 KiB count as waiting, since a sender must not buy looks at the clock byte by byte |
//!
//! Refusals are warned of, and so is every answer that takes 8 seconds or longer: klikit counts it as failed after 10. These lines
//! have what they need without the span. What goes well is not logged above `debug`.
//!
//! # The rate of log lines
//!
//! A sender needs no secret to be rejected, so the lines about rejected requests are limited: for each layer and each
//! [reason](RejectionKind::as_str), 10 lines at once and then one a second. Clones of a layer share the limit. A line that follows
//! others that were left out has the field `left_out`, the number of them since the last line of that reason. The metrics count
//! every request, and each response has its [`Rejection`] in its extensions. The same limit, for each kind of line, holds for:
//!
//! - requests that took 8 seconds or longer and were rejected, or whose sender hung up by then;
//! - an `on_rejection` that gives a status of success, and an inner layer or extractor that finds no verified delivery;
//! - deliveries that a store fails to claim or accept, or that find the inbox full;
//! - event ids that are reused with another body, or with a rewritten one.
//!
//! Some lines are written for each delivery, because only a verified one that is handled causes them: slow responses, failed
//! attempts, dead letters, lost claims and leases, handlers that hang or block, and orders without a readable id.
//!
//! # The older form
//!
//! An older text of klikit has another form: `x-klikit-signature: t=<seconds>,v1=<hex>` over `<t>.<body>`, with an envelope in the
//! body that names the event. `accept_timestamped` (feature `payload`) accepts it beside
//! the current one. There, id and type are signed: what the handler sees is what the envelope says. A body of the current form
//! that begins with a time and a dot is then rejected with 403, since that is a delivery of the older form without its time limit.
//!
//! # Readiness
//!
//! [`KlikitVerify`] is always ready. Only once a request is verified is the inner service polled ready, and the very
//! instance that said so is called: a sender that is not klikit takes no permit of a concurrency limit, and nobody waits
//! for it.
//!
//! # Where it belongs
//!
//! On the webhook's route, not on the whole application: axum's `Router::layer` covers the fallback and health checks too,
//! tonic's `Server::layer` every gRPC call. Outside of anything that rewrites bodies, such as decompression, since klikit
//! signs the bytes on the wire. Inside of tracing, timeouts and panic catchers. axum's own `from_fn` takes axum's body, so
//! behind the layer, in one `ServiceBuilder`, it needs one line between:
//!
//! ```
//! use axum::{Router, body::Body, extract::Request, middleware::{Next, from_fn}, response::Response, routing::post};
//! use tower::ServiceBuilder;
//! use tower_http::{decompression::RequestDecompressionLayer, map_request_body::MapRequestBodyLayer, trace::TraceLayer};
//! use tower_klikit::KlikitVerifyLayer;
//!
//! async fn audit(request: Request, next: Next) -> Response {
//!     next.run(request).await
//! }
//!
//! let stack = ServiceBuilder::new()
//!     .layer(TraceLayer::new_for_http())
//!     .layer(KlikitVerifyLayer::new("your-webhook-secret"))
//!     .layer(RequestDecompressionLayer::new())
//!     .layer(MapRequestBodyLayer::new(Body::new))
//!     .layer(from_fn(audit));
//! let app: Router = Router::new().route("/webhooks/klikit", post(|| async {}).layer(stack));
//! ```
//!
//! axum's extractors have a limit of their own, 2 MB unless set, which still applies behind a raised `body_limit`.
//!
//! # Customised
//!
//! ```
//! use std::time::Duration;
//! use tower_klikit::{Keyring, KlikitVerifyLayer, WebhookSecret};
//!
//! let keyring = Keyring::new("bali-bites", "2026-06", WebhookSecret::new("the old one")?);
//! keyring.add("2026-11", WebhookSecret::new("the new one")?)?;
//!
//! let layer = KlikitVerifyLayer::with_keyring(keyring)
//!     .body_limit(256 * 1024)
//!     .body_deadline(Duration::from_secs(5))
//!     .buffer_budget(16 * 1024 * 1024);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod basic;
mod blocks;
mod body;
mod budget;
mod buffer;
mod charge;
mod collect;
mod config;
mod expected;
#[cfg_attr(not(feature = "diagnose"), path = "unexplained.rs")]
mod explain;
mod future;
mod head;
mod layer;
mod parking;
mod preflight;
mod rejection;
mod rejection_kind;
#[cfg(feature = "inbox")]
mod replay;
mod service;
#[cfg(feature = "payload")]
mod timestamped;
mod trial;

#[cfg(feature = "inbox")]
pub(crate) use self::replay::Replay;
pub use self::{
    body::{ResponseBody, VerifiedBody},
    future::ResponseFuture,
    layer::KlikitVerifyLayer,
    rejection::Rejection,
    rejection_kind::RejectionKind,
    service::KlikitVerify,
};

//! Middleware that verifies the signature of klikit's deliveries.
//!
//! [`KlikitVerifyLayer`] reads a request's body within limits, verifies its signature, and passes the same bytes on as
//! a [`VerifiedBody`], with an [`EventId`](crate::EventId) and a [`Delivery`](crate::Delivery) in the request's
//! extensions. A rejected request never reaches the inner service.
//!
//! # Rules
//!
//! Before the layer reads the body, it requires:
//!
//! - exactly one `x-klikit-signature` header of 64 hex digits, or it responds with 403;
//! - the `Authorization` header that [`require_basic_auth`](KlikitVerifyLayer::require_basic_auth) demands, if it was
//!   called, or it responds with 403;
//! - exactly one `x-klikit-event-id` header of 1 to 255 visible ASCII characters, or it responds with 400. A missing
//!   one can be [allowed](KlikitVerifyLayer::allow_missing_event_id);
//! - a `Content-Length` of at most twice [`body_limit`](KlikitVerifyLayer::body_limit), or it responds with 413 at
//!   once.
//!
//! While the body arrives:
//!
//! - its bytes are counted, even if it has a `Content-Length`. A body beyond the limit gets 413, never "invalid
//!   signature";
//! - it must be complete within [`body_deadline`](KlikitVerifyLayer::body_deadline), or it gets 408. Frames without
//!   data do not extend the deadline;
//! - all waiting bodies together hold at most [`buffer_budget`](KlikitVerifyLayer::buffer_budget). If the budget is
//!   used up, a body that needs more evicts others, which get 503 with `Retry-After`;
//! - the rest of a body that gets 413 or 503 is read and discarded for up to a second and up to twice the limit. A
//!   sender that writes the whole body before it reads can thus see the response;
//! - a read error gets 400, even after the last byte. Trailers are not signed and are dropped.
//!
//! Then the layer computes the HMAC-SHA256 of the body for each secret of the keyring until one matches the signature.
//! It compares in constant time and responds with 403 if no secret matches. One poll hashes at most 256 KiB, for all
//! secrets together, and then yields. A body that arrived in one frame is passed on without a copy.
//!
//! Only the body is signed. The method, the path, the query, the content type and all other headers of a verified
//! request are unsigned: an attacker who has captured a delivery can send it again with others.
//!
//! # Responses
//!
//! klikit treats any 2xx within 10 seconds as "delivered". After any other response, or none, it sends the delivery
//! again, with growing pauses. The response of the handler is passed on unchanged. The layer's own responses:
//!
//! | status | consequence |
//! |---|---|
//! | 403 | if klikit sent the request: the secret is wrong, or a proxy in front of the layer rewrites bodies or drops headers |
//! | 403, with a [timestamped signature](#timestamped-signatures) | the clocks differ, the header names another event than the signed body, or somebody sends a captured delivery again |
//! | 400 | klikit's pages disagree on whether the event id is optional, and its sample receivers reject a delivery without one. So does this layer, unless a missing id is [allowed](KlikitVerifyLayer::allow_missing_event_id) |
//! | 408 | klikit has timed out already, and retries |
//! | 413 | klikit's retries fail too: raise [`body_limit`](KlikitVerifyLayer::body_limit) if the delivery is a genuine batch. Six large orders take about 160 kB |
//! | 503 | klikit retries after `Retry-After`. [`buffer_budget`](KlikitVerifyLayer::buffer_budget) documents which body is evicted: usually one of an attacker |
//!
//! The response bodies are short JSON, such as `{"error":"invalid signature"}`. They do not say why a signature did not
//! match. The log does, and so does the [`Rejection`] in the response's extensions, for logging layers outside.
//! [`on_rejection`](KlikitVerifyLayer::on_rejection) customises the responses. With the feature `diagnose`,
//! [`explain_mismatches`](KlikitVerifyLayer::explain_mismatches) logs the cause too.
//!
//! A [`RejectionLog`](crate::RejectionLog) keeps the last rejections in memory, so that operators can look them up
//! without a log server. [`rejection_log`](KlikitVerifyLayer::rejection_log) sets it.
//!
//! # Logs
//!
//! The feature `tracing` logs to the targets `tower_klikit::verify`, `tower_klikit::dedupe`, `tower_klikit::inbox` and
//! `tower_klikit::store`. The stores log to targets with the names of their packages. Neither this crate nor the
//! drivers of the stores log a body, a secret or a whole signature, at any level (`stores/soak/tests/secrecy.rs` checks
//! the output of a run at the level `trace`).
//!
//! Each request that reaches the layer has the span `klikit_delivery`, at the level `info`
//! and with the target `tower_klikit::verify`. The handler's log lines belong to the span. Fields without a value are
//! left out.
//!
//! | field | meaning |
//! |---|---|
//! | `event_id`, `event_type` | the values of the headers, if they are valid; unverified unless the verdict is `verified`. With a timestamped signature, the values in the signed body |
//! | `tenant` | the tenant of the keyring that verifies the request |
//! | `secret_id` | the id of the secret that matched |
//! | `verdict` | `verified`; `rejected`; or `abandoned`, if the sender disconnected or an outer layer dropped the request before there was a verdict |
//! | `reason` | the reason for a rejection, as in [`RejectionKind::as_str`] |
//! | `status` | the status of the response, if there was one |
//! | `bytes` | the number of bytes of the body that have arrived |
//! | `body_wait_ms` | the time spent waiting for the body and reading it, without the hashing, in milliseconds |
//! | `hash_us` | the time spent hashing the body, in microseconds; pieces of less than 4 KiB count as waiting, so that a sender cannot cause a clock read for each byte |
//!
//! Rejections are logged as warnings, and so is every response that takes 8 seconds or longer, because klikit counts a
//! delivery as failed after 10. These lines are complete without the span. Successful deliveries are not logged above
//! `debug`. Each attempt of an inbox's worker has a span of its own, `klikit_attempt`, with the target
//! `tower_klikit::inbox`.
//!
//! # The rate of log lines
//!
//! A sender needs no secret to be rejected, so log lines about rejected requests are limited. Each layer logs a burst
//! of 10 lines and then one a second for each [reason](RejectionKind::as_str). Clones of a layer share the limit. The
//! field `left_out` of a line is the number of lines with that reason that were left out since the last one. The
//! metrics count every request, a [`RejectionLog`](crate::RejectionLog) has every rejection, and each response has its
//! [`Rejection`] in its extensions. An equal limit applies to each of these kinds of line:
//!
//! - requests that took 8 seconds or longer and were rejected, or whose sender disconnected by then;
//! - an `on_rejection` that returns a success status, and an inner layer or extractor that finds no verified delivery;
//! - deliveries that a store fails to claim or accept, or that find the inbox full;
//! - event ids that are reused with another body, or with a rewritten one.
//!
//! Other lines are not limited, because only a verified delivery that is handled causes them: slow responses, failed
//! attempts, dead letters, lost claims and leases, handlers that hang or block, and orders without a readable id.
//!
//! # Timestamped signatures
//!
//! An older version of klikit's documentation describes another signature: `x-klikit-signature: t=<seconds>,v1=<hex>`
//! over `<t>.<body>`, with an envelope in the body that names the event.
//! [`accept_timestamped`](KlikitVerifyLayer::accept_timestamped) (feature `payload`) accepts it in addition to the current one. The id and the type of such a delivery are signed: the handler sees those
//! of the envelope. The layer then rejects a body with a current signature that begins with a timestamp and a dot, with
//! 403: that is a timestamped delivery whose time limit was stripped.
//!
//! # Readiness
//!
//! [`KlikitVerify`] is always ready. It polls the inner service for readiness only after a request is verified, and
//! then calls the instance that it polled. A sender without the secret therefore takes no permit of a concurrency limit
//! and delays no other request.
//!
//! # Where it belongs
//!
//! - On the webhook's route, not on the whole application: axum's `Router::layer` also covers the fallback and health
//!   checks, and tonic's `Server::layer` every gRPC call. With tonic, merge an axum router into tonic's `Routes`, and
//!   serve both over HTTP/1.1 and HTTP/2, as `examples/tonic.rs` does.
//! - Outside of layers that rewrite bodies, such as decompression, because klikit signs the bytes on the wire.
//! - Inside of tracing, timeouts and panic catchers.
//! - Outside of concurrency limits, so that unverified requests take no permit.
//!
//! axum's `from_fn` takes axum's body. To use it directly behind the layer in one `ServiceBuilder`, use
//! [`with_body`](KlikitVerifyLayer::with_body). Behind another layer, convert that layer's body:
//!
//! ```
//! use axum::{
//!     Router,
//!     body::Body,
//!     extract::Request,
//!     middleware::{Next, from_fn},
//!     response::Response,
//!     routing::post,
//! };
//! use tower::ServiceBuilder;
//! use tower_http::{
//!     decompression::RequestDecompressionLayer,
//!     map_request_body::MapRequestBodyLayer,
//!     trace::TraceLayer,
//! };
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
//! axum's extractors have a limit of their own, 2 MB by default. If you raise
//! [`body_limit`](KlikitVerifyLayer::body_limit) above that, raise the limit of the extractors too.
//!
//! # What it costs
//!
//! The cost is little more than the hash. On a machine with SHA instructions, an 8 KiB body in one frame takes 1.07
//! times the bare HMAC-SHA256 and five allocations (eleven with the feature `metrics`). `cargo bench --bench verify`
//! compares the time with that of the hash in the same run. `cargo bench --bench instructions` prints instruction
//! counts, which are reproducible (it needs valgrind).
//!
//! # Customised example
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
mod digest;
mod expected;
#[cfg_attr(not(feature = "diagnose"), path = "explain_disabled.rs")]
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

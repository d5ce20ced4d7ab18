//! Tower middleware that receives klikit's webhooks.
//!
//! klikit is a restaurant order aggregator: it POSTs order events to a partner's endpoint and signs each body. This crate
//! stands between klikit and the handler, so that a handler of any Tower-based framework sees only requests that klikit
//! signed, with the bytes untouched and a verified [`EventId`] in the extensions.
//!
//! ```
//! use axum::{Extension, Router, body::Bytes, routing::post};
//! use tower_klikit::{EventId, KlikitVerifyLayer};
//!
//! async fn order(Extension(id): Extension<EventId>, body: Bytes) {
//!     println!("{id}: {} bytes that klikit signed", body.len());
//! }
//!
//! let verify = KlikitVerifyLayer::new("your-webhook-secret");
//! let app: Router = Router::new().route("/webhooks/klikit", post(order).layer(verify));
//! ```
//!
//! A delivery walks through the crate one way:
//!
//! ```text
//!  HTTP request
//!    │
//!    ▼ KlikitVerifyLayer      is this from klikit?      403 · 413 · 408 · 400 · 503
//!    │   Request<VerifiedBody>, with EventId and Delivery in the extensions
//!    ├──────────────▶ handler                            idempotent by itself
//!    ├──────────────▶ KlikitDedupeLayer ─▶ handler       handled before? 200 duplicate-ignored
//!    └──────────────▶ Inbox::acceptor                    stored on disk, then 200 received
//!                       └─ Inbox::worker ─▶ handler      later: retries, backoff, dead letters, order
//! ```
//!
//! The handler is the same Tower service in all three.
//!
//! - [`verify`] has the rules of that layer, and where it belongs in a stack of layers;
//! - `dedupe` has the rules of the second layer, `inbox` those of the inbox, and `store` what both keep deliveries in;
//! - [`Keyring`] holds several secrets side by side and changes them while the service runs;
//! - [`Delivery`] and [`EventId`] are what the handler finds in the extensions;
//! - [`FailureReason`] is what a handler can tell about its response beyond the status;
//! - [`preflight`] says what is wrong with secrets and limits, before the first delivery comes;
//! - `payload` has the body, typed, and `axum` the arguments of axum's handlers;
//! - `diagnose` says why a delivery did not verify, and what to do;
//! - `metrics` has the names of what is counted;
//! - `testing::SignedDelivery` signs requests for the tests of whoever receives them;
//! - [`guides`] cover what comes in front of the layer: the server, a proxy, and what no layer can see.
//!
//! # What is signed
//!
//! The body, and nothing else. The event id and the event type are not, and nothing bounds a delivery's age: whoever captures
//! one body and its signature can send it again for ever, under another id or as another type. So let the body decide what
//! matters, and make the handler idempotent: klikit delivers at least once.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `tracing` | yes | a span for each delivery; a log line for each refusal, with the reason that the wire does not tell |
//! | `metrics` | no | `metrics`: deliveries counted by verdict and by secret, times, and what is in the inbox |
//! | `testing` | no | `testing::SignedDelivery`, `testing::FakeKlikit`; with `payload`, orders |
//! | `dedupe` | no | `dedupe::KlikitDedupeLayer`, `store::MemoryStore` |
//! | `inbox` | no | `inbox::Inbox`; implies `dedupe` |
//! | `payload` | no | `payload::OrderEvent`; `KlikitVerifyLayer::accept_timestamped` |
//! | `axum` | no | `axum::KlikitEvent`; implies `payload` |
//! | `diagnose` | no | `KlikitVerifyLayer::explain_mismatches`; `diagnose::diagnose` and `diagnose::Diagnostician`, which say why a delivery did not verify; `diagnose::SupportReport` |
//! | `full` | no | everything |
//!
//! A feature adds items; none changes what the crate does.
//!
//! # Runtime
//!
//! A body that has to be waited for, or that comes in 64 frames or more, needs a tokio runtime with its timer enabled; without
//! one the future panics. hyper, axum and tonic servers run in one.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "dedupe")]
mod answer;
#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "dedupe")]
mod blocking;
#[cfg(feature = "dedupe")]
mod deadline;
#[cfg(feature = "dedupe")]
pub mod dedupe;
#[cfg(feature = "diagnose")]
pub mod diagnose;
mod event;
pub mod guides;
pub mod header;
#[cfg(feature = "inbox")]
pub mod inbox;
#[cfg(any(feature = "dedupe", feature = "diagnose", feature = "payload"))]
mod json;
mod keyring;
mod klikit;
#[cfg(feature = "dedupe")]
mod nudge;
#[cfg(feature = "dedupe")]
mod object_safe;
#[cfg(feature = "payload")]
pub mod payload;
pub mod preflight;
mod reason;
mod secret;
mod signature;
#[cfg(feature = "dedupe")]
pub mod store;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod verify;
mod visible;

#[cfg(feature = "metrics")]
pub use crate::telemetry::metrics;
pub use crate::{
    event::{Delivery, EventId, EventType, OtherEventType},
    keyring::{Keyring, KeyringError, KeyringErrorKind},
    reason::FailureReason,
    secret::{SecretError, SecretErrorKind, WebhookSecret},
    signature::{ParseSignatureError, Signature},
    verify::{KlikitVerify, KlikitVerifyLayer, Rejection, RejectionKind, VerifiedBody},
};

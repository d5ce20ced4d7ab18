//! Tower middleware that receives klikit's webhooks.
//!
//! klikit is a restaurant order aggregator. It POSTs order events to a partner's endpoint and signs each body. With
//! this crate, a handler of any Tower-based framework receives only requests that klikit signed, with unchanged bodies
//! and an [`EventId`] in the extensions.
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
//! The path of a delivery:
//!
//! ```text
//!  HTTP request
//!    │
//!    ▼ KlikitVerifyLayer      verifies the signature     403 · 413 · 408 · 400 · 503
//!    │   Request<VerifiedBody>, with EventId and Delivery in the extensions
//!    ├──────────────▶ handler                            idempotent by itself
//!    ├──────────────▶ KlikitDedupeLayer ─▶ handler       handles once, else 200 duplicate-ignored
//!    └──────────────▶ Inbox::acceptor                    stores durably, then 200 received
//!                       └─ Inbox::worker ─▶ handler      later: retries, backoff, dead letters, order
//! ```
//!
//! The handler is the same Tower service in all three.
//!
//! - [`verify`] documents the rules of the verify layer and its place in a stack of layers;
//! - `dedupe` documents the dedupe layer, `inbox` the inbox, and `store` the stores of both;
//! - [`Keyring`] holds several secrets and can change while the service runs;
//! - [`Delivery`] and [`EventId`] are the metadata of a delivery in the request's extensions;
//! - [`FailureReason`] is a handler's explanation of its response;
//! - [`preflight`] finds mistakes in secrets and limits when a service starts;
//! - `payload` holds the typed body, and `axum` extractors for axum handlers;
//! - `diagnose` finds out why a delivery did not verify and how to fix it;
//! - `metrics` lists the names of the metrics;
//! - `testing::SignedDelivery` signs requests for the tests of receivers;
//! - [`guides`] cover everything in front of the layer: the server, proxies, and problems that no layer can detect.
//!
//! # What is signed
//!
//! klikit signs only the body. The event id and the event type are not signed, and the signature does not limit a
//! delivery's age. An attacker who captures a body and its signature can send them again at any time, under another id
//! or as another type. Base important decisions on the body, and make the handler idempotent: klikit delivers at least
//! once.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `tracing` | yes | a span for each delivery; a log line for each rejection, with the reason that the response does not tell |
//! | `metrics` | no | `metrics`: counters of deliveries by verdict and by secret, durations, and the size of the inbox |
//! | `testing` | no | `testing::SignedDelivery`, `testing::FakeKlikit`; with `payload`, orders |
//! | `dedupe` | no | `dedupe::KlikitDedupeLayer`, `store::MemoryStore` |
//! | `inbox` | no | `inbox::Inbox`; implies `dedupe` |
//! | `payload` | no | `payload::OrderEvent`; `KlikitVerifyLayer::accept_timestamped` |
//! | `axum` | no | `axum::KlikitEvent`; implies `payload` |
//! | `diagnose` | no | `KlikitVerifyLayer::explain_mismatches`; `diagnose::diagnose` and `diagnose::Diagnostician`, which find out why a delivery did not verify; `diagnose::SupportReport` |
//! | `full` | no | everything |
//!
//! Features only add items. They do not change the behaviour of other items.
//!
//! # Runtime
//!
//! A body that does not arrive at once, or that arrives in 64 frames or more, needs a tokio runtime with its timer
//! enabled. Without a runtime, the future panics. hyper, axum and tonic servers run in such a runtime.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

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
#[cfg(feature = "dedupe")]
mod direct_response;
mod error_chain;
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
    error_chain::ErrorChain,
    event::{Delivery, EventId, EventType, OtherEventType},
    keyring::{Keyring, KeyringError, KeyringErrorKind},
    reason::FailureReason,
    secret::{SecretError, SecretErrorKind, WebhookSecret},
    signature::{ParseSignatureError, Signature},
    verify::{KlikitVerify, KlikitVerifyLayer, Rejection, RejectionKind, VerifiedBody},
};

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
//!    ▼ KlikitVerifyLayer    verifies the signature    403 · 413 · 408 · 400 · 503
//!    │   Request<VerifiedBody>, with EventId and Delivery in the extensions
//!    ├──────────────▶ handler                         idempotent by itself
//!    ├──────────────▶ KlikitDedupeLayer ─▶ handler    handles once, else 200 duplicate-ignored
//!    └──────────────▶ Inbox::acceptor                 stores durably, then 200 received
//!                       └─ Inbox::worker ─▶ handler   later: retries, dead letters, ordering
//! ```
//!
//! The handler is the same Tower service in all three.
//!
//! | module or type | contains |
//! |---|---|
//! | [`verify`] | the rules of [`KlikitVerifyLayer`], its responses, its logs, and its place in a stack of layers |
//! | [`dedupe`] | the rules of [`KlikitDedupeLayer`](dedupe::KlikitDedupeLayer): what identifies a delivery, conflicts, replays |
//! | [`inbox`] | the rules of [`Inbox`](inbox::Inbox), its [`Worker`](inbox::Worker), retries and dead letters |
//! | [`store`] | [`MemoryStore`](store::MemoryStore), and a comparison of the stores in other packages |
//! | [`Keyring`], [`WebhookSecret`] | several secrets that can change while the service runs, for one tenant or many |
//! | [`Delivery`], [`EventId`], [`EventType`] | the metadata of a delivery in the request's extensions |
//! | [`FailureReason`] | a handler's explanation of its response |
//! | [`RejectionLog`] | the last rejections of a verify layer, in memory, for operators |
//! | [`payload`] | the typed body: [`OrderEvent`](payload::OrderEvent), [`Order`](payload::Order) |
//! | [`axum`](mod@crate::axum) | extractors for axum handlers: [`KlikitEvent`](crate::axum::KlikitEvent) |
//! | [`preflight`] | mistakes in secrets and limits, found when a service starts |
//! | [`diagnose`] | why a delivery did not verify and how to fix it: [`Diagnosis`](diagnose::Diagnosis) and a table of symptoms |
//! | [`metrics`](mod@crate::metrics) | the names of the metrics, and recommended alerts |
//! | [`testing`] | [`SignedDelivery`](testing::SignedDelivery) and [`FakeKlikit`](testing::FakeKlikit), for the tests of receivers |
//! | [`header`] | the names of klikit's headers |
//! | [`guides`] | deploying, several nodes, local development, testing, backups, operating, security |
//!
//! The packages `tower-klikit-sqlite`, `tower-klikit-postgres` and `tower-klikit-redis` contain stores, and
//! `tower-klikit-store-tests` test suites for stores, also for your own.
//!
//! # What is signed
//!
//! klikit signs only the body. The event id and the event type are not signed, and the signature does not limit a
//! delivery's age. Base important decisions on the body, and make the handler idempotent: klikit delivers at least
//! once. The guide [Security](guides::security) has the details.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `tracing` | yes | a span for each delivery; a log line for each rejection, with the reason that the response does not tell |
//! | `metrics` | no | [`metrics`](mod@crate::metrics): counters of deliveries by verdict and by secret, durations, and the size of the inbox |
//! | `testing` | no | [`SignedDelivery`](testing::SignedDelivery), [`FakeKlikit`](testing::FakeKlikit); with `payload`, [`orders`](testing::orders) |
//! | `dedupe` | no | [`KlikitDedupeLayer`](dedupe::KlikitDedupeLayer), [`MemoryStore`](store::MemoryStore) |
//! | `inbox` | no | [`Inbox`](inbox::Inbox); implies `dedupe` |
//! | `payload` | no | [`OrderEvent`](payload::OrderEvent); [`accept_timestamped`](KlikitVerifyLayer::accept_timestamped) |
//! | `axum` | no | [`KlikitEvent`](crate::axum::KlikitEvent); implies `payload` |
//! | `diagnose` | no | [`explain_mismatches`](KlikitVerifyLayer::explain_mismatches); [`diagnose`](diagnose::diagnose()) and [`Diagnostician`](diagnose::Diagnostician), which find out why a delivery did not verify; [`SupportReport`](diagnose::SupportReport) |
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
#![cfg_attr(
    not(all(feature = "axum", feature = "diagnose", feature = "inbox", feature = "metrics", feature = "testing")),
    allow(rustdoc::broken_intra_doc_links, reason = "the pages link to the items of all features")
)]

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
mod rejection_log;
mod secret;
mod signature;
#[cfg(feature = "dedupe")]
pub mod store;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod verify;
mod visible;
mod whole_uri;
mod with_body;

#[cfg(feature = "metrics")]
pub use crate::telemetry::metrics;
pub use crate::{
    error_chain::ErrorChain,
    event::{Delivery, EventId, EventType, OtherEventType},
    keyring::{Keyring, KeyringError, KeyringErrorKind},
    reason::FailureReason,
    rejection_log::{LoggedRejection, RejectionLog},
    secret::{SecretError, SecretErrorKind, WebhookSecret},
    signature::{ParseSignatureError, Signature},
    verify::{KlikitVerify, KlikitVerifyLayer, Rejection, RejectionKind, VerifiedBody},
    with_body::{ConvertBody, WithBody},
};

//! Handled before?
//!
//! klikit delivers at least once, and tells receivers to remember the event id in a persistent store.
//! [`KlikitDedupeLayer`] does so, behind [`KlikitVerifyLayer`](crate::KlikitVerifyLayer), on any [`Ledger`].
//!
//! # Rules
//!
//! - A delivery is claimed before the handler sees it. The handler runs in a task of its own, so it finishes even when klikit
//!   hangs up at 10 seconds, and its claim is renewed all the while. A 2xx completes the claim; anything else, an error or a
//!   panic releases it, so that the next attempt is handled.
//! - A delivery that was handled is answered `200 {"status":"duplicate-ignored"}`.
//! - One that is being handled gets 503 with `Retry-After`, never 200: that attempt may yet fail.
//! - A store that is down, slow or unsure gets 503: klikit sends the delivery again, and nothing is lost.
//! - A known id with *another body* is a conflict: klikit does not sign the id, so a captured body sent under an id that was
//!   not seen yet would otherwise swallow the real delivery. It is handled once, marked as a [conflict](Claim::is_conflict) in
//!   the extensions, and logged; or what [`on_conflict`](KlikitDedupeLayer::on_conflict) says.
//! - Tenants have entries of their own: the scope is the [keyring's name](crate::Keyring::name), or
//!   [one for all](KlikitDedupeLayer::scope). The secret that matched is no part of it: a delivery signed with the old secret
//!   and retried with the new one is a duplicate.
//! - A request without a verified [`Delivery`](crate::Delivery) gets 500 and a log line that names the layer that is missing.
//!
//! The handler finds the [`Claim`] in the extensions: a handler that writes to the same database as the ledger can complete
//! it within its own transaction, and so take effect exactly once.
//!
//! # Example
//!
//! ```
//! use axum::{Router, routing::post};
//! use tower::ServiceBuilder;
//! use tower_klikit::{KlikitVerifyLayer, dedupe::KlikitDedupeLayer, store::MemoryStore};
//!
//! let stack = ServiceBuilder::new()
//!     .layer(KlikitVerifyLayer::new("your-webhook-secret"))
//!     .layer(KlikitDedupeLayer::new(MemoryStore::new()));
//! let app: Router = Router::new().route("/webhooks/klikit", post(|| async {}).layer(stack));
//! ```
//!
//! # Panics
//!
//! The service has to be called within a tokio runtime with its timer enabled.

mod config;
mod error;
mod future;
mod identity;
mod layer;
mod ledger;
mod preflight;
mod service;
mod task;

pub(crate) use self::ledger::DynLedger;
pub use self::{
    error::StoreError,
    future::ResponseFuture,
    identity::{ConflictPolicy, Identity},
    layer::KlikitDedupeLayer,
    ledger::{BodyDigest, Claim, ClaimOutcome, EventKey, Ledger, Token},
    service::KlikitDedupe,
};
#[cfg(feature = "inbox")]
pub(crate) use self::{
    identity::{Found, Recognition},
    ledger::short_hash,
    task::handle,
};

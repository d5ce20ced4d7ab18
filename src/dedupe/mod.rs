//! Middleware that handles each delivery once.
//!
//! klikit delivers at least once, and tells receivers to remember the event id in a persistent store.
//! [`KlikitDedupeLayer`] does that behind [`KlikitVerifyLayer`](crate::KlikitVerifyLayer), on any [`Ledger`].
//!
//! # Rules
//!
//! - A delivery is claimed before the handler sees it. A 2xx response completes the claim. Any other response, an error
//!   or a panic releases it, so that the next attempt is handled.
//! - The handler finishes even if klikit hangs up after 10 seconds: a task of its own then takes the delivery to its
//!   end.
//! - One task renews the claims of all running handlers, so that a handler may block its thread. A claim can expire all
//!   the same, if handlers block every thread or the store is out of reach. Then this layer does not handle another
//!   copy, and the handler's success still counts unless another node has claimed the delivery meanwhile. Make one
//!   layer for a store and clone it, since two layers know of each other's deliveries by the store alone.
//! - A delivery that was handled is answered with `200 {"status":"duplicate-ignored"}`.
//! - A delivery that is being handled is answered with 503 and `Retry-After`, never with 200: that attempt may yet
//!   fail.
//! - If the store is down, slow or unsure, the response is 503: klikit sends the delivery again, and nothing is lost.
//! - A known id with *another body* is a conflict: klikit does not sign the id, so a captured body that is sent under
//!   an id not seen yet would otherwise swallow the real delivery. A conflict is handled once, marked as a
//!   [conflict](Claim::is_conflict) in the extensions, and logged, unless
//!   [`on_conflict`](KlikitDedupeLayer::on_conflict) says otherwise.
//! - Bodies are compared by their SHA-256, which does not depend on the secret: a delivery signed with the old secret
//!   and retried with the new one is a duplicate.
//! - Tenants have entries of their own: the scope is the [keyring's name](crate::Keyring::name), or
//!   [one scope for all](KlikitDedupeLayer::scope).
//! - A known body that comes with another id is handled, and [marked as a copy](crate::Delivery::is_copy), up to a
//!   [limit](KlikitDedupeLayer::replay_limit): see [Replays](#replays).
//! - A request without a verified [`Delivery`](crate::Delivery) is answered with 500, and a log line names the missing
//!   layer.
//!
//! The handler finds the [`Claim`] in the extensions. A handler that writes to the ledger's own database can complete
//! the claim in its transaction, and so take effect exactly once.
//!
//! # Replays
//!
//! klikit signs the body alone, so a captured delivery can be sent again under any number of fresh ids, for as long as
//! the secret is valid. Each of them looks like a new event.
//!
//! - The layer remembers in memory which ids a body came with. A body may come with [16 ids in an
//!   hour](KlikitDedupeLayer::replay_limit), and any further id gets 503. A warning comes once in a window, and the
//!   counter `klikit_replays_total` grows.
//! - If a [missing id is allowed](crate::KlikitVerifyLayer::allow_missing_event_id), a captured delivery can be sent once more
//!   without its id. It is remembered by its body, which is another key than its id, so it is handled, once, and marked as a
//!   copy. A missing id counts like a further id.
//! - The limit is on ids. A delivery whose handler failed is handled again under its id, as klikit's own retries are.
//! - The handler can tell a copy by [`Delivery::is_copy`](crate::Delivery::is_copy).
//! - The memory holds some 16,000 bodies for each layer. A body that is being replayed is not pushed out by others. What
//!   is remembered is this process's own, and is lost with it: the first delivery after a restart is no copy.
//! - While a body is being replayed, a genuine event with the same body is rejected too, and klikit sends it again.
//! - **If no two events of yours have the same body, set [`Identity::Body`].** Then a copy is a duplicate under any id, on
//!   every node and after a restart. Bodies of orders that carry the time of their last change are such. A body that klikit
//!   may repeat is not.
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
//! Call the service within a tokio runtime with its timer enabled.

mod call;
mod config;
mod error;
mod flow;
mod future;
mod keeper;
mod key_map;
mod layer;
mod ledger;
mod policy;
mod preflight;
mod replays;
mod running;
mod service;

#[cfg(feature = "inbox")]
pub(crate) use self::{
    call::Call,
    ledger::short_hash,
    policy::{DedupePolicy, Match},
};
pub use self::{
    error::StoreError,
    future::ResponseFuture,
    layer::KlikitDedupeLayer,
    ledger::{BodyDigest, Claim, ClaimOutcome, ClaimTerms, EventKey, Ledger, Token},
    policy::{ConflictPolicy, Identity},
    service::KlikitDedupe,
};
pub(crate) use self::{key_map::KeyMap, replays::ReplayLimit};

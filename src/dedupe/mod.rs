//! Middleware that handles each delivery once.
//!
//! klikit delivers at least once, and tells receivers to remember the event id in a persistent store.
//! [`KlikitDedupeLayer`] does that behind [`KlikitVerifyLayer`](crate::KlikitVerifyLayer), on any [`Ledger`].
//!
//! # Rules
//!
//! - A delivery is claimed before the handler is called. A 2xx response completes the claim. Any other response, an
//!   error or a panic releases the claim, so that the next attempt is handled.
//! - The handler finishes even if klikit hangs up after 10 seconds. A separate task then runs it to its end.
//! - One task renews the claims of all running handlers, so a handler may block its thread. A claim can still expire if
//!   handlers block every thread, or if the store is unreachable. While the handler runs, this layer does not handle
//!   another copy. The handler's success counts unless another node has claimed the delivery meanwhile.
//! - Create one layer per store and clone it. Two separate layers know of each other's running handlers only through
//!   the store.
//! - A delivery that was handled before gets `200 {"status":"duplicate-ignored"}`.
//! - A copy of a delivery that is being handled gets 503 with `Retry-After`, never 200, because the running attempt may
//!   still fail.
//! - If the store fails or is [slow](KlikitDedupeLayer::claim_deadline), or the handler takes longer than
//!   [`handler_deadline`](KlikitDedupeLayer::handler_deadline), the response is 503 with `Retry-After`. klikit sends the
//!   delivery again, and nothing is lost.
//! - A known id with *another body* is a conflict. klikit does not sign the id, so an attacker could send a captured
//!   body with an id that is not yet used, and the genuine delivery with that id must not be dropped. A conflict is
//!   handled once, logged, and marked as a [conflict](Claim::is_conflict) in the extensions.
//!   [`on_conflict`](KlikitDedupeLayer::on_conflict) changes that.
//! - Bodies are compared by their SHA-256, which does not depend on the secret. A delivery that was signed with the old
//!   secret and is retried with the new one is a duplicate.
//! - Tenants do not share entries: the scope of an entry is the [keyring's name](crate::Keyring::name), unless [one
//!   scope for all tenants](KlikitDedupeLayer::scope) is set.
//! - A known body with another id is handled and [marked as a copy](crate::Delivery::is_copy), up to a
//!   [limit](KlikitDedupeLayer::replay_limit): see [Replays](#replays).
//! - The handler must be idempotent nevertheless: klikit delivers at least once, and a crash can come between the
//!   handler's success and its record in the store.
//! - A request without a verified [`Delivery`](crate::Delivery) gets 500, and a log line names the missing layer.
//!
//! With the policy [`ConflictPolicy::Reject`], a conflict gets 409.
//!
//! The [`Claim`] is in the request's extensions. A handler that writes to the ledger's database can complete the claim
//! in its own transaction, and so take effect exactly once.
//!
//! # Replays
//!
//! klikit signs the body alone. So a captured delivery can be sent again with any number of new ids for as long as the
//! secret is valid, and each copy looks like a new event.
//!
//! - The layer remembers in memory which ids each body came with. A body may come with [16 ids in an
//!   hour](KlikitDedupeLayer::replay_limit). Further ids get 503 and count in `klikit_replays_total`. A warning is
//!   logged once per window.
//! - If a [missing id is allowed](crate::KlikitVerifyLayer::allow_missing_event_id), a captured delivery can be sent
//!   once more without its id. Its key is then derived from the body, so the copy is handled once, and marked as a copy.
//!   A missing id counts like another id.
//! - The limit applies to ids. A delivery whose handler failed is handled again with its id, as in klikit's own
//!   retries.
//! - A handler can recognise a copy by [`Delivery::is_copy`](crate::Delivery::is_copy).
//! - The memory holds about 16,000 bodies per layer. Other bodies do not push out a body that is being replayed. The
//!   memory is not shared and not stored: the first delivery of a body after a restart is not marked as a copy.
//! - While a body is being replayed, a genuine event with the same body is rejected too, and klikit sends it again.
//! - **If your events never have the same body, set [`Identity::Body`].** Then a copy is a duplicate with any id, on
//!   every node and after a restart. This holds for orders whose bodies contain the time of their last change, and not
//!   for bodies that klikit may repeat.
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
//! # What it costs
//!
//! De-duplication adds the SHA-256 of the body, and with the memory store 1.5 to 2.2 µs (`cargo bench --features full
//! --bench dedupe`). A delivery that never waits needs no task and no timer. Other stores add [their response
//! times](crate::store#what-they-cost).
//!
//! # Panics
//!
//! The service panics if it is called outside of a tokio runtime, or in a runtime whose timer is not enabled.

mod admin;
mod call;
mod config;
mod entry;
mod error;
mod flow;
mod future;
mod key;
mod key_map;
mod layer;
mod ledger;
mod policy;
mod preflight;
mod renewal;
mod replays;
mod running;
mod service;

pub use self::{
    admin::LedgerAdmin,
    entry::{LedgerEntry, LedgerSelection, LedgerState},
    error::StoreError,
    future::ResponseFuture,
    key::{BodyDigest, EventKey, Token},
    layer::KlikitDedupeLayer,
    ledger::{Claim, ClaimOutcome, ClaimTerms, Ledger},
    policy::{ConflictPolicy, Identity},
    service::KlikitDedupe,
};
#[cfg(feature = "inbox")]
pub(crate) use self::{
    call::Call,
    key::short_hash,
    policy::{DedupePolicy, Match},
};
pub(crate) use self::{key_map::KeyMap, replays::ReplayLimit};

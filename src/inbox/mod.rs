//! A durable inbox: acknowledge deliveries at once, process them later.
//!
//! klikit treats a response that takes longer than 10 seconds as a failure, and recommends responding within one second
//! and working in the background. [`Inbox`] does that without losing acknowledged deliveries. Mount its
//! [acceptor](Inbox::acceptor) where your handler was; it stores each delivery durably and responds. Its
//! [worker](Inbox::worker) then calls your handler with the stored deliveries.
//!
//! # Rules
//!
//! Accepting:
//!
//! - The acceptor responds `200 {"status":"received"}` once the delivery and its ledger row are durable. The store
//!   commits both together. A delivery that is stored already, or was handled before, gets `200
//!   {"status":"duplicate-ignored"}`.
//! - If the store fails, takes longer than [`accept_deadline`](Inbox::accept_deadline), or holds [too many pending
//!   deliveries](Inbox::max_backlog), the response is 503 with `Retry-After`, and klikit sends the delivery again. The
//!   same applies while a [dedupe layer](crate::dedupe) on the same store is handling the delivery.
//! - The store holds at most [a million deliveries](Inbox::max_stored): pending ones, dead letters and kept ones. At
//!   the limit, kept deliveries are deleted early. If there are no kept deliveries, the response is 503 as well. Dead
//!   letters are never deleted to make space.
//! - The inbox stores a bounded part of a request's head. A query over 2 KiB is left out and logged. A content type
//!   over 255 bytes loses its parameters. A path over 2 KiB gets 414 and a method over 32 bytes gets 501, because the
//!   worker could not find the handler without them. klikit sends neither.
//! - A known id with *another body* is a conflict and is handled as a delivery of its own: see
//!   [`dedupe`](crate::dedupe). While the earlier body is still stored, a copy that has the same JSON with other white
//!   space, member order or escapes is a duplicate.
//! - A request without a verified [`Delivery`](crate::Delivery) gets 500, and a log line names the missing layer.
//! - A known body with another id is a copy, perhaps a replay of a captured delivery. Up to [16 ids in an
//!   hour](Inbox::replay_limit) are handled and [marked as copies](crate::Delivery::is_copy). Further ids get 503: see
//!   [Replays](crate::dedupe#replays).
//!
//! Handling:
//!
//! - The handler gets the same request as without an inbox: method, path, query, content type, body,
//!   [`EventId`](crate::EventId) and [`Delivery`](crate::Delivery). The extensions also hold an [`Attempt`]. Other
//!   headers are not stored.
//! - The path is the one that the client sent, even if the acceptor is inside axum's `Router::nest` (feature `axum`).
//!   The handler may be a router that still has the verify and dedupe layers: they let stored deliveries through.
//! - klikit signs the body alone. Anybody who has captured a delivery can send it again with another method, path,
//!   query and content type, so base important decisions on the body.
//! - A 2xx response finishes the delivery. It is deleted with its body unless it is [kept](Inbox::keep_bodies). After
//!   400 and 422 it is dead-lettered at once, because a retry would fail in the same way. After any [other
//!   response](Worker::outcome), an error, a panic or a [timeout](Worker::handler_deadline), it is retried after a
//!   [backoff](Worker::backoff), and dead-lettered after [the last attempt](Worker::max_attempts): 25 attempts in some
//!   31 hours by default.
//! - A 404 or 405 usually means that the handler's route differs from the acceptor's. The worker logs it as an error
//!   with the method and the path.
//! - A handler can give the reason of a failure by a [`FailureReason`](crate::FailureReason) in its response's
//!   extensions. The reason appears in the log and in the [entry](Entry::reason).
//! - If a worker crashes, its deliveries are redelivered once their leases expire, and each redelivery counts as an
//!   attempt. A delivery that crashes the process every time is therefore dead-lettered after the last attempt.
//!   Deliveries that were in progress in the same process are retried at staggered times, so that one poisonous
//!   delivery does not take the others with it.
//! - A task of its own extends the leases of all running handlers, so that a handler may block its thread, although it
//!   should use `spawn_blocking`. A lease can still expire if handlers block every thread, or if the store is out of
//!   reach. The workers of this inbox and its clones then neither start the delivery again nor one that shares an
//!   ordering key with it. The outcome is reported until the store has heard it, and counts unless another node has
//!   leased the delivery.
//! - A dead letter stays with its body until an [operator](Operator) retries or deletes it, or klikit sends it again.
//!   Then it keeps its event id and event type, which klikit does not sign, and takes the path of the new request. That
//!   counts towards the [limit on replays](Inbox::replay_limit). Workers delete old dead letters only if a [limit on
//!   their age](Inbox::keep_dead_letters) is set.
//! - An [operator](Operator) retries, replays, dead-letters, forgets, erases and purges deliveries by their id or by a
//!   [`Filter`], which reaches pending deliveries only if it names them or their state. Each action can be previewed,
//!   and is logged.
//! - An operator [pauses](Operator::pause) a tenant or an event type, for all workers that share the store. What has
//!   not started is released, and running handlers finish.
//! - Tenants share the handlers: while deliveries of several are due, the backlog of one does not delay the others.
//! - A delivery can [expire](Worker::expire_after): a worker dead-letters it instead of calling the handler too late.
//! - Each attempt is [recorded](Entry::history) for as long as the delivery is stored.
//! - A delivery is handled at least once: a process that crashes, or that another node takes for crashed, may have
//!   handled a delivery that is then handled again. So make the handler idempotent. On Postgres, it can finish the
//!   delivery within its own transaction, and so handle it exactly once.
//! - On Postgres, `hand_off` passes deliveries to a job queue of yours in the transaction that accepts them. No worker
//!   of this crate is then needed.
//! - Deliveries are handled in no order unless [`order_by`](Inbox::order_by) says otherwise. A copy, or a dead letter
//!   that klikit sent again, waits for its turn like any other delivery. Once an attempt at it has failed, it loses its
//!   order and holds up no other.
//!
//! # Example
//!
//! ```no_run
//! use axum::{
//!     Extension, Router,
//!     body::Bytes,
//!     http::StatusCode,
//!     routing::{post, post_service},
//! };
//! use tower::Layer;
//! use tower_klikit::{EventId, KlikitVerifyLayer, inbox::Inbox, store::MemoryStore};
//!
//! async fn order(Extension(id): Extension<EventId>, body: Bytes) -> StatusCode {
//!     println!("{id}: {} bytes that klikit signed", body.len());
//!     StatusCode::OK
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tokio::task::JoinError> {
//! # let stop = std::future::pending::<()>();
//! # async fn serve(_: Router) {}
//! // A store in a database survives a restart. This one does not.
//! let inbox = Inbox::new(MemoryStore::new());
//!
//! let handler: Router = Router::new().route("/webhooks/klikit", post(order));
//! let worker = tokio::spawn(inbox.worker(handler).run_until(stop));
//!
//! let verify = KlikitVerifyLayer::new("your-webhook-secret");
//! let acceptor = post_service(verify.layer(inbox.acceptor()));
//! let app: Router = Router::new().route("/webhooks/klikit", acceptor);
//! # serve(app).await;
//! # worker.await
//! # }
//! ```
//!
//! Serve `app` until `stop`, and then wait for the worker, which finishes its running handlers. For a server with
//! timeouts and limits, copy `examples/src/serve.rs` from the repository: see [Deploying](crate::guides::deploying).
//!
//! # Panics
//!
//! Acceptors and workers panic outside of a tokio runtime with an enabled timer.

mod acceptor;
mod admin;
mod capacity;
mod config;
mod delivery;
mod entry;
mod estimate;
mod filter;
mod head;
mod health;
#[allow(clippy::module_inception, reason = "the file is named after the type that it holds")]
mod inbox;
mod labels;
mod operator;
mod ordering;
mod pages;
mod pause;
mod preflight;
mod reading;
mod settlement;
mod store;
mod target;
mod terms;
mod utc;
mod vitals;
mod worker;

pub use self::{
    acceptor::{AcceptFuture, Acceptor},
    admin::{InboxAdmin, LedgerRows, ShowBody},
    delivery::{Lease, Leased, NewDelivery},
    entry::{AttemptRecord, Counts, DeliveryId, DeliveryState, Entry},
    filter::{Filter, Page},
    health::Health,
    inbox::Inbox,
    operator::{Action, Forget, Operator, Requeue},
    ordering::{OrderBy, OrderingKey},
    pause::{ActivePause, Pause},
    settlement::{EXPIRED, LEASE_EXPIRED, OUTCOME_UNKNOWN, SettleOutcome, Settlement},
    store::{Acceptance, DeadLettered, InboxStore, LeaseBatch, LeaseRequest, Unreadable},
    terms::{SearchTerm, TermKind},
    worker::{Attempt, Expired, Outcome, Worker},
};

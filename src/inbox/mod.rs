//! Stored, acknowledged, and handled later.
//!
//! klikit counts an answer after more than 10 seconds as failed, and advises to answer within one and to work in the background.
//! An [`Inbox`] does so without losing what it has acknowledged: its [acceptor](Inbox::acceptor) stands where the handler stood,
//! stores each delivery, and answers; its [worker](Inbox::worker) hands what is stored to that same handler.
//!
//! # Rules
//!
//! - `200 {"status":"received"}` is answered when the delivery and its ledger row are on stable storage, committed together, and
//!   never before. A delivery that is stored, or was handled, is answered `200 {"status":"duplicate-ignored"}`.
//! - A store that is down or unsure, one that takes longer than [`accept_deadline`](Inbox::accept_deadline), and
//!   [too many deliveries](Inbox::max_backlog) that wait are answered with 503 and `Retry-After`: klikit sends the delivery again.
//! - A known id with *another body* is a conflict, and is handled on its own: see [`dedupe`](crate::dedupe).
//! - The handler gets the request as it would have seen it: method, path, query, content type, body,
//!   [`EventId`](crate::EventId) and [`Delivery`](crate::Delivery), and an [`Attempt`] beside them. Other headers are not
//!   stored. A router that still holds the layers that verify and de-duplicate may be the handler: they let it through.
//! - An answer of 2xx is the end of it, and the delivery is deleted with its body, unless it is to be
//!   [kept](Inbox::keep_bodies). 400 and 422 would come again whatever is done: the delivery is dead at once. Any
//!   [other answer](Worker::outcome), an error, a panic or a [handler that hangs](Worker::handler_deadline) is tried again after a
//!   [pause](Worker::backoff) that grows, until [the last attempt](Worker::max_attempts) has failed. Then it is dead too.
//! - A delivery whose worker died is taken up again when its lease has run out, and that counts as an attempt: a body that kills the
//!   process is dead after the last one. What was being handled beside it is begun at another moment, so that it need not die too.
//! - A dead delivery stays with its body until somebody [retries](Inbox::retry) or [forgets](Inbox::forget) it. When klikit sends
//!   it again, it is taken up again.
//! - A delivery is handled at least once: a process that dies, or that is cut off from the store for longer than a
//!   [lease](Worker::lease), may have handled what another then handles again. So make the handler idempotent; with Postgres, it
//!   can finish the delivery within its own transaction.
//! - Deliveries are handled in no order unless they are [to be](Inbox::order_by).
//!
//! # Example
//!
//! ```no_run
//! use axum::{Extension, Router, body::Bytes, http::StatusCode, routing::{post, post_service}};
//! use tower::Layer;
//! use tower_klikit::{EventId, KlikitVerifyLayer, inbox::Inbox, store::MemoryStore};
//!
//! async fn order(Extension(id): Extension<EventId>, body: Bytes) -> StatusCode {
//!     println!("{id}: {} bytes that klikit signed", body.len());
//!     StatusCode::OK
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! // SqliteStore::open("klikit.db")? survives a restart. This one does not.
//! let inbox = Inbox::new(MemoryStore::new());
//!
//! let handler: Router = Router::new().route("/webhooks/klikit", post(order));
//! let worker = inbox.worker(handler).run_until(async { _ = tokio::signal::ctrl_c().await });
//! let worker = tokio::spawn(worker);
//!
//! let verify = KlikitVerifyLayer::new("your-webhook-secret");
//! let app: Router = Router::new().route("/webhooks/klikit", post_service(verify.layer(inbox.acceptor())));
//! let listener = tokio::net::TcpListener::bind(("127.0.0.1", 8080)).await?;
//! axum::serve(listener, app).with_graceful_shutdown(async { _ = tokio::signal::ctrl_c().await }).await?;
//! worker.await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Panics
//!
//! Acceptors and workers have to run within a tokio runtime with its timer enabled.

mod acceptor;
mod backlog;
mod config;
mod delivery;
mod entry;
mod head;
mod operating;
mod ordering;
mod preflight;
mod settings;
mod store;
mod worker;

pub(crate) use self::store::RAN_OUT;
pub use self::{
    acceptor::{AcceptFuture, Acceptor},
    delivery::{Lease, Leased, NewDelivery},
    entry::{Counts, DeliveryId, DeliveryState, Entry},
    ordering::{OrderBy, OrderingKey},
    settings::Inbox,
    store::{Acceptance, InboxStore},
    worker::{Attempt, Outcome, Worker},
};

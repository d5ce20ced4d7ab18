//! Tests of the inbox: acknowledged deliveries are handled, whichever of handler, sender and store fails.
#![cfg(feature = "inbox")]

use tower_klikit_test_support::log;

mod accepting;
mod acting;
mod blocking;
mod draining;
mod expiring;
mod faults;
mod faulty_store;
mod finding;
mod health;
mod limits;
mod operating;
mod ordering;
mod pausing;
mod prefetching;
mod reasons;
mod requests;
mod rewritten;
mod sharing;
mod working;

use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tower::{Layer, Service, ServiceExt};
use tower_klikit::{
    EventId, Keyring, KlikitVerify, KlikitVerifyLayer, VerifiedBody, WebhookSecret,
    inbox::{Acceptor, Attempt, Counts, Inbox, InboxStore, LEASE_EXPIRED, Operator, OrderBy, Outcome, Worker},
    store::MemoryStore,
    testing::SignedDelivery,
};

use crate::{
    reactions::{BoxError, Reaction},
    support::{
        BODY, SECRET,
        answers::{self, send},
    },
};

/// One call of the handler.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HandlerCall {
    event_id: String,
    attempt: u32,
    is_last: bool,
    at: Instant,
}

/// A handler that records its calls. It takes its reactions from a list, and then repeats one reaction.
#[derive(Clone)]
struct ScriptedHandler {
    first: Arc<Mutex<VecDeque<Reaction>>>,
    afterwards: Arc<Mutex<Reaction>>,
    calls: Arc<Mutex<Vec<HandlerCall>>>,
    done: Arc<Mutex<Vec<String>>>,
}

impl ScriptedHandler {
    fn new(reaction: Reaction) -> Self {
        let afterwards = Arc::new(Mutex::new(reaction));
        Self { first: Arc::default(), afterwards, calls: Arc::default(), done: Arc::default() }
    }

    /// Sets the reactions to the first calls.
    fn first(self, reactions: impl IntoIterator<Item = Reaction>) -> Self {
        self.first.lock().unwrap().extend(reactions);
        self
    }

    fn set_reaction(&self, reaction: Reaction) {
        *self.afterwards.lock().unwrap() = reaction;
    }

    fn calls(&self) -> Vec<HandlerCall> {
        self.calls.lock().unwrap().clone()
    }

    fn attempts(&self) -> Vec<u32> {
        self.calls().iter().map(|call| call.attempt).collect()
    }

    /// Returns the event ids in the order in which the handler was called.
    fn begun(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.event_id).collect()
    }

    /// Returns the event ids in the order in which the handler responded.
    fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }
}

impl Service<Request<VerifiedBody>> for ScriptedHandler {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<VerifiedBody>) -> Self::Future {
        let event_id = request.extensions().get::<EventId>().expect("the request has an event id").to_string();
        let attempt = request.extensions().get::<Attempt>().expect("the request has an attempt");
        let (attempt, is_last) = (attempt.number(), attempt.is_last());
        self.calls.lock().unwrap().push(HandlerCall {
            event_id: event_id.clone(),
            attempt,
            is_last,
            at: Instant::now(),
        });
        let next = self.first.lock().unwrap().pop_front();
        let reaction = next.unwrap_or_else(|| self.afterwards.lock().unwrap().clone());
        let done = Arc::clone(&self.done);
        Box::pin(async move {
            let status = reaction.perform().await?;
            done.lock().unwrap().push(event_id);
            Ok(Response::builder().status(status).body(Full::from("handled")).unwrap())
        })
    }
}

type InboxStack = KlikitVerify<Acceptor>;

fn stack(inbox: &Inbox) -> InboxStack {
    KlikitVerifyLayer::new(SECRET).allow_missing_event_id().layer(inbox.acceptor())
}

/// Returns a stack for the deliveries of this tenant.
fn stack_for(inbox: &Inbox, tenant: &str) -> InboxStack {
    let keyring = Keyring::new(tenant, "1", WebhookSecret::new(SECRET).unwrap());
    KlikitVerifyLayer::with_keyring(keyring).layer(inbox.acceptor())
}

fn inbox() -> Inbox {
    Inbox::new(MemoryStore::new())
}

fn operator(inbox: &Inbox) -> Operator {
    inbox.operator("ana")
}

fn delivery() -> SignedDelivery {
    SignedDelivery::new(SECRET, BODY).event_id("evt-1")
}

fn numbered(number: usize) -> SignedDelivery {
    let body = BODY.replacen('{', &format!(r#"{{"number":{number},"#), 1);
    SignedDelivery::new(SECRET, body).event_id(format!("evt-{number}"))
}

fn other_body() -> SignedDelivery {
    SignedDelivery::new(SECRET, r#"{"brand_id":1,"branch_id":2,"orders":[]}"#).event_id("evt-1")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn assert_received(stack: &InboxStack, delivery: &SignedDelivery) {
    assert_eq!(send(stack, delivery).await, answers::ok(r#"{"status":"received"}"#));
}

async fn assert_duplicate(stack: &InboxStack, delivery: &SignedDelivery) {
    assert_eq!(send(stack, delivery).await, answers::duplicate());
}

async fn assert_unavailable(stack: &InboxStack, delivery: &SignedDelivery, error: &str) {
    answers::assert_unavailable(&send(stack, delivery).await, error);
}

/// A worker that runs in a task until the test stops it.
struct RunningWorker {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl RunningWorker {
    fn start(worker: Worker<ScriptedHandler>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        Self { stop, task: tokio::spawn(worker.run_until(stopped)) }
    }

    /// Stops the worker and waits until it has drained.
    async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }
}

/// Waits until the condition holds. `description` is for the panic if it never does.
async fn until(description: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000_000 {
        if holds().await {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("condition never held: {description}");
}

async fn until_counts(inbox: &Inbox, description: &str, holds: impl Fn(&Counts) -> bool) {
    until(description, async || holds(&inbox.counts().await.unwrap())).await;
}

async fn until_empty(inbox: &Inbox) {
    until_counts(inbox, "the inbox is empty", |counts| counts.backlog() == 0).await;
}

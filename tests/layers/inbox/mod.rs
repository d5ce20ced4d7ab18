//! The inbox: acknowledged deliveries are handled, under all faults of the handler, the peer and the store.
#![cfg(feature = "inbox")]

use tower_klikit_test_support::log;

mod accepting;
mod blocking;
mod draining;
mod faults;
mod limits;
mod operating;
mod ordering;
mod prefetching;
mod reasons;
mod requests;
mod rewritten;
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
    inbox::{Acceptor, Attempt, Counts, Inbox, InboxStore, LEASE_EXPIRED, OrderBy, Outcome, Worker},
    store::MemoryStore,
    testing::SignedDelivery,
};

use crate::support::{
    BODY, SECRET,
    answers::{self, send},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The handler's reaction to a delivery.
#[derive(Clone)]
enum Does {
    Answers(u16),
    AnswersAfter(Duration),
    Fails,
    Panics,
    Hangs,
    /// Waits for a permit.
    Waits(Arc<Semaphore>),
}

/// One call of the handler.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    event_id: String,
    attempt: u32,
    is_last: bool,
    at: Instant,
}

/// A handler that remembers its calls, and does what it is told: the next of a list, or else the same each time.
#[derive(Clone)]
struct Handler {
    line: Arc<Mutex<VecDeque<Does>>>,
    otherwise: Arc<Mutex<Does>>,
    calls: Arc<Mutex<Vec<Call>>>,
    done: Arc<Mutex<Vec<String>>>,
}

impl Handler {
    fn new(otherwise: Does) -> Self {
        let otherwise = Arc::new(Mutex::new(otherwise));
        Self { line: Arc::default(), otherwise, calls: Arc::default(), done: Arc::default() }
    }

    fn first(self, does: impl IntoIterator<Item = Does>) -> Self {
        self.line.lock().unwrap().extend(does);
        self
    }

    fn now(&self, does: Does) {
        *self.otherwise.lock().unwrap() = does;
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    fn attempts(&self) -> Vec<u32> {
        self.calls().iter().map(|call| call.attempt).collect()
    }

    /// The ids, in the order in which their handling began.
    fn begun(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.event_id).collect()
    }

    /// The ids, in the order in which they were answered.
    fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }
}

impl Service<Request<VerifiedBody>> for Handler {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<VerifiedBody>) -> Self::Future {
        let event_id = request.extensions().get::<EventId>().expect("an id").to_string();
        let attempt = request.extensions().get::<Attempt>().expect("a handler finds its attempt");
        let (attempt, is_last) = (attempt.number(), attempt.is_last());
        self.calls.lock().unwrap().push(Call { event_id: event_id.clone(), attempt, is_last, at: Instant::now() });
        let next = self.line.lock().unwrap().pop_front();
        let does = next.unwrap_or_else(|| self.otherwise.lock().unwrap().clone());
        let done = Arc::clone(&self.done);
        Box::pin(async move {
            let mut status = 200;
            match does {
                Does::Answers(other) => status = other,
                Does::AnswersAfter(time) => sleep(time).await,
                Does::Fails => return Err("the handler failed".into()),
                Does::Panics => panic!("the handler panicked"),
                Does::Hangs => pending().await,
                Does::Waits(permits) => permits.acquire().await.unwrap().forget(),
            }
            done.lock().unwrap().push(event_id);
            Ok(Response::builder().status(status).body(Full::from("handled")).unwrap())
        })
    }
}

type Stack = KlikitVerify<Acceptor>;

fn stack(inbox: &Inbox) -> Stack {
    KlikitVerifyLayer::new(SECRET).allow_missing_event_id().layer(inbox.acceptor())
}

fn inbox() -> Inbox {
    Inbox::new(MemoryStore::new())
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

async fn assert_received(stack: &Stack, delivery: &SignedDelivery) {
    assert_eq!(send(stack, delivery).await, answers::ok(r#"{"status":"received"}"#));
}

async fn assert_duplicate(stack: &Stack, delivery: &SignedDelivery) {
    assert_eq!(send(stack, delivery).await, answers::duplicate());
}

async fn assert_unavailable(stack: &Stack, delivery: &SignedDelivery, error: &str) {
    answers::assert_unavailable(&send(stack, delivery).await, error);
}

/// A worker that runs until it is told to stop.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(worker: Worker<Handler>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        Self { stop, task: tokio::spawn(worker.run_until(stopped)) }
    }

    /// Waits until it has drained.
    async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }
}

/// Waits, on the paused clock, until this holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000_000 {
        if holds().await {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

async fn until_counts(inbox: &Inbox, what: &str, holds: impl Fn(&Counts) -> bool) {
    until(what, async || holds(&inbox.counts().await.unwrap())).await;
}

async fn until_empty(inbox: &Inbox) {
    until_counts(inbox, "the inbox is empty", |counts| counts.backlog() == 0).await;
}

//! The de-duplication layer: each delivery is handled once, and none is lost, under all faults of the handler, the peer and the store.
#![cfg(feature = "dedupe")]

use tower_klikit_test_support::log;

mod blocking;
mod faults;
mod handling;
mod identity;

use std::{
    future::{Future, pending},
    ops::Range,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::Full;
use tokio::{sync::Semaphore, time::sleep};
use tower::{Layer, Service, ServiceExt};
use tower_klikit::{
    Keyring, KlikitVerify, KlikitVerifyLayer, VerifiedBody, WebhookSecret,
    dedupe::{
        Claim, ClaimOutcome, ClaimTerms, ConflictPolicy, EventKey, Identity, KlikitDedupe, KlikitDedupeLayer, Ledger,
        StoreError,
    },
    header::EVENT_ID,
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

/// A handler that counts, and does the same each time until told otherwise.
#[derive(Clone)]
struct Handler {
    does: Arc<Mutex<Does>>,
    started: Arc<AtomicUsize>,
    finished: Arc<AtomicUsize>,
    claims: Arc<Mutex<Vec<Claim>>>,
}

impl Handler {
    fn new(does: Does) -> Self {
        let does = Arc::new(Mutex::new(does));
        Self { does, started: Arc::default(), finished: Arc::default(), claims: Arc::default() }
    }

    fn now(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    fn finished(&self) -> usize {
        self.finished.load(Ordering::SeqCst)
    }

    fn last_claim(&self) -> Claim {
        self.claims.lock().unwrap().last().unwrap().clone()
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
        self.started.fetch_add(1, Ordering::SeqCst);
        let claim = request.extensions().get::<Claim>().expect("a handler finds its claim").clone();
        self.claims.lock().unwrap().push(claim);
        let (does, finished) = (self.does.lock().unwrap().clone(), Arc::clone(&self.finished));
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
            finished.fetch_add(1, Ordering::SeqCst);
            Ok(Response::builder().status(status).body(Full::from("handled")).unwrap())
        })
    }
}

type Stack = KlikitVerify<KlikitDedupe<Handler>>;

fn stack(layer: &KlikitDedupeLayer, handler: &Handler) -> Stack {
    KlikitVerifyLayer::new(SECRET).allow_missing_event_id().layer(layer.layer(handler.clone()))
}

fn dedupe() -> KlikitDedupeLayer {
    KlikitDedupeLayer::new(MemoryStore::new())
}

fn delivery() -> SignedDelivery {
    SignedDelivery::new(SECRET, BODY).event_id("evt-1")
}

fn other_body() -> SignedDelivery {
    SignedDelivery::new(SECRET, r#"{"brand_id":1,"branch_id":2,"orders":[]}"#).event_id("evt-1")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn assert_handled(stack: &Stack, delivery: &SignedDelivery) {
    assert_eq!(send(stack, delivery).await, answers::ok("handled"));
}

async fn assert_duplicate(stack: &Stack, delivery: &SignedDelivery) {
    assert_eq!(send(stack, delivery).await, answers::duplicate());
}

async fn assert_unavailable(stack: &Stack, delivery: &SignedDelivery, error: &str) {
    answers::assert_unavailable(&send(stack, delivery).await, error);
}

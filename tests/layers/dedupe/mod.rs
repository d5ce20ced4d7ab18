//! Tests of the dedupe layer: no delivery is handled twice or lost, whichever of handler, sender and store fails.
#![cfg(feature = "dedupe")]

use tower_klikit_test_support::log;

mod blocking;
mod faults;
mod handling;
mod identity;

use std::{
    future::Future,
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
        Claim, ClaimOutcome, ClaimTerms, ConflictPolicy, Identity, KlikitDedupe, KlikitDedupeLayer, Ledger,
        LedgerSelection, StoreError,
    },
    header::EVENT_ID,
    store::MemoryStore,
    testing::SignedDelivery,
};

use crate::{
    reactions::{BoxError, Reaction},
    support::{
        BODY, SECRET,
        answers::{self, Answer, send},
    },
};

/// A handler that counts its calls and reacts to each in the same way. The reaction can be changed.
#[derive(Clone)]
struct CountingHandler {
    reaction: Arc<Mutex<Reaction>>,
    started: Arc<AtomicUsize>,
    finished: Arc<AtomicUsize>,
    claims: Arc<Mutex<Vec<Claim>>>,
}

impl CountingHandler {
    fn new(reaction: Reaction) -> Self {
        let reaction = Arc::new(Mutex::new(reaction));
        Self { reaction, started: Arc::default(), finished: Arc::default(), claims: Arc::default() }
    }

    fn set_reaction(&self, reaction: Reaction) {
        *self.reaction.lock().unwrap() = reaction;
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

impl Service<Request<VerifiedBody>> for CountingHandler {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<VerifiedBody>) -> Self::Future {
        self.started.fetch_add(1, Ordering::SeqCst);
        let claim = request.extensions().get::<Claim>().expect("the request has a claim").clone();
        self.claims.lock().unwrap().push(claim);
        let (reaction, finished) = (self.reaction.lock().unwrap().clone(), Arc::clone(&self.finished));
        Box::pin(async move {
            let status = reaction.perform().await?;
            finished.fetch_add(1, Ordering::SeqCst);
            Ok(Response::builder().status(status).body(Full::from("handled")).unwrap())
        })
    }
}

type DedupeStack = KlikitVerify<KlikitDedupe<CountingHandler>>;

fn stack(layer: &KlikitDedupeLayer, handler: &CountingHandler) -> DedupeStack {
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

async fn assert_handled(stack: &DedupeStack, delivery: &SignedDelivery) {
    assert_eq!(send(stack, delivery).await, answers::ok("handled"));
}

async fn assert_duplicate(stack: &DedupeStack, delivery: &SignedDelivery) {
    assert_eq!(send(stack, delivery).await, answers::duplicate());
}

async fn assert_unavailable(stack: &DedupeStack, delivery: &SignedDelivery, error: &str) {
    answers::assert_unavailable(&send(stack, delivery).await, error);
}

//! Each delivery is handled once, and none is lost, whatever the handler, the peer or the store does.
#![cfg(feature = "dedupe")]

mod support;

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
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use support::{BODY, SECRET};
use tokio::{sync::Semaphore, time::sleep};
use tower::{Layer, Service, ServiceExt};
use tower_klikit::{
    Keyring, KlikitVerify, KlikitVerifyLayer, VerifiedBody, WebhookSecret,
    dedupe::{
        Claim, ClaimOutcome, ConflictPolicy, EventKey, Identity, KlikitDedupe, KlikitDedupeLayer, Ledger, LedgerError,
    },
    header::EVENT_ID,
    store::MemoryStore,
    testing::SignedDelivery,
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the handler does with a delivery.
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

/// Status, body, and `Retry-After`.
async fn send(stack: &Stack, delivery: &SignedDelivery) -> (u16, String, Option<u64>) {
    let response = stack.clone().oneshot(delivery.request::<Full<Bytes>>()).await.unwrap();
    let retry_after = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().parse().unwrap());
    let status = response.status().as_u16();
    let text = response.into_body().collect().await.unwrap().to_bytes().to_vec();
    (status, String::from_utf8(text).unwrap(), retry_after)
}

async fn assert_handled(stack: &Stack, delivery: &SignedDelivery) {
    assert_eq!(send(stack, delivery).await, (200, "handled".to_owned(), None));
}

async fn assert_duplicate(stack: &Stack, delivery: &SignedDelivery) {
    assert_eq!(send(stack, delivery).await, (200, r#"{"status":"duplicate-ignored"}"#.to_owned(), None));
}

async fn assert_unavailable(stack: &Stack, delivery: &SignedDelivery, error: &str) {
    let (status, text, retry_after) = send(stack, delivery).await;
    assert_eq!((status, text), (503, format!(r#"{{"error":"{error}"}}"#)));
    assert!(retry_after.is_some_and(|seconds| seconds > 0));
}

#[tokio::test]
async fn a_delivery_is_handled_once_and_then_ignored() {
    let handler = Handler::new(Does::Answers(200));
    let stack = stack(&dedupe(), &handler);
    assert_handled(&stack, &delivery()).await;
    assert_duplicate(&stack, &delivery()).await;
    assert_handled(&stack, &delivery().event_id("evt-2")).await;
    assert_eq!(handler.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_being_handled_is_answered_503_and_never_200() {
    let permits = Arc::new(Semaphore::new(0));
    let handler = Handler::new(Does::Waits(Arc::clone(&permits)));
    let stack = stack(&dedupe(), &handler);
    let first = tokio::spawn({
        let stack = stack.clone();
        async move { send(&stack, &delivery()).await }
    });
    while handler.started() == 0 {
        tokio::task::yield_now().await;
    }
    let (status, text, retry_after) = send(&stack, &delivery()).await;
    assert_eq!((status, &*text), (503, r#"{"error":"in flight"}"#));
    assert_eq!(retry_after, Some(26), "a second more than the lease");

    permits.add_permits(1);
    assert_eq!(first.await.unwrap().0, 200);
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(handler.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_of_12_seconds_finishes_although_klikit_hangs_up_at_10() {
    let handler = Handler::new(Does::AnswersAfter(seconds(12)));
    let stack = stack(&dedupe(), &handler);
    let hung_up = tokio::time::timeout(seconds(10), send(&stack, &delivery())).await;
    assert!(hung_up.is_err());
    assert_unavailable(&stack, &delivery(), "in flight").await;
    sleep(seconds(3)).await;
    assert_eq!(handler.finished(), 1);
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(handler.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_renewed_for_as_long_as_the_handler_runs() {
    let handler = Handler::new(Does::AnswersAfter(seconds(120)));
    let stack = stack(&dedupe(), &handler);
    assert!(tokio::time::timeout(seconds(10), send(&stack, &delivery())).await.is_err());
    for _ in 0..10 {
        assert_unavailable(&stack, &delivery(), "in flight").await;
        sleep(seconds(10)).await;
    }
    sleep(seconds(20)).await;
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!((handler.started(), handler.finished()), (1, 1));
}

#[tokio::test]
async fn anything_but_a_2xx_is_handled_again() {
    let handler = Handler::new(Does::Answers(500));
    let stack = stack(&dedupe(), &handler);
    for status in [500, 404, 302, 199, 503] {
        handler.now(Does::Answers(status));
        assert_eq!(send(&stack, &delivery()).await, (status, "handled".to_owned(), None));
    }
    handler.now(Does::Fails);
    let error = stack.clone().oneshot(delivery().request::<Full<Bytes>>()).await.unwrap_err();
    assert_eq!(error.to_string(), "the handler failed");
    for status in [204, 200, 299] {
        handler.now(Does::Answers(status));
        let delivery = delivery().event_id(format!("evt-{status}"));
        assert_eq!(send(&stack, &delivery).await.0, status);
        assert_duplicate(&stack, &delivery).await;
    }
    handler.now(Does::Answers(200));
    assert_handled(&stack, &delivery()).await;
}

#[tokio::test]
async fn a_panic_goes_on_to_the_caller_and_the_retry_is_handled() {
    let handler = Handler::new(Does::Panics);
    let stack = stack(&dedupe(), &handler);
    let call = stack.clone().oneshot(delivery().request::<Full<Bytes>>());
    let panic = std::panic::AssertUnwindSafe(call).catch_unwind().await.unwrap_err();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "the handler panicked");
    handler.now(Does::Answers(200));
    assert_handled(&stack, &delivery()).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_given_up_and_the_retry_is_handled() {
    let handler = Handler::new(Does::Hangs);
    let stack = stack(&dedupe(), &handler);
    assert_unavailable(&stack, &delivery(), "handler timed out").await;
    handler.now(Does::Answers(200));
    assert_handled(&stack, &delivery()).await;
}

/// Takes one turn to answer, so that there is something to drop at.
#[derive(Clone)]
struct Slow<L>(L);

impl<L: Ledger> Ledger for Slow<L> {
    async fn claim(&self, claim: &Claim, lease: Duration) -> Result<ClaimOutcome, LedgerError> {
        tokio::task::yield_now().await;
        let outcome = self.0.claim(claim, lease).await;
        tokio::task::yield_now().await;
        outcome
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, LedgerError> {
        tokio::task::yield_now().await;
        self.0.complete(claim, retention).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), LedgerError> {
        tokio::task::yield_now().await;
        self.0.release(claim).await
    }

    async fn renew(&self, claim: &Claim, lease: Duration) -> Result<bool, LedgerError> {
        self.0.renew(claim, lease).await
    }

    async fn forget(&self, event: &EventKey) -> Result<u64, LedgerError> {
        self.0.forget(event).await
    }

    async fn forget_claimed(&self, window: Range<SystemTime>) -> Result<u64, LedgerError> {
        self.0.forget_claimed(window).await
    }

    async fn purge(&self, limit: u32) -> Result<u64, LedgerError> {
        self.0.purge(limit).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_at_any_moment_changes_nothing() {
    for turns in 0..12 {
        for does in [Does::AnswersAfter(seconds(1)), Does::Answers(500), Does::Panics] {
            let handler = Handler::new(does.clone());
            let layer = KlikitDedupeLayer::new(Slow(MemoryStore::new()));
            let stack = stack(&layer, &handler);
            let mut call = tokio_test::task::spawn(stack.clone().oneshot(delivery().request::<Full<Bytes>>()));
            for _ in 0..turns {
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call.poll().is_ready())).unwrap_or(true) {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(call);
            sleep(seconds(2)).await;
            let succeeded = handler.finished() == 1 && matches!(does, Does::AnswersAfter(_));
            handler.now(Does::Answers(200));
            if succeeded {
                assert_duplicate(&stack, &delivery()).await;
            } else {
                assert_handled(&stack, &delivery()).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_copies_at_once_one_is_handled() {
    for round in 0..20 {
        let handler = Handler::new(Does::AnswersAfter(Duration::from_millis(1)));
        let stack = stack(&dedupe(), &handler);
        let copy = delivery().event_id(format!("evt-{round}"));
        let copies: Vec<_> = (0..64)
            .map(|_| {
                let (stack, copy) = (stack.clone(), copy.clone());
                tokio::spawn(async move { send(&stack, &copy).await })
            })
            .collect();
        for answer in futures_util::future::join_all(copies).await {
            let (status, text, _) = answer.unwrap();
            assert!(status == 503 || (status == 200 && (text == "handled" || text.contains("duplicate-ignored"))));
        }
        assert_eq!(handler.started(), 1);
        assert_duplicate(&stack, &copy).await;
    }
}

#[tokio::test]
async fn a_captured_body_under_an_id_not_yet_seen_does_not_swallow_the_real_delivery() {
    let handler = Handler::new(Does::Answers(200));
    let stack = stack(&dedupe(), &handler);
    assert_handled(&stack, &other_body()).await;
    assert!(!handler.last_claim().is_conflict());
    assert_handled(&stack, &delivery()).await;
    assert!(handler.last_claim().is_conflict());
    // Each body's own retries are duplicates.
    assert_duplicate(&stack, &delivery()).await;
    assert_duplicate(&stack, &other_body()).await;
    assert_eq!(handler.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_captured_body_in_flight_does_not_hold_up_the_real_delivery() {
    let handler = Handler::new(Does::AnswersAfter(seconds(20)));
    let stack = stack(&dedupe(), &handler);
    assert!(tokio::time::timeout(seconds(1), send(&stack, &other_body())).await.is_err());
    handler.now(Does::Answers(200));
    assert_handled(&stack, &delivery()).await;
}

#[tokio::test]
async fn a_conflict_can_be_trusted_or_refused() {
    let handler = Handler::new(Does::Answers(200));
    let trusting = stack(&dedupe().on_conflict(ConflictPolicy::TrustEventId), &handler);
    assert_handled(&trusting, &delivery()).await;
    assert_duplicate(&trusting, &other_body()).await;

    let refusing = stack(&dedupe().on_conflict(ConflictPolicy::Refuse), &handler);
    assert_handled(&refusing, &delivery()).await;
    let (status, text, _) = send(&refusing, &other_body()).await;
    assert_eq!((status, &*text), (409, r#"{"error":"event id known with another body"}"#));
    assert_duplicate(&refusing, &delivery()).await;
    assert_eq!(handler.started(), 2);
}

#[tokio::test]
async fn by_its_body_a_delivery_is_known_under_any_id() {
    let handler = Handler::new(Does::Answers(200));
    let stack = stack(&dedupe().identity(Identity::Body), &handler);
    assert_handled(&stack, &delivery()).await;
    assert_duplicate(&stack, &delivery().event_id("evt-2")).await;
    assert_handled(&stack, &other_body()).await;
}

#[tokio::test]
async fn a_delivery_without_an_id_is_known_by_its_body() {
    let handler = Handler::new(Does::Answers(200));
    let stack = stack(&dedupe(), &handler);
    assert_handled(&stack, &delivery().without_header(&EVENT_ID)).await;
    assert_duplicate(&stack, &delivery().without_header(&EVENT_ID)).await;
    assert_handled(&stack, &other_body().without_header(&EVENT_ID)).await;
    assert_handled(&stack, &delivery()).await;
}

fn keyring(tenant: &str, id: &str, secret: &str) -> Keyring {
    Keyring::new(tenant, id, WebhookSecret::new(secret).unwrap())
}

#[tokio::test]
async fn a_delivery_signed_with_the_old_secret_and_retried_with_the_new_is_a_duplicate() {
    let handler = Handler::new(Does::Answers(200));
    let keyring = keyring("warung", "old", "old secret");
    let stack = KlikitVerifyLayer::with_keyring(keyring.clone()).layer(dedupe().layer(handler.clone()));
    assert_handled(&stack, &SignedDelivery::new("old secret", BODY).event_id("evt-1")).await;
    keyring.add("new", WebhookSecret::new("new secret").unwrap()).unwrap();
    keyring.retire("old").unwrap();
    assert_duplicate(&stack, &SignedDelivery::new("new secret", BODY).event_id("evt-1")).await;
}

#[tokio::test]
async fn tenants_never_collide_unless_they_share_a_scope() {
    let handler = Handler::new(Does::Answers(200));
    for shared in [false, true] {
        let layer = if shared { dedupe().scope("all") } else { dedupe() };
        let tenant = |name: &str| {
            KlikitVerifyLayer::with_keyring(keyring(name, "1", SECRET)).layer(layer.layer(handler.clone()))
        };
        assert_handled(&tenant("warung"), &delivery()).await;
        if shared {
            assert_duplicate(&tenant("kedai"), &delivery()).await;
        } else {
            assert_handled(&tenant("kedai"), &delivery()).await;
        }
    }
}

#[tokio::test]
async fn what_an_operator_forgets_is_handled_again() {
    let handler = Handler::new(Does::Answers(200));
    let layer = dedupe();
    let stack = stack(&layer, &handler);
    let without_id = delivery().without_header(&EVENT_ID);
    for delivery in [&delivery(), &other_body(), &without_id] {
        assert_handled(&stack, delivery).await;
    }
    assert_eq!(layer.forget("kedai", "evt-1").await.unwrap(), 0);
    assert_eq!(layer.forget("default", "evt-1").await.unwrap(), 2, "the delivery and the conflict");
    assert_handled(&stack, &delivery()).await;
    assert_handled(&stack, &other_body()).await;

    assert_duplicate(&stack, &without_id).await;
    assert_eq!(layer.forget_body("default", BODY).await.unwrap(), 1);
    assert_handled(&stack, &without_id).await;

    let (before, soon) = (SystemTime::now() - seconds(60), SystemTime::now() + seconds(60));
    assert_eq!(layer.forget_received(before - seconds(60)..before).await.unwrap(), 0);
    assert_eq!(layer.forget_received(before..soon).await.unwrap(), 3);
    assert_handled(&stack, &without_id).await;
}

#[tokio::test]
async fn without_the_verify_layer_nothing_is_handled() {
    let handler = Handler::new(Does::Answers(200));
    let service = dedupe().layer(handler.clone());
    let strip = |mut request: Request<VerifiedBody>| {
        request.extensions_mut().clear();
        request
    };
    let misbuilt = KlikitVerifyLayer::new(SECRET).layer(tower::util::MapRequest::new(service, strip));
    let response = misbuilt.oneshot(delivery().request::<Full<Bytes>>()).await.unwrap();
    assert_eq!(response.status(), 500);
    assert_eq!(handler.started(), 0);
}

#[tokio::test]
async fn a_handler_finds_its_claim() {
    let handler = Handler::new(Does::Answers(200));
    assert_handled(&stack(&dedupe(), &handler), &delivery()).await;
    let claim = handler.last_claim();
    assert_eq!(claim.key(), claim.event());
    assert_eq!(claim.digest(), &tower_klikit::dedupe::BodyDigest::of(BODY.as_bytes()));
}

/// A store that can be made to fail, and to hang until it is let go.
#[derive(Clone)]
struct Faulty {
    store: MemoryStore,
    fault: Arc<Mutex<Option<Fault>>>,
}

#[derive(Clone)]
enum Fault {
    Fails,
    /// Does what is asked, and says that it failed.
    FailsAfterwards,
    FailsToComplete,
    Hangs(Arc<Semaphore>),
}

impl Faulty {
    fn new() -> Self {
        Self { store: MemoryStore::new(), fault: Arc::default() }
    }

    fn set(&self, fault: impl Into<Option<Fault>>) {
        *self.fault.lock().unwrap() = fault.into();
    }

    async fn guard<T>(
        &self,
        completing: bool,
        call: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let fault = self.fault.lock().unwrap().clone();
        match fault {
            Some(Fault::Fails) => Err(LedgerError::new("down")),
            Some(Fault::FailsToComplete) if completing => Err(LedgerError::new("down")),
            Some(Fault::FailsAfterwards) => {
                let _ = call.await;
                Err(LedgerError::new("the answer was lost"))
            }
            Some(Fault::Hangs(permits)) => {
                permits.acquire().await.unwrap().forget();
                call.await
            }
            Some(Fault::FailsToComplete) | None => call.await,
        }
    }
}

impl Ledger for Faulty {
    async fn claim(&self, claim: &Claim, lease: Duration) -> Result<ClaimOutcome, LedgerError> {
        self.guard(false, self.store.claim(claim, lease)).await
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, LedgerError> {
        self.guard(true, self.store.complete(claim, retention)).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), LedgerError> {
        self.guard(false, self.store.release(claim)).await
    }

    async fn renew(&self, claim: &Claim, lease: Duration) -> Result<bool, LedgerError> {
        self.guard(false, self.store.renew(claim, lease)).await
    }

    async fn forget(&self, event: &EventKey) -> Result<u64, LedgerError> {
        self.guard(false, self.store.forget(event)).await
    }

    async fn forget_claimed(&self, window: Range<SystemTime>) -> Result<u64, LedgerError> {
        self.guard(false, self.store.forget_claimed(window)).await
    }

    async fn purge(&self, limit: u32) -> Result<u64, LedgerError> {
        self.guard(false, self.store.purge(limit)).await
    }
}

#[tokio::test]
async fn while_the_store_is_down_nothing_is_handled_and_nothing_is_lost() {
    let (handler, store) = (Handler::new(Does::Answers(200)), Faulty::new());
    let stack = stack(&KlikitDedupeLayer::new(store.clone()), &handler);
    store.set(Fault::Fails);
    for _ in 0..3 {
        assert_unavailable(&stack, &delivery(), "store unavailable").await;
    }
    assert_eq!(handler.started(), 0);
    store.set(None);
    assert_handled(&stack, &delivery()).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_was_lost_runs_out_or_is_released() {
    let (handler, store) = (Handler::new(Does::Answers(200)), Faulty::new());
    let stack = stack(&KlikitDedupeLayer::new(store.clone()), &handler);
    store.set(Fault::FailsAfterwards);
    assert_unavailable(&stack, &delivery(), "store unavailable").await;
    assert_eq!(handler.started(), 0);
    store.set(None);
    assert_handled(&stack, &delivery()).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_is_answered_503_and_what_it_claims_late_is_released() {
    let (handler, store) = (Handler::new(Does::Answers(200)), Faulty::new());
    let stack = stack(&KlikitDedupeLayer::new(store.clone()), &handler);
    let permits = Arc::new(Semaphore::new(0));
    store.set(Fault::Hangs(Arc::clone(&permits)));
    let started = tokio::time::Instant::now();
    assert_unavailable(&stack, &delivery(), "store unavailable").await;
    assert_eq!(started.elapsed(), seconds(2));
    assert_eq!(handler.started(), 0);

    store.set(None);
    permits.add_permits(1);
    sleep(Duration::from_millis(1)).await;
    assert_handled(&stack, &delivery()).await;
}

#[tokio::test(start_paused = true)]
async fn a_success_that_cannot_be_recorded_is_a_success_and_is_recorded_later() {
    let (handler, store) = (Handler::new(Does::Answers(200)), Faulty::new());
    let stack = stack(&KlikitDedupeLayer::new(store.clone()), &handler);
    store.set(Fault::FailsToComplete);
    assert_handled(&stack, &delivery()).await;
    for _ in 0..10 {
        assert_unavailable(&stack, &delivery(), "in flight").await;
        sleep(seconds(10)).await;
    }
    store.set(None);
    sleep(seconds(10)).await;
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(handler.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_for_a_while_during_the_handling_loses_no_claim() {
    let (handler, store) = (Handler::new(Does::AnswersAfter(seconds(60))), Faulty::new());
    let stack = stack(&KlikitDedupeLayer::new(store.clone()), &handler);
    let call = tokio::spawn({
        let stack = stack.clone();
        async move { send(&stack, &delivery()).await }
    });
    sleep(seconds(1)).await;
    store.set(Fault::Fails);
    sleep(seconds(20)).await;
    store.set(None);
    assert_eq!(call.await.unwrap().0, 200);
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(handler.started(), 1);
}

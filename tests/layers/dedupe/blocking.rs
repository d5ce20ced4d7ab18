//! Handlers that block their thread for longer than a lease.

use std::{future::ready, sync::mpsc, thread};

use super::{log::Log, *};

const LEASE: Duration = Duration::from_secs(1);

/// A handler that blocks its thread for each of these times, and awaits something in between.
#[derive(Clone)]
struct Blocking {
    times: &'static [u64],
    started: Arc<AtomicUsize>,
    /// Told when the handler blocks its thread.
    blocks: mpsc::Sender<()>,
}

impl Blocking {
    fn new(times: &'static [u64]) -> (Self, mpsc::Receiver<()>) {
        let (blocks, blocked) = mpsc::channel();
        (Self { times, started: Arc::default(), blocks }, blocked)
    }

    fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }
}

impl Service<Request<VerifiedBody>> for Blocking {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<VerifiedBody>) -> Self::Future {
        self.started.fetch_add(1, Ordering::SeqCst);
        let (times, blocks) = (self.times, self.blocks.clone());
        Box::pin(async move {
            for millis in times {
                let _ = blocks.send(());
                thread::sleep(Duration::from_millis(*millis));
                sleep(Duration::from_millis(20)).await;
            }
            Ok(Response::new(Full::from("handled")))
        })
    }
}

fn blocking_stack(layer: &KlikitDedupeLayer, handler: &Blocking) -> KlikitVerify<KlikitDedupe<Blocking>> {
    KlikitVerifyLayer::new(SECRET).layer(layer.layer(handler.clone()))
}

/// Sends copies while the handler blocks and after it, to the same layer and to one of another node.
async fn assert_handled_once(store: impl Ledger + Clone, times: &'static [u64]) {
    let (handler, blocked) = Blocking::new(times);
    let nodes = [(); 2].map(|()| KlikitDedupeLayer::new(store.clone()).lease(LEASE));
    let [stack, other] = nodes.each_ref().map(|layer| blocking_stack(layer, &handler));
    let first = tokio::spawn({
        let stack = stack.clone();
        async move { send(&stack, &delivery()).await }
    });
    tokio::task::spawn_blocking(move || blocked.recv().unwrap()).await.unwrap();
    while !first.is_finished() {
        for node in [&stack, &other] {
            let (status, text, _) = send(node, &delivery()).await;
            let is_in_flight = (status, &*text) == (503, r#"{"error":"in flight"}"#);
            assert!(is_in_flight || (status, text) == (200, answers::duplicate().1), "{status}");
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(first.await.unwrap(), answers::ok("handled"));
    for node in [&stack, &other] {
        assert_eq!(send(node, &delivery()).await, answers::duplicate());
    }
    assert_eq!(handler.started(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_not_handled_while_handler_blocks() {
    assert_handled_once(MemoryStore::new(), &[2500]).await;
    assert_handled_once(MemoryStore::new(), &[1300, 1300]).await;
}

/// Nothing else goes on in the runtime while the handler blocks the thread that waits for timers.
#[test]
fn claim_is_renewed_on_an_idle_runtime() {
    let store = MemoryStore::new();
    let (handler, blocked) = Blocking::new(&[2500]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let stack = blocking_stack(&KlikitDedupeLayer::new(store.clone()).lease(LEASE), &handler);
    let first = runtime.spawn(async move { send(&stack, &delivery()).await });
    blocked.recv().unwrap();
    thread::sleep(Duration::from_millis(1700));
    let other = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let copy = other.block_on(send(&blocking_stack(&KlikitDedupeLayer::new(store), &handler), &delivery()));
    assert_eq!((copy.0, &*copy.1), (503, r#"{"error":"in flight"}"#));
    assert_eq!(runtime.block_on(first).unwrap(), answers::ok("handled"));
    assert_eq!(handler.started(), 1);
}

/// The only thread is blocked, so that nothing can renew the claim.
#[tokio::test]
async fn success_after_the_lease_is_remembered() {
    let store = MemoryStore::new();
    let (handler, _blocked) = Blocking::new(&[1500]);
    let layer = KlikitDedupeLayer::new(store.clone()).lease(LEASE);
    let stack = blocking_stack(&layer, &handler);
    let delivery = delivery();
    let (first, copy) = tokio::join!(send(&stack, &delivery), send(&stack, &delivery));
    assert_eq!((first.0, copy.0), (200, 503));
    assert_eq!(send(&stack, &delivery).await, answers::duplicate());
    assert_eq!(handler.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn forgotten_delivery_stays_forgotten() {
    let handler = Handler::new(Does::AnswersAfter(seconds(20)));
    let layer = dedupe();
    let stack = stack(&layer, &handler);
    let first = tokio::spawn({
        let stack = stack.clone();
        async move { send(&stack, &delivery()).await }
    });
    while handler.started() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(layer.forget("default", "evt-1").await.unwrap(), 1);
    // This process is still handling it.
    assert_unavailable(&stack, &delivery(), "in flight").await;
    assert_eq!(first.await.unwrap().0, 200);
    handler.now(Does::Answers(200));
    assert_handled(&stack, &delivery()).await;
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(handler.started(), 2);
}

/// A ledger whose renewals fail, and whose claims take as long as they are told.
#[derive(Clone)]
struct Unrenewed {
    store: MemoryStore,
    claims: Arc<Mutex<Vec<Duration>>>,
}

impl Ledger for Unrenewed {
    async fn claim(&self, claim: &Claim, terms: &ClaimTerms) -> Result<ClaimOutcome, StoreError> {
        let pause = self.claims.lock().unwrap().pop().unwrap_or_default();
        sleep(pause).await;
        self.store.claim(claim, terms).await
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        self.store.complete(claim, retention).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        self.store.release(claim).await
    }

    async fn renew(&self, _: &[Claim], _: &ClaimTerms) -> Result<Vec<bool>, StoreError> {
        Err(StoreError::new("the network is silent"))
    }

    async fn forget(&self, event: &EventKey) -> Result<u64, StoreError> {
        self.store.forget(event).await
    }

    async fn forget_claimed(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        self.store.forget_claimed(window).await
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        self.store.purge(limit).await
    }
}

#[tokio::test(start_paused = true)]
async fn store_outage_during_handling_costs_nothing() {
    let store = Unrenewed { store: MemoryStore::new(), claims: Arc::default() };
    let handler = Handler::new(Does::AnswersAfter(seconds(100)));
    let stack = stack(&KlikitDedupeLayer::new(store), &handler);
    let first = tokio::spawn({
        let stack = stack.clone();
        async move { send(&stack, &delivery()).await }
    });
    while !first.is_finished() {
        sleep(seconds(7)).await;
        if !first.is_finished() {
            assert_unavailable(&stack, &delivery(), "in flight").await;
        }
    }
    assert_eq!(first.await.unwrap().0, 200);
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(handler.started(), 1);
}

/// The claim of a copy that was on its way all the while finds the first claim expired, and takes it over.
#[tokio::test(start_paused = true)]
async fn running_handler_takes_over_a_late_claim() {
    let claims = Arc::new(Mutex::new(vec![Duration::ZERO, seconds(30)]));
    let store = Unrenewed { store: MemoryStore::new(), claims };
    let handler = Handler::new(Does::AnswersAfter(seconds(60)));
    let stack = stack(&KlikitDedupeLayer::new(store).claim_deadline(seconds(40)), &handler);
    let copy = tokio::spawn({
        let stack = stack.clone();
        async move { send(&stack, &delivery()).await }
    });
    sleep(seconds(1)).await;
    assert_eq!(send(&stack, &delivery()).await.0, 200);
    assert_eq!(copy.await.unwrap().0, 503);
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(handler.started(), 1);
}

#[test]
fn blocking_handler_is_named_in_the_log() {
    let log = Log::default();
    let _listening = log.listen();
    let (handler, _blocked) = Blocking::new(&[700]);
    let layer = KlikitDedupeLayer::new(MemoryStore::new()).lease(LEASE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let answer = runtime.block_on(send(&blocking_stack(&layer, &handler), &delivery()));
    assert_eq!(answer.0, 200);
    let text = log.text();
    assert!(log::blocked_seconds(&text) >= 0.7, "{text}");
    assert!(text.contains("evt-1"), "{text}");
}

/// A first poll that is ready needs neither a task nor a timer: without a runtime, either would panic.
#[tokio::test]
async fn delivery_that_never_waits_is_ready_at_once() {
    let (handler, layer) = (
        tower::service_fn(|_: Request<VerifiedBody>| ready(Ok::<_, BoxError>(Response::new(Full::<Bytes>::default())))),
        dedupe(),
    );
    let stack = KlikitVerifyLayer::new(SECRET).layer(layer.layer(handler));
    // The first delivery starts the task that renews claims.
    stack.clone().oneshot(delivery().event_id("evt-0").request::<Full<Bytes>>()).await.unwrap();
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let answer = stack.oneshot(delivery().request::<Full<Bytes>>()).now_or_never().expect("nothing to wait for");
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), tasks);
}

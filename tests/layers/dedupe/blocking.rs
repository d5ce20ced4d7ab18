//! Tests of handlers that block their thread for longer than a claim lasts, and of claims that cannot be renewed.

use std::{future::ready, sync::mpsc, thread};

use super::{log::Log, *};

const LEASE: Duration = Duration::from_secs(1);

/// A handler that blocks its thread for each of these times, with an await after each.
#[derive(Clone)]
struct ThreadBlockingHandler {
    times: &'static [u64],
    started: Arc<AtomicUsize>,
    /// Receives a message before each time that the handler blocks its thread.
    blocks: mpsc::Sender<()>,
}

impl ThreadBlockingHandler {
    fn new(times: &'static [u64]) -> (Self, mpsc::Receiver<()>) {
        let (blocks, blocked) = mpsc::channel();
        (Self { times, started: Arc::default(), blocks }, blocked)
    }

    fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }
}

impl Service<Request<VerifiedBody>> for ThreadBlockingHandler {
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

fn blocking_stack(
    layer: &KlikitDedupeLayer,
    handler: &ThreadBlockingHandler,
) -> KlikitVerify<KlikitDedupe<ThreadBlockingHandler>> {
    KlikitVerifyLayer::new(SECRET).layer(layer.layer(handler.clone()))
}

/// Asserts that a delivery is handled once although copies arrive during and after a call that blocks its thread. Sends
/// the copies to the same layer and to the layer of another node.
async fn assert_handled_once(store: impl Ledger + Clone, times: &'static [u64]) {
    let (handler, blocked) = ThreadBlockingHandler::new(times);
    let nodes = [(); 2].map(|()| KlikitDedupeLayer::new(store.clone()).lease(LEASE));
    let [stack, other] = nodes.each_ref().map(|layer| blocking_stack(layer, &handler));
    let first = tokio::spawn({
        let stack = stack.clone();
        async move { send(&stack, &delivery()).await }
    });
    tokio::task::spawn_blocking(move || blocked.recv().unwrap()).await.unwrap();
    while !first.is_finished() {
        for node in [&stack, &other] {
            let answer = send(node, &delivery()).await;
            if answer != answers::duplicate() {
                answers::assert_unavailable(&answer, "in flight");
            }
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

/// The handler blocks the thread that waits for timers, while no other task runs.
#[test]
fn claim_is_renewed_on_an_idle_runtime() {
    let store = MemoryStore::new();
    let (handler, blocked) = ThreadBlockingHandler::new(&[2500]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let stack = blocking_stack(&KlikitDedupeLayer::new(store.clone()).lease(LEASE), &handler);
    let first = runtime.spawn(async move { send(&stack, &delivery()).await });
    blocked.recv().unwrap();
    thread::sleep(Duration::from_millis(1700));
    let other = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let copy = other.block_on(send(&blocking_stack(&KlikitDedupeLayer::new(store), &handler), &delivery()));
    answers::assert_unavailable(&copy, "in flight");
    assert_eq!(runtime.block_on(first).unwrap(), answers::ok("handled"));
    assert_eq!(handler.started(), 1);
}

/// The handler blocks the only thread, so that the claim cannot be renewed.
#[tokio::test]
async fn success_after_the_lease_is_remembered() {
    let store = MemoryStore::new();
    let (handler, _blocked) = ThreadBlockingHandler::new(&[1500]);
    let layer = KlikitDedupeLayer::new(store.clone()).lease(LEASE);
    let stack = blocking_stack(&layer, &handler);
    let delivery = delivery();
    let (first, copy) = tokio::join!(send(&stack, &delivery), send(&stack, &delivery));
    assert_eq!((first.status, copy.status), (200, 503));
    assert_eq!(send(&stack, &delivery).await, answers::duplicate());
    assert_eq!(handler.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn forgotten_delivery_stays_forgotten() {
    let handler = CountingHandler::new(Reaction::AnswersAfter(seconds(20)));
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
    // This process is still handling the delivery.
    assert_unavailable(&stack, &delivery(), "in flight").await;
    assert_eq!(first.await.unwrap().status, 200);
    handler.set_reaction(Reaction::Answers(200));
    assert_handled(&stack, &delivery()).await;
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(handler.started(), 2);
}

/// A ledger whose renewals fail. Each claim takes the last duration of a list.
#[derive(Clone)]
struct UnrenewableLedger {
    store: MemoryStore,
    claims: Arc<Mutex<Vec<Duration>>>,
}

impl Ledger for UnrenewableLedger {
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

    async fn forget(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        self.store.forget(selection).await
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        self.store.purge(limit).await
    }
}

#[tokio::test(start_paused = true)]
async fn success_counts_although_renewals_fail() {
    let store = UnrenewableLedger { store: MemoryStore::new(), claims: Arc::default() };
    let handler = CountingHandler::new(Reaction::AnswersAfter(seconds(100)));
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
    assert_eq!(first.await.unwrap().status, 200);
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(handler.started(), 1);
}

/// The claim of a copy reaches the store after the first claim has expired, and takes over the entry.
#[tokio::test(start_paused = true)]
async fn running_handler_takes_over_a_late_claim() {
    let claims = Arc::new(Mutex::new(vec![Duration::ZERO, seconds(30)]));
    let store = UnrenewableLedger { store: MemoryStore::new(), claims };
    let handler = CountingHandler::new(Reaction::AnswersAfter(seconds(60)));
    let stack = stack(&KlikitDedupeLayer::new(store).claim_deadline(seconds(40)), &handler);
    let copy = tokio::spawn({
        let stack = stack.clone();
        async move { send(&stack, &delivery()).await }
    });
    sleep(seconds(1)).await;
    assert_eq!(send(&stack, &delivery()).await.status, 200);
    assert_eq!(copy.await.unwrap().status, 503);
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(handler.started(), 1);
}

#[test]
fn blocking_handler_is_named_in_the_log() {
    let log = Log::default();
    let _listening = log.listen();
    let (handler, _blocked) = ThreadBlockingHandler::new(&[700]);
    let layer = KlikitDedupeLayer::new(MemoryStore::new()).lease(LEASE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let answer = runtime.block_on(send(&blocking_stack(&layer, &handler), &delivery()));
    assert_eq!(answer.status, 200);
    let text = log.text();
    assert!(log::blocked_seconds(&text) >= 0.7, "{text}");
    assert!(text.contains("evt-1"), "{text}");
}

/// If neither the store nor the handler waits, the future is ready at its first poll and spawns no task.
#[tokio::test]
async fn fast_delivery_is_ready_at_the_first_poll() {
    let (handler, layer) = (
        tower::service_fn(|_: Request<VerifiedBody>| ready(Ok::<_, BoxError>(Response::new(Full::<Bytes>::default())))),
        dedupe(),
    );
    let stack = KlikitVerifyLayer::new(SECRET).layer(layer.layer(handler));
    // The first delivery starts the task that renews claims.
    stack.clone().oneshot(delivery().event_id("evt-0").request::<Full<Bytes>>()).await.unwrap();
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let answer = stack.oneshot(delivery().request::<Full<Bytes>>()).now_or_never().expect("the future is ready");
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), tasks);
}

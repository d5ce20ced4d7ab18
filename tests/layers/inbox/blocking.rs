//! Tests of handlers that block their thread, or lose the store, for longer than a lease.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use tokio::runtime::Builder;
use tower_klikit::inbox::{LeaseRequest, OrderBy};

use super::{log::Log, *};

/// A handler that blocks its thread or waits, and records its calls.
#[derive(Clone)]
struct BlockingHandler {
    work: Work,
    started: Arc<Mutex<Vec<String>>>,
    running: Arc<AtomicUsize>,
    max_running: Arc<AtomicUsize>,
}

/// The work of a handler.
#[derive(Clone, Copy)]
enum Work {
    /// Blocks the thread this many times, with an await after each.
    BlocksThread { times: u32, millis: u64 },
    /// Blocks the thread in `block_in_place`.
    BlocksInPlace { millis: u64 },
    /// Waits without blocking the thread.
    Waits { millis: u64 },
}

impl BlockingHandler {
    fn new(work: Work) -> Self {
        Self { work, started: Arc::default(), running: Arc::default(), max_running: Arc::default() }
    }

    fn started(&self) -> Vec<String> {
        let mut started = self.started.lock().unwrap().clone();
        started.sort();
        started
    }

    /// Returns the largest number of calls that ran at the same time.
    fn max_running(&self) -> usize {
        self.max_running.load(Ordering::SeqCst)
    }
}

impl Service<Request<VerifiedBody>> for BlockingHandler {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<VerifiedBody>) -> Self::Future {
        let event_id = request.extensions().get::<EventId>().expect("the request has an event id").to_string();
        self.started.lock().unwrap().push(event_id);
        let handler = self.clone();
        Box::pin(async move {
            let running = handler.running.fetch_add(1, Ordering::SeqCst) + 1;
            handler.max_running.fetch_max(running, Ordering::SeqCst);
            match handler.work {
                Work::BlocksThread { times, millis } => {
                    for _ in 0..times {
                        thread::sleep(Duration::from_millis(millis));
                        sleep(Duration::from_millis(50)).await;
                    }
                }
                Work::BlocksInPlace { millis } => {
                    tokio::task::block_in_place(|| thread::sleep(Duration::from_millis(millis)));
                    sleep(Duration::from_millis(50)).await;
                }
                Work::Waits { millis } => sleep(Duration::from_millis(millis)).await,
            }
            handler.running.fetch_sub(1, Ordering::SeqCst);
            Ok(Response::new(Full::from("handled")))
        })
    }
}

/// Stores deliveries, runs workers until all are handled, and asserts that each delivery was handled once.
async fn assert_each_runs_once(inbox: Inbox, deliveries: usize, handler: BlockingHandler, workers: usize) {
    let stack = stack(&inbox);
    for number in 0..deliveries {
        assert_received(&stack, &numbered(number)).await;
    }
    let workers: Vec<_> = (0..workers)
        .map(|_| {
            let worker = inbox.worker(handler.clone()).lease(seconds(1)).max_attempts(3);
            let (stop, stopped) = oneshot::channel::<()>();
            (stop, tokio::spawn(worker.run_until(stopped)))
        })
        .collect();
    until_empty(&inbox).await;
    for (stop, worker) in workers {
        drop(stop);
        worker.await.unwrap();
    }
    let mut expected: Vec<_> = (0..deliveries).map(|number| format!("evt-{number}")).collect();
    expected.sort();
    assert_eq!(handler.started(), expected);
    assert_eq!(inbox.counts().await.unwrap(), Counts::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocking_handler_runs_once() {
    for work in [Work::BlocksThread { times: 1, millis: 3000 }, Work::BlocksInPlace { millis: 3000 }] {
        assert_each_runs_once(inbox(), 1, BlockingHandler::new(work), 1).await;
        assert_each_runs_once(inbox(), 3, BlockingHandler::new(work), 2).await;
    }
}

/// The handler blocks the only thread of the runtime.
#[tokio::test]
async fn blocked_runtime_runs_once() {
    assert_each_runs_once(inbox(), 2, BlockingHandler::new(Work::BlocksThread { times: 2, millis: 1500 }), 1).await;
    assert_each_runs_once(inbox(), 2, BlockingHandler::new(Work::BlocksThread { times: 1, millis: 1500 }), 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_handlers_that_block_each_run_once() {
    assert_each_runs_once(inbox(), 32, BlockingHandler::new(Work::BlocksThread { times: 3, millis: 200 }), 1).await;
}

#[tokio::test]
async fn blocked_handlers_of_one_key_run_one_by_one() {
    let handler = BlockingHandler::new(Work::BlocksThread { times: 1, millis: 1500 });
    let inbox = inbox().order_by(OrderBy::order());
    assert_each_runs_once(inbox, 3, handler.clone(), 2).await;
    assert_eq!(handler.max_running(), 1);
}

/// Runs a worker as another node would, on a runtime with one thread.
fn node(store: MemoryStore, handler: BlockingHandler, max_attempts: u32, log: Log) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let _listening = log.listen();
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let inbox = Inbox::new(store.clone());
            let worker = inbox.worker(handler).lease(seconds(1)).max_attempts(max_attempts);
            worker
                .run_until(until_counts(&Inbox::new(store), "the delivery is handled", |counts| {
                    *counts == Counts::default()
                }))
                .await;
        });
    })
}

#[tokio::test]
async fn late_success_of_a_dead_letter_counts() {
    let store = MemoryStore::new();
    let inbox = Inbox::new(store.clone());
    assert_received(&stack(&inbox), &delivery()).await;
    let (blocked, idle) = (
        BlockingHandler::new(Work::BlocksThread { times: 1, millis: 3500 }),
        BlockingHandler::new(Work::Waits { millis: 0 }),
    );
    let [log, other_log] = [(); 2].map(|()| Log::default());
    let first = node(store.clone(), blocked.clone(), 1, log.clone());
    until("the handler has started", async || !blocked.started().is_empty()).await;
    let other = node(store.clone(), idle.clone(), 1, other_log.clone());
    until_counts(&inbox, "the other node dead-letters it", |counts| counts.dead == 1).await;
    assert_eq!(inbox.dead(None, 1).await.unwrap()[0].reason.as_deref(), Some(LEASE_EXPIRED));
    until_counts(&inbox, "the handler has succeeded", |counts| *counts == Counts::default()).await;
    tokio::task::spawn_blocking(move || [first, other].map(|node| node.join().unwrap())).await.unwrap();
    assert_eq!((blocked.started().len(), idle.started().len()), (1, 0));
    let text = other_log.text();
    assert!(text.contains("ERROR") && text.contains("dead-lettered a delivery: the lease expired"), "{text}");
    assert!(text.contains("event_id=\"evt-1\""), "{text}");
}

#[tokio::test]
async fn both_nodes_log_a_lost_lease() {
    let store = MemoryStore::new();
    let inbox = Inbox::new(store.clone());
    assert_received(&stack(&inbox), &delivery()).await;
    let (blocked, other) = (
        BlockingHandler::new(Work::BlocksThread { times: 1, millis: 2500 }),
        BlockingHandler::new(Work::Waits { millis: 2000 }),
    );
    let [log, other_log] = [(); 2].map(|()| Log::default());
    let first = node(store.clone(), blocked.clone(), 5, log.clone());
    until("the handler has started", async || !blocked.started().is_empty()).await;
    let second = node(store.clone(), other.clone(), 5, other_log.clone());
    tokio::task::spawn_blocking(move || [first, second].map(|node| node.join().unwrap())).await.unwrap();
    assert_eq!((blocked.started().len(), other.started().len()), (1, 1));
    let (text, other_text) = (log.text(), other_log.text());
    assert!(text.contains("lost the lease while the handler was running"), "{text}");
    assert!(other_text.contains("leased a delivery whose last lease expired"), "{other_text}");
}

/// Another node leases the delivery and crashes. Then the first node leases the delivery again while its handler runs.
#[tokio::test]
async fn lease_that_comes_back_is_taken_over() {
    let store = MemoryStore::new();
    let inbox = Inbox::new(store.clone());
    assert_received(&stack(&inbox), &delivery()).await;
    let blocked = BlockingHandler::new(Work::BlocksThread { times: 1, millis: 2500 });
    let log = Log::default();
    let first = node(store.clone(), blocked.clone(), 3, log.clone());
    until("the handler has started", async || !blocked.started().is_empty()).await;
    // The other node crashes as soon as it has leased the delivery.
    let request = LeaseRequest {
        limit: 1,
        free_handlers: 1,
        duration: Duration::from_millis(10),
        max_attempts: 3,
        held: &[],
        worker: "test",
    };
    let mut attempts = 0;
    until("the other node has leased the delivery", async || {
        let batch = store.lease(&request).await.unwrap();
        attempts += batch.leased.len();
        attempts == 1
    })
    .await;
    tokio::task::spawn_blocking(move || first.join().unwrap()).await.unwrap();
    assert_eq!(blocked.started().len(), 1);
}

#[test]
fn blocking_handler_is_named_in_the_log() {
    let log = Log::default();
    let _listening = log.listen();
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(assert_each_runs_once(
        inbox(),
        1,
        BlockingHandler::new(Work::BlocksThread { times: 1, millis: 1100 }),
        1,
    ));
    let text = log.text();
    assert!(log::blocked_seconds(&text) >= 1.1, "{text}");
    assert!(text.contains("evt-0"), "{text}");
}

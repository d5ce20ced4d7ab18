//! Tests of handlers that block their thread for longer than a lease.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::{
    runtime,
    sync::{Notify, oneshot},
    task::yield_now,
    time::sleep,
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_klikit::{
    KlikitVerifyLayer, VerifiedBody,
    dedupe::KlikitDedupeLayer,
    inbox::{DeliveryId, DeliveryState, Inbox, InboxAdmin, InboxStore, LEASE_EXPIRED, ShowBody},
    testing::SignedDelivery,
};
use tower_klikit_postgres::PostgresStore;

use crate::{
    ends,
    inbox::{SECRET, send},
    log::Log,
    open,
    servers::postgres::PostgresServer,
};

const LEASE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(50);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

type Handling = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

/// A handler that counts its calls, runs `work`, and succeeds.
fn handler<F>(
    calls: &Arc<AtomicU32>,
    work: impl Fn() -> F + Clone + Send + 'static,
) -> impl Service<Request<VerifiedBody>, Response = Response<Full<Bytes>>, Error = Infallible, Future = Handling>
+ Clone
+ Send
+ 'static
where
    F: Future<Output = ()> + Send + 'static,
{
    let calls = Arc::clone(calls);
    service_fn(move |_: Request<VerifiedBody>| -> Handling {
        calls.fetch_add(1, Ordering::SeqCst);
        let working = work();
        Box::pin(async move {
            working.await;
            Ok(Response::new(Full::default()))
        })
    })
}

/// Waits until nothing is pending.
async fn handled(store: &PostgresStore) {
    while store.backlog(1).await.unwrap() > 0 {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the state and the attempts of the only delivery.
async fn outcome(store: &PostgresStore) -> (DeliveryState, u32) {
    let entry = store.show(DeliveryId::new(1), ShowBody::Include).await.unwrap().unwrap();
    (entry.state, entry.attempts)
}

/// Checks that a worker calls the handler once.
async fn is_handled_once<F>(server: &PostgresServer, work: impl Fn() -> F + Clone + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let store = open(server.url()).await;
    let inbox = Inbox::new(store.clone()).keep_bodies(DAY);
    assert_eq!(send(&inbox, "evt-1", "x").await, StatusCode::OK);
    let calls = Arc::default();
    let worker = inbox.worker(handler(&calls, work)).lease(LEASE).max_attempts(3).poll_interval(POLL);
    let waiting = {
        let store = store.clone();
        async move { handled(&store).await }
    };
    ends(tokio::spawn(worker.run_until(waiting))).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(outcome(&store).await, (DeliveryState::Done, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocking_handler_runs_once() {
    let Some(server) = PostgresServer::start("blocking handler runs once") else { return };
    is_handled_once(&server, || async { thread::sleep(Duration::from_secs(3)) }).await;
}

/// A parked thread may not wake up while the other one is blocked. The second thread of this test is never parked, so the
/// worker continues while its handler blocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_continues_during_a_blocking_handler() {
    let Some(server) = PostgresServer::start("worker continues during a blocking handler") else { return };
    let busy = tokio::spawn(async {
        loop {
            yield_now().await;
        }
    });
    is_handled_once(&server, || async { thread::sleep(Duration::from_secs(3)) }).await;
    busy.abort();
}

/// While the handler blocks the only thread, nothing extends the lease.
#[tokio::test]
async fn handler_that_blocks_the_only_thread_runs_once() {
    let Some(server) = PostgresServer::start("handler that blocks the only thread runs once") else { return };
    let work = || async {
        thread::sleep(Duration::from_millis(1500));
        sleep(Duration::from_millis(50)).await;
    };
    is_handled_once(&server, work).await;
}

/// Checks that copies of a delivery are not handled while its handler blocks its thread for two leases.
async fn copies_are_not_handled(server: &PostgresServer) {
    let dedupe = KlikitDedupeLayer::new(open(server.url()).await).lease(LEASE);
    let (calls, started) = (Arc::default(), Arc::new(Notify::new()));
    let blocking = handler(&calls, {
        let started = Arc::clone(&started);
        move || {
            started.notify_one();
            async { thread::sleep(2 * LEASE) }
        }
    });
    let stack = KlikitVerifyLayer::new(SECRET).layer(dedupe.layer(blocking));
    let send = || {
        let stack = stack.clone();
        async move {
            let request = SignedDelivery::new(SECRET, "x").event_id("evt-1").request::<Full<Bytes>>();
            let response = stack.oneshot(request).await.unwrap();
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        }
    };
    let duplicate = (StatusCode::OK, r#"{"status":"duplicate-ignored"}"#.to_owned());
    let first = tokio::spawn(send());
    started.notified().await;
    let copies: Vec<_> = [LEASE / 2, 3 * LEASE / 2]
        .into_iter()
        .map(|pause| {
            let copy = send();
            tokio::spawn(async move {
                sleep(pause).await;
                copy.await
            })
        })
        .collect();
    assert_eq!(ends(first).await.unwrap(), (StatusCode::OK, String::new()));
    for copy in copies {
        let answer = ends(copy).await.unwrap();
        assert!(answer.0 == StatusCode::SERVICE_UNAVAILABLE || answer == duplicate, "{answer:?}");
    }
    assert_eq!(ends(send()).await, duplicate);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_blocking_delivery_are_duplicates() {
    let Some(server) = PostgresServer::start("copies of a blocking delivery are duplicates") else { return };
    copies_are_not_handled(&server).await;
}

#[tokio::test]
async fn copies_are_duplicates_on_a_blocked_thread() {
    let Some(server) = PostgresServer::start("copies are duplicates on a blocked thread") else { return };
    copies_are_not_handled(&server).await;
}

/// A node with a single thread, which its handler blocks.
struct Node {
    log: Log,
    calls: Arc<AtomicU32>,
    /// Receives a message when the handler has started.
    started: oneshot::Receiver<()>,
    /// Ends the handler, which succeeds.
    go_on: mpsc::Sender<()>,
    /// Receives a message when the node has stopped.
    stopped: oneshot::Receiver<()>,
}

impl Node {
    /// Starts a node, which stops once all of its leased deliveries are settled.
    fn start(url: &str) -> Self {
        let (log, calls, url) = (Log::default(), Arc::default(), url.to_owned());
        let ((is_started, started), (go_on, may_go_on)) = (oneshot::channel(), mpsc::channel());
        let (is_stopped, stopped) = oneshot::channel();
        let node = Self { log: log.clone(), calls: Arc::clone(&calls), started, go_on, stopped };
        thread::spawn(move || {
            let _guard = log.listen();
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (is_started, may_go_on) =
                (std::sync::Mutex::new(Some(is_started)), Arc::new(std::sync::Mutex::new(may_go_on)));
            let is_started = Arc::new(is_started);
            let ended = Arc::new(Notify::new());
            let blocking = handler(&calls, {
                let ended = Arc::clone(&ended);
                move || {
                    let (started, may_go_on, ended) =
                        (Arc::clone(&is_started), Arc::clone(&may_go_on), Arc::clone(&ended));
                    async move {
                        if let Some(started) = started.lock().unwrap().take() {
                            started.send(()).unwrap();
                        }
                        may_go_on.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap();
                        ended.notify_one();
                    }
                }
            });
            runtime.block_on(async {
                let inbox = Inbox::new(open(&url).await).keep_bodies(DAY);
                let worker = inbox.worker(blocking).lease(LEASE).poll_interval(POLL);
                // The worker drains, and ends after the outcome is recorded.
                worker.run_until(ended.notified()).await;
            });
            is_stopped.send(()).unwrap();
        });
        node
    }
}

#[tokio::test]
async fn two_nodes_both_log_a_lost_lease() {
    let Some(server) = PostgresServer::start("two nodes both log a lost lease") else { return };
    let log = Log::default();
    let _guard = log.listen();
    let store = open(server.url()).await;
    let inbox = Inbox::new(store.clone()).keep_bodies(DAY);
    assert_eq!(send(&inbox, "evt-1", "x").await, StatusCode::OK);
    let Node { log: other_log, calls: other_calls, started, go_on, stopped } = Node::start(server.url());
    ends(started).await.unwrap();

    // This node leases the delivery, and handles it until the other node is done.
    let (calls, stopped) = (Arc::default(), Arc::new(tokio::sync::Mutex::new(Some(stopped))));
    let handling = handler(&calls, move || {
        let (go_on, stopped) = (go_on.clone(), Arc::clone(&stopped));
        async move {
            go_on.send(()).unwrap();
            stopped.lock().await.take().unwrap().await.unwrap();
        }
    });
    let worker = inbox.worker(handling).lease(LEASE).poll_interval(POLL);
    ends(worker.run_until(handled(&store))).await;
    assert_eq!((calls.load(Ordering::SeqCst), other_calls.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(outcome(&store).await, (DeliveryState::Done, 2));
    let (here, there) = (log.taken(), other_log.taken());
    assert!(here.contains("leased a delivery whose last lease expired"), "{here}");
    assert!(!here.contains("outcome is discarded") && !here.contains("dead-lettered"), "{here}");
    assert!(there.contains("the handler blocked its thread"), "{there}");
    assert!(there.contains("another worker has leased the delivery, so the outcome is discarded"), "{there}");
    assert!(!there.contains("dead-lettered"), "{there}");
}

#[tokio::test]
async fn late_success_after_a_dead_letter_counts() {
    let Some(server) = PostgresServer::start("late success after a dead letter counts") else { return };
    let log = Log::default();
    let _guard = log.listen();
    let store = open(server.url()).await;
    let inbox = Inbox::new(store.clone()).keep_bodies(DAY);
    assert_eq!(send(&inbox, "evt-1", "x").await, StatusCode::OK);
    let Node { log: other_log, calls: other_calls, started, go_on, stopped } = Node::start(server.url());
    ends(started).await.unwrap();

    // This node dead-letters the delivery, because its lease has expired on the last attempt.
    let calls = Arc::default();
    let worker = inbox.worker(handler(&calls, || async {})).lease(LEASE).max_attempts(1).poll_interval(POLL);
    ends(worker.run_until(handled(&store))).await;
    assert_eq!(outcome(&store).await, (DeliveryState::Dead, 1));
    let here = log.taken();
    assert!(here.contains(&format!("dead-lettered a delivery: {LEASE_EXPIRED}")), "{here}");

    go_on.send(()).unwrap();
    ends(stopped).await.unwrap();
    assert_eq!(outcome(&store).await, (DeliveryState::Done, 1));
    assert_eq!((calls.load(Ordering::SeqCst), other_calls.load(Ordering::SeqCst)), (0, 1));
    let there = other_log.taken();
    assert!(!there.contains("outcome is discarded"), "{there}");
}

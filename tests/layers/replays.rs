//! Tests of replays: a captured delivery that is sent again with new event ids.
#![cfg(feature = "inbox")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{advance, sleep},
};
use tower::{Layer, Service, service_fn, util::BoxCloneSyncService};
use tower_klikit::{
    Delivery, EventType, KlikitVerifyLayer, VerifiedBody,
    dedupe::{Identity, KlikitDedupeLayer},
    header::EVENT_ID,
    inbox::{DeliveryState, Inbox, OrderBy, Worker},
    store::MemoryStore,
    testing::SignedDelivery,
};
use tower_klikit_test_support::log;

use crate::support::{
    BODY, SECRET,
    answers::{self, send},
};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A call of the handler.
#[derive(Debug, Clone)]
struct RecordedCall {
    /// Empty if the delivery has none.
    event_id: String,
    is_copy: bool,
    event_type: Option<EventType>,
    path: String,
}

type HandlerService = BoxCloneSyncService<Request<VerifiedBody>, Response<Full<Bytes>>, Infallible>;

/// A handler that records its calls. The status of a response depends on the event id.
#[derive(Clone, Default)]
struct RecordingHandler(Arc<Mutex<Vec<RecordedCall>>>);

impl RecordingHandler {
    fn responding(&self, status: impl Fn(&str) -> u16 + Clone + Send + Sync + 'static) -> HandlerService {
        let calls = Arc::clone(&self.0);
        BoxCloneSyncService::new(service_fn(move |request: Request<VerifiedBody>| {
            let delivery = request.extensions().get::<Delivery>().expect("the request has a verified delivery");
            let event_id = delivery.event_id().map(ToString::to_string).unwrap_or_default();
            let response = Response::builder().status(status(&event_id)).body(Full::default()).unwrap();
            calls.lock().unwrap().push(RecordedCall {
                event_id,
                is_copy: delivery.is_copy(),
                event_type: delivery.event_type().cloned(),
                path: request.uri().path().to_owned(),
            });
            async { Ok(response) }
        }))
    }

    fn take(&self) -> Vec<RecordedCall> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn ids(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|call| call.event_id.clone()).collect()
    }

    /// Asserts that these deliveries were handled in this order. After that, only those of `failed` may have been handled
    /// again, because the pause before the next attempt is random.
    #[track_caller]
    fn assert_handled(&self, expected: &[&str], failed: &[&str]) {
        let ids = self.ids();
        let again = ids.get(expected.len()..).unwrap_or_default();
        let first = &ids[..ids.len() - again.len()];
        assert_eq!(first, expected);
        assert!(again.iter().all(|id| failed.contains(&&**id)), "{ids:?}");
    }
}

/// Asserts that all calls except the first are marked as copies.
#[track_caller]
fn assert_only_first_is_original(calls: &[RecordedCall]) {
    assert!(!calls[0].is_copy && calls[1..].iter().all(|call| call.is_copy), "{calls:?}");
}

fn delivery(id: &str) -> SignedDelivery {
    SignedDelivery::new(SECRET, BODY).event_id(id)
}

fn delivery_of(body: &'static str) -> SignedDelivery {
    SignedDelivery::new(SECRET, body).event_id("other")
}

/// Returns the captured delivery with a new id.
fn replay(n: usize) -> SignedDelivery {
    delivery(&format!("replay-{n}"))
}

fn order(id: &str, order: u32, status: &str) -> SignedDelivery {
    let body = format!(r#"{{"brand_id":1,"branch_id":2,"orders":[{{"id":{order},"status":"{status}"}}]}}"#);
    SignedDelivery::new(SECRET, body).event_id(id)
}

fn verify() -> KlikitVerifyLayer {
    KlikitVerifyLayer::new(SECRET).allow_missing_event_id()
}

fn assert_rejected(answer: &answers::Answer, retry_after: u64) {
    answers::assert_unavailable(answer, "body replayed too often");
    assert_eq!(answer.retry_after, Some(retry_after));
}

/// Runs a worker in a task until the test stops it.
fn start(worker: Worker<HandlerService>) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel();
    (stop, tokio::spawn(worker.run_until(stopped)))
}

#[tokio::test(start_paused = true)]
async fn sixteen_ids_of_one_body_are_handled_in_an_hour() {
    let handler = RecordingHandler::default();
    let layer = KlikitDedupeLayer::new(MemoryStore::new());
    let stack = verify().layer(layer.layer(handler.responding(|_| 200)));
    let log = log::Log::default();
    let _logging = log.listen();
    assert_eq!(send(&stack, &delivery("genuine")).await.status, 200);
    advance(Duration::from_secs(600)).await;
    for n in 1..1000 {
        let answer = send(&stack, &replay(n)).await;
        if n < 16 {
            assert_eq!(answer.status, 200, "{n}");
        } else {
            assert_rejected(&answer, 3001);
        }
    }
    let calls = handler.take();
    assert_eq!(calls.len(), 16);
    assert_only_first_is_original(&calls);
    assert_eq!(send(&stack, &delivery("genuine")).await, answers::duplicate(), "a retry of klikit is a duplicate");
    assert_eq!(send(&stack, &replay(3)).await, answers::duplicate());
    assert_eq!(send(&stack, &order("other", 1, "PLACED")).await.status, 200);
    assert_eq!(log.text().matches("rejected a replayed delivery").count(), 1, "{}", log.text());
    assert!(log.text().contains("raise replay_limit"), "{}", log.text());

    advance(HOUR).await;
    assert_eq!(send(&stack, &replay(1000)).await.status, 200);
}

/// Without its id, a captured delivery has another key and is handled once more.
#[tokio::test(start_paused = true)]
async fn captured_delivery_without_its_id_is_a_copy() {
    let without_id = |body: &str| SignedDelivery::new(SECRET, body.to_owned()).without_header(&EVENT_ID);
    let handler = RecordingHandler::default();
    let dedupe = KlikitDedupeLayer::new(MemoryStore::new());
    let inline = verify().layer(dedupe.layer(handler.responding(|_| 200)));
    let inbox = Inbox::new(MemoryStore::new());
    let acceptor = verify().layer(inbox.acceptor());
    let (stop, worker) = start(inbox.worker(handler.responding(|_| 200)));

    // Send the delivery with and without its id, in both orders. Only the second one is a copy.
    let take_calls = || -> Vec<_> { handler.take().into_iter().map(|call| (call.event_id, call.is_copy)).collect() };
    let called = |id: &str, is_copy| (id.to_owned(), is_copy);
    for (first, second) in [(delivery("genuine"), without_id(BODY)), (without_id("{}"), delivery_of("{}"))] {
        let ids = [&first, &second].map(|delivery| {
            let request = delivery.request::<Full<Bytes>>();
            request.headers().get(&EVENT_ID).map_or(String::new(), |id| id.to_str().unwrap().to_owned())
        });
        for accepted in [send(&inline, &first).await, send(&inline, &second).await] {
            assert_eq!(accepted.status, 200);
        }
        assert_eq!(send(&inline, &first).await, answers::duplicate());
        assert_eq!(send(&inline, &second).await, answers::duplicate());
        assert_eq!(take_calls(), [called(&ids[0], false), called(&ids[1], true)]);

        for delivery in [&first, &second] {
            assert_eq!(send(&acceptor, delivery).await, answers::ok(r#"{"status":"received"}"#));
            sleep(Duration::from_secs(5)).await;
        }
        assert_eq!(take_calls(), [called(&ids[0], false), called(&ids[1], true)]);
    }
    stop.send(()).unwrap();
    worker.await.unwrap();

    // A missing id counts like a further id.
    let limited = KlikitDedupeLayer::new(MemoryStore::new()).replay_limit(2, HOUR);
    let stack = verify().layer(limited.layer(handler.responding(|_| 200)));
    assert_eq!(send(&stack, &delivery("genuine")).await.status, 200);
    assert_eq!(send(&stack, &replay(1)).await.status, 200);
    assert_rejected(&send(&stack, &without_id(BODY)).await, 3601);
}

#[tokio::test(start_paused = true)]
async fn limit_and_window_can_be_set() {
    let handler = RecordingHandler::default();
    let layer = KlikitDedupeLayer::new(MemoryStore::new()).replay_limit(3, Duration::from_secs(60));
    let stack = verify().layer(layer.layer(handler.responding(|_| 200)));
    let statuses = async |from: usize| {
        let mut statuses = Vec::new();
        for n in from..from + 4 {
            statuses.push(send(&stack, &replay(n)).await.status);
        }
        statuses
    };
    assert_eq!(statuses(0).await, [200, 200, 200, 503]);
    advance(Duration::from_secs(60)).await;
    assert_eq!(statuses(10).await, [200, 200, 503, 503], "the first id counts in each window");
}

#[tokio::test(start_paused = true)]
async fn any_number_of_replays_can_be_allowed() {
    let handler = RecordingHandler::default();
    let layer = KlikitDedupeLayer::new(MemoryStore::new()).allow_unlimited_replays();
    let stack = verify().layer(layer.layer(handler.responding(|_| 200)));
    for n in 0..100 {
        assert_eq!(send(&stack, &replay(n)).await.status, 200);
    }
    let calls = handler.take();
    assert_eq!(calls.len(), 100);
    assert_only_first_is_original(&calls);
}

#[tokio::test(start_paused = true)]
async fn body_as_identity_makes_replays_duplicates() {
    let handler = RecordingHandler::default();
    let layer = KlikitDedupeLayer::new(MemoryStore::new()).identity(Identity::Body);
    let stack = verify().layer(layer.layer(handler.responding(|_| 200)));
    assert_eq!(send(&stack, &replay(0)).await.status, 200);
    for n in 1..100 {
        assert_eq!(send(&stack, &replay(n)).await, answers::duplicate());
    }
    assert_eq!(handler.take().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn replays_do_not_empty_the_memory_store() {
    let handler = RecordingHandler::default();
    let layer = KlikitDedupeLayer::new(MemoryStore::new().capacity(1000));
    let stack = verify().layer(layer.layer(handler.responding(|_| 200)));
    let genuine = |n: u32| order(&format!("genuine-{n}"), n, "PLACED");
    for n in 0..100 {
        assert_eq!(send(&stack, &genuine(n)).await.status, 200);
    }
    for n in 0..2000 {
        send(&stack, &order(&format!("replay-{n}"), 7, "PLACED")).await;
    }
    for n in 0..100 {
        assert_eq!(send(&stack, &genuine(n)).await, answers::duplicate(), "{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn replays_do_not_fill_the_backlog() {
    let handler = RecordingHandler::default();
    let inbox = Inbox::new(MemoryStore::new()).max_backlog(100);
    let stack = verify().layer(inbox.acceptor());
    // The handler responds 409 to copies of an order that it knows, so they are retried and stay in the backlog.
    let status = |id: &str| if id.starts_with("replay") { 409 } else { 200 };
    let (stop, worker) = start(inbox.worker(handler.responding(status)));
    assert_eq!(send(&stack, &order("genuine-0", 7, "PLACED")).await.status, 200);
    for n in 0..5000 {
        let answer = send(&stack, &order(&format!("replay-{n}"), 7, "PLACED")).await;
        assert_eq!(answer.status, if n < 15 { 200 } else { 503 });
        if n % 50 == 0 {
            // Wait until the backlog is counted again.
            sleep(Duration::from_secs(1)).await;
            let id = format!("genuine-{}", n + 1);
            assert_eq!(send(&stack, &order(&id, 8 + n, "PLACED")).await.status, 200);
        }
    }
    sleep(Duration::from_secs(5)).await;
    assert_eq!(inbox.counts().await.unwrap().backlog(), 15);
    assert_eq!(handler.ids().iter().filter(|id| id.starts_with("genuine")).count(), 101);
    drop(stop);
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn failed_copy_does_not_block_later_deliveries() {
    let handler = RecordingHandler::default();
    let inbox = Inbox::new(MemoryStore::new()).order_by(OrderBy::order());
    let stack = verify().layer(inbox.acceptor());
    let status = |id: &str| if id.starts_with("replay") { 409 } else { 200 };
    for delivery in [
        order("placed", 7, "PLACED"),
        order("replay-1", 7, "PLACED"),
        order("replay-2", 7, "PLACED"),
        order("cancelled", 7, "CANCELLED"),
    ] {
        assert_eq!(send(&stack, &delivery).await.status, 200);
        sleep(Duration::from_millis(1)).await;
    }
    let backoff = Duration::from_secs(1000);
    let (stop, worker) = start(inbox.worker(handler.responding(status)).backoff(backoff, backoff));
    sleep(Duration::from_secs(10)).await;
    // The copies are ordered until they fail.
    handler.assert_handled(&["placed", "replay-1", "replay-2", "cancelled"], &["replay-1", "replay-2"]);
    sleep(4 * backoff).await;
    assert!(handler.ids()[4..].iter().any(|id| id == "replay-1"), "a failed copy is retried");
    drop(stop);
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn genuine_failure_blocks_later_deliveries() {
    let handler = RecordingHandler::default();
    let inbox = Inbox::new(MemoryStore::new()).order_by(OrderBy::order());
    let stack = verify().layer(inbox.acceptor());
    for delivery in [order("placed", 7, "PLACED"), order("cancelled", 7, "CANCELLED")] {
        assert_eq!(send(&stack, &delivery).await.status, 200);
        sleep(Duration::from_millis(1)).await;
    }
    let status = |id: &str| if id == "placed" { 503 } else { 200 };
    let backoff = Duration::from_secs(1000);
    let (stop, worker) = start(inbox.worker(handler.responding(status)).backoff(backoff, backoff));
    sleep(Duration::from_secs(10)).await;
    handler.assert_handled(&["placed"], &["placed"]);
    drop(stop);
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn copy_whose_worker_crashed_does_not_block() {
    let handler = RecordingHandler::default();
    let store = MemoryStore::new();
    let inbox = Inbox::new(store.clone()).order_by(OrderBy::order());
    let stack = verify().layer(inbox.acceptor());
    assert_eq!(send(&stack, &order("placed", 7, "PLACED")).await.status, 200);
    let (stop, worker) = start(inbox.worker(handler.responding(|_| 200)));
    sleep(Duration::from_secs(1)).await;
    drop(stop);
    worker.await.unwrap();
    for delivery in [order("replay", 7, "PLACED"), order("cancelled", 7, "CANCELLED")] {
        assert_eq!(send(&stack, &delivery).await.status, 200);
        sleep(Duration::from_millis(1)).await;
    }
    // Another worker leases the copy and crashes.
    let lease = Duration::from_secs(30);
    let request = tower_klikit::inbox::LeaseRequest {
        limit: 2,
        free_handlers: 2,
        duration: lease,
        max_attempts: 9,
        held: &[],
        worker: "test",
    };
    assert_eq!(tower_klikit::inbox::InboxStore::lease(&store, &request).await.unwrap().leased.len(), 1);

    // A new inbox stands for another node.
    let inbox = Inbox::new(store).order_by(OrderBy::order());
    let backoff = Duration::from_secs(1000);
    let (stop, worker) = start(inbox.worker(handler.responding(|_| 200)).backoff(backoff, backoff));
    sleep(2 * lease).await;
    handler.assert_handled(&["placed", "cancelled"], &["replay"]);
    sleep(2 * backoff).await;
    assert_eq!(handler.ids(), ["placed", "cancelled", "replay"]);
    drop(stop);
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dead_letter_is_revived_sixteen_times_in_an_hour() {
    let handler = RecordingHandler::default();
    let inbox = Inbox::new(MemoryStore::new());
    let stack = verify().layer(inbox.acceptor());
    let (stop, worker) = start(inbox.worker(handler.responding(|_| 422)));
    let mut statuses = Vec::new();
    for _ in 0..300 {
        statuses.push(send(&stack, &delivery("evt-1")).await.status);
        sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(handler.take().len(), 16);
    assert!(statuses[..16].iter().all(|&status| status == 200), "{statuses:?}");
    assert!(statuses[16..].iter().all(|&status| status == 503), "klikit retries after 503: {statuses:?}");
    let dead = inbox.dead(None, 9).await.unwrap();
    assert_eq!((dead.len(), dead[0].state), (1, DeliveryState::Dead));
    advance(HOUR).await;
    assert_eq!(send(&stack, &delivery("evt-1")).await.status, 200);
    drop(stop);
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn revived_dead_letter_keeps_its_event_type() {
    let handler = RecordingHandler::default();
    let inbox = Inbox::new(MemoryStore::new());
    let stack = verify().layer(inbox.acceptor());
    let first = delivery("evt-1").uri("/old").event_type(EventType::OrderCreated);
    let again = delivery("evt-1").uri("/new").event_type(EventType::OrderCartUpdated);
    let (stop, worker) = start(inbox.worker(handler.responding(|_| 422)));
    for delivery in [&first, &again, &again] {
        assert_eq!(send(&stack, delivery).await.status, 200);
        sleep(Duration::from_secs(1)).await;
    }
    let calls = handler.take().into_iter().map(|call| (call.event_type, call.path));
    let expected = ["/old", "/new", "/new"].map(|path| (Some(EventType::OrderCreated), path.to_owned()));
    assert_eq!(calls.collect::<Vec<_>>(), expected);
    let entry = inbox.dead(None, 9).await.unwrap().remove(0);
    assert_eq!(entry.event_type(), Some(EventType::OrderCreated.as_str()));
    drop(stop);
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn revivals_are_limited_with_body_as_identity() {
    let handler = RecordingHandler::default();
    let inbox = Inbox::new(MemoryStore::new()).identity(Identity::Body);
    let stack = verify().layer(inbox.acceptor());
    let (stop, worker) = start(inbox.worker(handler.responding(|_| 422)));
    for n in 0..50 {
        let answer = send(&stack, &replay(n)).await;
        assert_eq!(answer.status, if n < 16 { 200 } else { 503 }, "{n}");
        sleep(Duration::from_secs(2)).await;
    }
    let ids = handler.ids();
    assert_eq!(ids.len(), 16);
    assert!(ids.iter().all(|id| id == "replay-0"), "a revived dead letter keeps its id: {ids:?}");
    drop(stop);
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn revived_dead_letter_blocks_until_it_fails() {
    let handler = RecordingHandler::default();
    let inbox = Inbox::new(MemoryStore::new()).order_by(OrderBy::order());
    let stack = verify().layer(inbox.acceptor());
    let status = |id: &str| if id == "placed" { 409 } else { 200 };
    let backoff = Duration::from_secs(1000);
    let worker = inbox.worker(handler.responding(status)).backoff(backoff, backoff).max_attempts(2);
    let (stop, worker) = start(worker);
    assert_eq!(send(&stack, &order("placed", 7, "PLACED")).await.status, 200);
    sleep(3 * backoff).await;
    assert_eq!(inbox.counts().await.unwrap().dead, 1);
    for delivery in [order("placed", 7, "PLACED"), order("cancelled", 7, "CANCELLED")] {
        assert_eq!(send(&stack, &delivery).await.status, 200);
    }
    sleep(Duration::from_secs(10)).await;
    handler.assert_handled(&["placed", "placed", "placed", "cancelled"], &["placed"]);
    drop(stop);
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn concurrent_replays_are_limited_too() {
    let handler = RecordingHandler::default();
    let inbox = Inbox::new(MemoryStore::new());
    let stack = verify().layer(inbox.acceptor());
    let sent = (0..500).map(|n| {
        let mut stack = stack.clone();
        async move { stack.call(replay(n).request::<Full<Bytes>>()).await.unwrap().status() }
    });
    let statuses = futures_util::future::join_all(sent).await;
    assert_eq!(statuses.iter().filter(|&&status| status == StatusCode::OK).count(), 16);
    assert_eq!(inbox.counts().await.unwrap().ready, 16);
    assert!(handler.take().is_empty());
}

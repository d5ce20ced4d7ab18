//! Tests of prefetching: deliveries that are leased before a handler is free.

mod store;

use std::collections::BTreeSet;

use self::store::PrefetchingStore;
use super::*;

/// The number of deliveries that a test stores.
const DELIVERIES: usize = 200;

/// Creates an inbox with [`DELIVERIES`] pending deliveries.
async fn filled() -> (PrefetchingStore, Inbox) {
    let store = PrefetchingStore::default();
    let inbox = Inbox::new(store.clone());
    let stack = stack(&inbox);
    for number in 0..DELIVERIES {
        assert_received(&stack, &numbered(number)).await;
    }
    (store, inbox)
}

/// Creates a handler that responds at once to the first `fast` deliveries, and then hangs.
fn hangs_after(fast: usize) -> ScriptedHandler {
    ScriptedHandler::new(Reaction::Hangs).first(vec![Reaction::Answers(200); fast])
}

fn assert_each_ran_once(handler: &ScriptedHandler) {
    let ids: BTreeSet<_> = handler.done().into_iter().collect();
    assert_eq!((ids.len(), handler.done().len(), handler.attempts()), (DELIVERIES, DELIVERIES, vec![1; DELIVERIES]));
}

#[tokio::test(start_paused = true)]
async fn fast_handlers_prefetch() {
    let mut calls = Vec::new();
    for prefetch in [None, Some(0), Some(10)] {
        let (store, inbox) = filled().await;
        let handler = ScriptedHandler::new(Reaction::Answers(200));
        let worker = inbox.worker(handler.clone()).concurrency(2);
        let worker = RunningWorker::start(match prefetch {
            Some(prefetch) => worker.prefetch(prefetch),
            None => worker,
        });
        until_empty(&inbox).await;
        worker.stop().await;
        assert_each_ran_once(&handler);
        calls.push(store.lease_calls());
    }
    let [default, without, few] = calls[..] else { unreachable!("there were three workers") };
    assert!(default < DELIVERIES / 10, "{default} calls");
    assert!(without >= DELIVERIES / 2, "{without} calls");
    assert!(few > default && few < without / 2, "{few} calls");
}

#[tokio::test(start_paused = true)]
async fn store_without_prefetch_leases_for_handlers_only() {
    let inbox = inbox();
    for number in 0..DELIVERIES {
        assert_received(&stack(&inbox), &numbered(number)).await;
    }
    let worker = RunningWorker::start(inbox.worker(hangs_after(50)).concurrency(2));
    sleep(seconds(1)).await;
    assert_eq!(inbox.counts().await.unwrap().leased, 2);
    worker.task.abort();
}

#[tokio::test(start_paused = true)]
async fn slow_handlers_do_not_prefetch() {
    let (store, inbox) = filled().await;
    let worker =
        RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::AnswersAfter(seconds(1)))).concurrency(4));
    for _ in 0..10 {
        sleep(Duration::from_millis(1050)).await;
        // Twice the concurrency: as many as the handlers have just finished are prefetched.
        assert!(inbox.counts().await.unwrap().leased <= 8);
        assert!(store.last_leased() <= 8);
    }
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn drain_releases_prefetched_deliveries() {
    let (store, inbox) = filled().await;
    let handler = hangs_after(50);
    let worker = RunningWorker::start(inbox.worker(handler.clone()).concurrency(2).drain_deadline(seconds(2)));
    sleep(seconds(1)).await;
    let leased = inbox.counts().await.unwrap().leased;
    assert!(leased > 10, "{leased} are leased");
    let stopped = Instant::now();
    worker.stop().await;
    assert!(stopped.elapsed() < seconds(3));
    assert_eq!((inbox.counts().await.unwrap().leased, handler.calls().len()), (0, 52));
    assert_eq!(store.ready_without_attempts().await, 150);
    handler.set_reaction(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()).max_attempts(1));
    until_empty(&inbox).await;
    worker.stop().await;
    assert!(handler.attempts().iter().all(|attempt| *attempt == 1));
    assert_eq!((handler.done().len(), inbox.counts().await.unwrap()), (DELIVERIES, Counts::default()));
}

#[tokio::test(start_paused = true)]
async fn releases_prefetched_deliveries_after_a_second() {
    let (store, inbox) = filled().await;
    let handler = hangs_after(50);
    let worker = RunningWorker::start(inbox.worker(handler.clone()).concurrency(2).handler_deadline(seconds(300)));
    sleep(Duration::from_millis(900)).await;
    let leased = inbox.counts().await.unwrap().leased;
    assert!(leased > 10, "{leased} are leased");
    for _ in 0..20 {
        sleep(seconds(2)).await;
        assert_eq!((inbox.counts().await.unwrap().leased, handler.calls().len()), (2, 52));
        assert_eq!(store.ready_without_attempts().await, 148);
    }
    // Another node handles the released deliveries.
    let other = ScriptedHandler::new(Reaction::Answers(200));
    let other_worker = RunningWorker::start(Inbox::new(store.clone()).worker(other.clone()));
    sleep(seconds(2)).await;
    assert_eq!((other.attempts(), inbox.counts().await.unwrap().leased), (vec![1; 148], 2));
    other_worker.stop().await;
    worker.task.abort();
}

/// The paused clock advances only while all tasks wait, so a worker that polled in a loop would stop it.
#[tokio::test(start_paused = true)]
async fn waits_for_a_slow_call_that_leases() {
    let (store, inbox) = filled().await;
    store.set_lease_latency(Duration::from_millis(10_000));
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()).concurrency(300).poll_interval(seconds(1)));
    sleep(seconds(9)).await;
    assert_eq!((store.lease_calls(), handler.attempts().len()), (1, 0));
    sleep(seconds(2)).await;
    assert_each_ran_once(&handler);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failed_start_is_retried_before_the_handler() {
    let store = PrefetchingStore::default();
    let inbox = Inbox::new(store.clone());
    assert_received(&stack(&inbox), &delivery()).await;
    store.fail_starts(3);
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(5)));
    // The last attempt is counted when it starts, not when it is leased.
    let worker = RunningWorker::start(inbox.worker(handler.clone()).max_attempts(1));
    sleep(Duration::from_millis(2500)).await;
    let attempts = async || store.entries().await.into_iter().map(|entry| entry.attempts).collect::<Vec<_>>();
    assert_eq!((handler.begun().len(), attempts().await), (0, vec![0]));
    sleep(seconds(2)).await;
    assert_eq!((handler.begun().len(), attempts().await), (1, vec![1]));
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!((handler.attempts(), inbox.counts().await.unwrap()), (vec![1], Counts::default()));
}

#[tokio::test(start_paused = true)]
async fn drain_during_failing_starts_counts_no_attempt() {
    let store = PrefetchingStore::default();
    let inbox = Inbox::new(store.clone());
    assert_received(&stack(&inbox), &delivery()).await;
    store.fail_starts(1000);
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()).max_attempts(1));
    sleep(seconds(10)).await;
    worker.stop().await;
    assert_eq!((handler.begun().len(), store.ready_without_attempts().await), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn denied_start_runs_no_handler() {
    let store = PrefetchingStore::default();
    let inbox = Inbox::new(store.clone());
    assert_received(&stack(&inbox), &delivery()).await;
    store.deny_starts(1);
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()).max_attempts(1));
    sleep(seconds(29)).await;
    assert_eq!((handler.begun().len(), inbox.counts().await.unwrap().leased), (0, 1));
    // The lease expires, and the delivery is leased again.
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!((handler.attempts(), inbox.counts().await.unwrap()), (vec![1], Counts::default()));
}

/// A handler that hangs on the delivery `evt-60`, and responds to all others at once.
#[derive(Clone, Default)]
struct PoisonedHandler(Arc<Mutex<Vec<String>>>);

impl PoisonedHandler {
    fn started(&self, id: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|started| *started == id).count()
    }
}

impl Service<Request<VerifiedBody>> for PoisonedHandler {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<VerifiedBody>) -> Self::Future {
        let id = request.extensions().get::<EventId>().expect("the request has an event id").to_string();
        self.0.lock().unwrap().push(id.clone());
        Box::pin(async move {
            if id == "evt-60" {
                pending::<()>().await;
            }
            Ok(Response::new(Full::from("handled")))
        })
    }
}

/// If a worker crashes, only the attempts that have started count.
#[tokio::test(start_paused = true)]
async fn only_the_poisonous_delivery_is_dead_lettered() {
    for (concurrency, max_attempts) in [(1, 1), (1, 2), (1, 3), (4, 1), (4, 2), (4, 3)] {
        let (store, inbox) = filled().await;
        let handler = PoisonedHandler::default();
        let starts_of_poison = || handler.started("evt-60");
        let mut crashes = 0;
        loop {
            // A new inbox stands for a new process.
            let worker = Inbox::new(store.clone()).worker(handler.clone()).concurrency(concurrency);
            let worker = tokio::spawn(worker.max_attempts(max_attempts).lease(seconds(3)).run_until(pending::<()>()));
            until("the poisonous delivery starts, or all are handled", async || {
                starts_of_poison() > crashes || inbox.counts().await.unwrap().backlog() == 0
            })
            .await;
            if starts_of_poison() == crashes {
                worker.abort();
                break;
            }
            crashes += 1;
            worker.abort();
            assert!(worker.await.unwrap_err().is_cancelled());
            let leased = inbox.counts().await.unwrap().leased;
            assert!(crashes > 1 || concurrency > 1 || leased > 10, "{leased} were leased");
            for entry in store.entries().await {
                let started = handler.started(entry.event_id().unwrap());
                assert_eq!(usize::try_from(entry.attempts).unwrap(), started, "{:?}", entry.event_id());
            }
        }
        let dead: Vec<_> = store.entries().await;
        assert_eq!((dead.len(), crashes), (1, usize::try_from(max_attempts).unwrap()));
        assert_eq!((dead[0].event_id(), dead[0].attempts), (Some("evt-60"), max_attempts));
        assert_eq!(dead[0].reason.as_deref(), Some(LEASE_EXPIRED));
        for number in (0..DELIVERIES).filter(|number| *number != 60) {
            assert_eq!(handler.started(&format!("evt-{number}")), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_releases_deliveries_being_leased() {
    for max_attempts in [1, 25] {
        let (store, inbox) = filled().await;
        store.set_lease_latency(Duration::from_millis(40));
        let handler = ScriptedHandler::new(Reaction::AnswersAfter(Duration::from_millis(5)));
        let worker = RunningWorker::start(inbox.worker(handler.clone()).concurrency(4).max_attempts(max_attempts));
        sleep(Duration::from_millis(200)).await;
        store.set_lease_latency(Duration::from_millis(700));
        let calls = store.lease_calls();
        until("a call is leasing", async || store.lease_calls() > calls && store.is_leasing()).await;
        store.reset_last_leased();
        worker.stop().await;
        assert!(store.last_leased() > 0);
        assert_eq!(inbox.counts().await.unwrap().leased, 0);
        assert_eq!(store.ready_without_attempts().await + handler.done().len(), DELIVERIES);
    }
}

#[tokio::test(start_paused = true)]
async fn prefetching_workers_handle_each_delivery_once() {
    for lease_millis in [0, 30] {
        let (store, inbox) = filled().await;
        store.set_lease_latency(Duration::from_millis(lease_millis));
        let handler = ScriptedHandler::new(Reaction::AnswersAfter(Duration::from_millis(3)));
        let workers = [(); 2].map(|()| RunningWorker::start(inbox.worker(handler.clone()).concurrency(4)));
        until_empty(&inbox).await;
        for worker in workers {
            worker.stop().await;
        }
        assert_each_ran_once(&handler);
        assert!(store.lease_calls() < DELIVERIES / 4, "{} calls", store.lease_calls());
    }
}

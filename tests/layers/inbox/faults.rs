//! Tests of stores that fail, hang, or lose their responses.

#[cfg(feature = "tracing")]
use tracing_subscriber::filter::LevelFilter;

#[cfg(feature = "tracing")]
use super::log::Log;
use super::{faulty_store::FaultyInboxStore, *};

/// Creates a faulty store, an inbox on it, and another inbox that uses the same memory store without the faults.
fn faulty_and_healthy() -> (FaultyInboxStore, Inbox, Inbox) {
    let store = FaultyInboxStore::default();
    let (faulty, healthy) = (Inbox::new(store.clone()), Inbox::new(store.inner.clone()));
    (store, faulty, healthy)
}

#[tokio::test(start_paused = true)]
async fn failing_store_is_503_and_recovers() {
    let (store, inbox, _) = faulty_and_healthy();
    let stack = stack(&inbox);
    store.begin_outage();
    assert_unavailable(&stack, &delivery(), "store unavailable").await;
    store.end_outage();
    assert_received(&stack, &delivery()).await;
}

#[tokio::test(start_paused = true)]
async fn hanging_store_is_503_at_the_deadline() {
    let (store, inbox, _) = faulty_and_healthy();
    let stack = stack(&inbox.accept_deadline(seconds(3)));
    store.hangs.set(true);
    let started = Instant::now();
    assert_unavailable(&stack, &delivery(), "store unavailable").await;
    assert!(started.elapsed().abs_diff(seconds(3)) < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn worker_continues_after_store_outage() {
    let (store, inbox, healthy) = faulty_and_healthy();
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    store.begin_outage();
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    assert_received(&stack(&healthy), &delivery()).await;
    sleep(seconds(100)).await;
    assert_eq!(handler.begun().len(), 0);
    store.end_outage();
    until_empty(&healthy).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1]);
}

/// A worker counts the deliveries when it starts, for its log.
#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn worker_starts_although_counting_fails() {
    for is_hanging in [false, true] {
        let log = Log::default();
        let _guard = log.listen_at(LevelFilter::INFO);
        let (store, inbox, healthy) = faulty_and_healthy();
        assert_received(&stack(&healthy), &delivery()).await;
        let handler = ScriptedHandler::new(Reaction::Answers(200));
        let fault = |is_on| if is_hanging { store.hangs.set(is_on) } else { store.set_outage(is_on) };
        fault(true);
        let worker = RunningWorker::start(inbox.worker(handler.clone()));
        sleep(seconds(1)).await;
        fault(false);
        until_empty(&healthy).await;
        worker.stop().await;
        assert_eq!(handler.attempts(), [1]);
        let log = log.text();
        assert!(log.contains("cannot count deliveries: the store call failed") && !log.contains("pending"), "{log}");
        assert!(log.contains("stopped"), "{log}");
    }
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn inbox_is_counted_again_after_an_outage() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (store, inbox, _) = faulty_and_healthy();
    store.begin_outage();
    let worker = RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Hangs)));
    sleep(seconds(20)).await;
    assert!(!recorder.handle().render().contains(" gauge\n"));
    store.end_outage();
    assert_received(&stack(&inbox), &delivery()).await;
    sleep(seconds(15)).await;
    let text = recorder.handle().render();
    assert!(text.contains("klikit_inbox_deliveries{state=\"leased\"} 1\n"), "{text}");
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn outcome_is_reported_after_an_outage() {
    let (store, inbox, healthy) = faulty_and_healthy();
    assert_received(&stack(&healthy), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(5)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(seconds(1)).await;
    store.begin_outage();
    sleep(seconds(14)).await;
    assert_eq!(handler.done().len(), 1);
    store.end_outage();
    until_empty(&healthy).await;
    sleep(seconds(100)).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn handlers_on_two_nodes_both_finish() {
    let (store, inbox, healthy) = faulty_and_healthy();
    assert_received(&stack(&healthy), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(100)));
    let cut_off = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(seconds(1)).await;
    store.begin_outage();
    let other = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(healthy.worker(other.clone()));
    until_empty(&healthy).await;
    sleep(seconds(200)).await;
    store.end_outage();
    worker.stop().await;
    cut_off.stop().await;
    assert_eq!((handler.done().len(), other.done().len()), (1, 1));
    assert_eq!(healthy.counts().await.unwrap(), Counts::default());
}

#[tokio::test(start_paused = true)]
async fn outcome_counts_after_outage_beyond_the_lease() {
    for outage in [40, 400] {
        let (store, inbox, healthy) = faulty_and_healthy();
        assert_received(&stack(&healthy), &delivery()).await;
        let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(10)));
        let worker = RunningWorker::start(inbox.worker(handler.clone()).max_attempts(1));
        sleep(seconds(1)).await;
        store.begin_outage();
        sleep(seconds(outage)).await;
        assert_eq!((handler.done().len(), healthy.counts().await.unwrap().leased), (1, 1));
        store.end_outage();
        until_empty(&healthy).await;
        worker.stop().await;
        assert_eq!((handler.attempts(), healthy.counts().await.unwrap()), (vec![1], Counts::default()));
    }
}

#[tokio::test(start_paused = true)]
async fn lost_response_to_settle_is_harmless() {
    let (store, inbox, healthy) = faulty_and_healthy();
    store.lose_settle_responses(1);
    assert_received(&stack(&healthy), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(seconds(100)).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1]);
    assert_eq!(healthy.counts().await.unwrap(), Counts::default());
}

#[tokio::test(start_paused = true)]
async fn worker_stops_during_an_outage() {
    let (store, inbox, healthy) = faulty_and_healthy();
    assert_received(&stack(&healthy), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(2)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(seconds(1)).await;
    store.begin_outage();
    let stopped = Instant::now();
    worker.stop().await;
    assert!(stopped.elapsed() < seconds(60));
}

#[tokio::test(start_paused = true)]
async fn handler_outlasts_store_outage() {
    let (store, inbox, healthy) = faulty_and_healthy();
    assert_received(&stack(&healthy), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(100)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(seconds(1)).await;
    store.begin_outage();
    sleep(seconds(40)).await;
    store.end_outage();
    until_empty(&healthy).await;
    worker.stop().await;
    assert_eq!((handler.attempts(), handler.done().len()), (vec![1], 1));
}

#[tokio::test(start_paused = true)]
async fn outcome_counts_although_extending_failed() {
    let (store, inbox, healthy) = faulty_and_healthy();
    assert_received(&stack(&healthy), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(45)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(seconds(1)).await;
    store.denies_extensions.set(true);
    until_empty(&healthy).await;
    worker.stop().await;
    assert_eq!((handler.attempts(), handler.done().len()), (vec![1], 1));
}

#[tokio::test(start_paused = true)]
async fn slow_store_costs_no_lease() {
    let (store, inbox, healthy) = faulty_and_healthy();
    assert_received(&stack(&healthy), &delivery()).await;
    store.set_latency(Duration::from_millis(800));
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(100)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()).lease(seconds(10)));
    until_empty(&healthy).await;
    worker.stop().await;
    assert_eq!((handler.attempts(), handler.done().len()), (vec![1], 1));
}

#[tokio::test(start_paused = true)]
async fn releases_deliveries_leased_during_shutdown() {
    let (store, inbox, healthy) = faulty_and_healthy();
    assert_received(&stack(&healthy), &delivery()).await;
    store.set_latency(Duration::from_millis(800));
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(Duration::from_millis(100)).await;
    worker.stop().await;
    let counts = healthy.counts().await.unwrap();
    assert_eq!((counts.ready, counts.leased, handler.begun().len()), (1, 0, 0));
    let worker = RunningWorker::start(healthy.worker(handler.clone()));
    until_empty(&healthy).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn unreadable_head_is_retried() {
    let (store, inbox, healthy) = faulty_and_healthy();
    assert_received(&stack(&healthy), &delivery()).await;
    store.garbles_heads.set(true);
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(seconds(30)).await;
    assert_eq!(handler.begun().len(), 0);
    // Readable again, as after an update of this crate.
    store.garbles_heads.set(false);
    until_empty(&healthy).await;
    worker.stop().await;
    assert_eq!((handler.begun().len(), healthy.counts().await.unwrap().dead), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_reported_after_the_drain_deadline() {
    let (store, inbox, healthy) = faulty_and_healthy();
    for number in 0..4 {
        assert_received(&stack(&healthy), &numbered(number)).await;
    }
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(2)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()).drain_deadline(seconds(3)));
    sleep(seconds(1)).await;
    // Each call takes longer than the rest of the drain deadline.
    store.set_latency(Duration::from_millis(2500));
    worker.stop().await;
    assert_eq!(handler.done().len(), 4);
    assert_eq!(healthy.counts().await.unwrap(), Counts::default());
}

#[tokio::test(start_paused = true)]
async fn hanging_count_does_not_block_accepting() {
    let (store, inbox, _) = faulty_and_healthy();
    let stack = stack(&inbox.max_backlog(1));
    assert_received(&stack, &numbered(0)).await;
    store.hangs.set(true);
    sleep(seconds(1)).await;
    assert_unavailable(&stack, &numbered(1), "store unavailable").await;
    store.hangs.set(false);
    sleep(seconds(10)).await;
    assert_unavailable(&stack, &numbered(1), "backlog full").await;
}

#[tokio::test(start_paused = true)]
async fn hanging_count_of_all_blocks_only_a_full_inbox() {
    let (store, inbox, _) = faulty_and_healthy();
    let stack = stack(&inbox.max_stored(3));
    store.hangs_on_stored.set(true);
    let started = Instant::now();
    for number in 0..3 {
        assert_received(&stack, &numbered(number)).await;
    }
    assert!(started.elapsed() < seconds(1));
    assert_unavailable(&stack, &numbered(3), "store unavailable").await;
    store.hangs_on_stored.set(false);
    sleep(seconds(20)).await;
    assert_unavailable(&stack, &numbered(3), "inbox full").await;
}

#[tokio::test(start_paused = true)]
async fn failing_eviction_is_503_and_recovers() {
    let (store, inbox, _) = faulty_and_healthy();
    let inbox = inbox.max_stored(2).keep_bodies(seconds(1000));
    let stack = stack(&inbox);
    let worker = RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Answers(200))));
    for number in 0..2 {
        assert_received(&stack, &numbered(number)).await;
        until_empty(&inbox).await;
    }
    worker.stop().await;
    store.fails_to_evict.set(true);
    assert_unavailable(&stack, &numbered(2), "store unavailable").await;
    store.fails_to_evict.set(false);
    assert_received(&stack, &numbered(2)).await;
    assert_eq!(inbox.counts().await.unwrap().stored(), 2);
}

#[tokio::test(start_paused = true)]
async fn rejections_of_a_full_inbox_cost_no_calls() {
    let (store, inbox, _) = faulty_and_healthy();
    let stack = stack(&inbox.max_stored(2));
    for number in 0..2 {
        assert_received(&stack, &numbered(number)).await;
    }
    assert_unavailable(&stack, &numbered(2), "inbox full").await;
    let calls = store.capacity_calls();
    for _ in 0..50 {
        assert_unavailable(&stack, &numbered(2), "inbox full").await;
    }
    assert_eq!(store.capacity_calls(), calls);
    // Before a rejection, deliveries are counted again if the last count is a second old.
    sleep(seconds(1)).await;
    assert_unavailable(&stack, &numbered(2), "inbox full").await;
    assert!(store.capacity_calls() > calls);
}

//! Tests of the health that probes ask for.

use tower_klikit::inbox::{Filter, Health};

use super::{faulty_store::FaultyInboxStore, *};

/// Returns the health after the background count has ended.
async fn health(inbox: &Inbox) -> Health {
    inbox.health().await;
    sleep(seconds(11)).await;
    inbox.health().await;
    sleep(Duration::from_millis(100)).await;
    inbox.health().await
}

#[tokio::test(start_paused = true)]
async fn inbox_without_a_worker_is_healthy() {
    let inbox = inbox();
    assert_received(&stack(&inbox), &delivery()).await;
    let first = inbox.health().await;
    assert!(first.is_live() && first.is_ready());
    assert_eq!(first.counts, None);
    let later = health(&inbox).await;
    let counts = later.counts.unwrap();
    assert_eq!((later.workers, counts.ready), (0, 1));
    assert!(counts.oldest.unwrap().abs_diff(seconds(11)) < seconds(2), "{later:?}");
    assert_eq!(
        later.to_string(),
        "store reachable, 0 workers running, 0 draining, 0 failed, 1 pending, 0 dead, oldest pending 11 s"
    );
}

#[tokio::test(start_paused = true)]
async fn inbox_is_live_and_not_ready_without_its_store() {
    let store = FaultyInboxStore::default();
    let inbox = Inbox::new(store.clone());
    store.begin_outage();
    let down = inbox.health().await;
    assert!(down.is_live() && !down.is_ready(), "{down:?}");
    assert!(down.to_string().starts_with("store unreachable"), "{down}");
    store.end_outage();
    assert!(inbox.health().await.is_ready());
    store.hangs.set(true);
    let asked = Instant::now();
    assert!(!inbox.health().await.is_ready());
    assert!(asked.elapsed() < seconds(1));
}

#[tokio::test(start_paused = true)]
async fn draining_worker_is_not_ready() {
    let inbox = inbox();
    let worker = inbox.worker(ScriptedHandler::new(Reaction::AnswersAfter(seconds(10))));
    let worker = RunningWorker::start(worker);
    assert_received(&stack(&inbox), &delivery()).await;
    sleep(seconds(1)).await;
    let running = inbox.health().await;
    assert_eq!((running.workers, running.draining, running.is_ready()), (1, 0, true));
    let stopping = tokio::spawn(worker.stop());
    sleep(seconds(1)).await;
    let draining = inbox.health().await;
    assert_eq!((draining.workers, draining.draining), (0, 1));
    assert!(draining.is_live() && !draining.is_ready());
    stopping.await.unwrap();
    let stopped = inbox.health().await;
    assert_eq!((stopped.workers, stopped.draining, stopped.failed), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn worker_that_was_dropped_is_not_live() {
    let inbox = inbox();
    let RunningWorker { task, stop } = RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Hangs)));
    sleep(seconds(1)).await;
    task.abort();
    let _ = task.await;
    let failed = inbox.clone().health().await;
    assert_eq!((failed.workers, failed.failed), (0, 1));
    assert!(!failed.is_live() && !failed.is_ready());
    drop(stop);
}

#[tokio::test(start_paused = true)]
async fn probes_count_at_most_every_ten_seconds() {
    let inbox = inbox();
    let stack = stack(&inbox);
    health(&inbox).await;
    assert_received(&stack, &delivery()).await;
    for _ in 0..8 {
        sleep(seconds(1)).await;
        assert_eq!(inbox.health().await.counts.unwrap().ready, 0);
    }
    assert_eq!(health(&inbox).await.counts.unwrap().ready, 1);
    assert_eq!(inbox.find(&Filter::new(), None, 10).await.unwrap().entries.len(), 1);
}

//! Tests of stopping a worker.

use super::*;

#[tokio::test(start_paused = true)]
async fn drain_waits_for_handlers() {
    let inbox = inbox();
    for number in 0..4 {
        assert_received(&stack(&inbox), &numbered(number)).await;
    }
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(20)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()).concurrency(2));
    sleep(seconds(1)).await;
    worker.stop().await;
    assert_eq!(handler.done().len(), 2);
    let counts = inbox.counts().await.unwrap();
    assert_eq!((counts.ready, counts.leased), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn drain_deadline_releases_without_costing_an_attempt() {
    let inbox = inbox();
    for number in 0..4 {
        assert_received(&stack(&inbox), &numbered(number)).await;
    }
    let handler = ScriptedHandler::new(Reaction::Hangs);
    for _ in 0..5 {
        let stopped = Instant::now();
        let worker = RunningWorker::start(inbox.worker(handler.clone()).max_attempts(2).drain_deadline(seconds(10)));
        sleep(seconds(1)).await;
        worker.stop().await;
        assert!(stopped.elapsed() < seconds(12));
        let counts = inbox.counts().await.unwrap();
        assert_eq!((counts.ready, counts.leased), (4, 0));
    }
    assert_eq!(handler.attempts(), [1; 20]);
    handler.set_reaction(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    until_empty(&inbox).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn drain_under_load_leaves_no_lease() {
    let inbox = inbox();
    let stack = stack(&inbox);
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(3)));
    let mut sent = 0;
    for round in 0..20 {
        let worker =
            RunningWorker::start(inbox.worker(handler.clone()).concurrency(8).drain_deadline(seconds(round % 5)));
        for _ in 0..40 {
            assert_received(&stack, &numbered(sent)).await;
            sent += 1;
            sleep(Duration::from_millis(137)).await;
        }
        worker.stop().await;
        assert_eq!(inbox.counts().await.unwrap().leased, 0);
    }
    let worker = RunningWorker::start(inbox.worker(handler.clone()).concurrency(64));
    until_empty(&inbox).await;
    worker.stop().await;
    assert!(handler.attempts().iter().all(|attempt| *attempt == 1));
    let mut done = handler.done();
    done.sort();
    done.dedup();
    assert_eq!((done.len(), handler.done().len()), (sent, sent));
}

#[tokio::test(start_paused = true)]
async fn stopped_worker_leases_nothing() {
    let inbox = inbox();
    assert_received(&stack(&inbox), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    inbox.worker(handler.clone()).run_until(async {}).await;
    assert_eq!(handler.begun().len(), 0);
    let counts = inbox.counts().await.unwrap();
    assert_eq!((counts.ready, counts.leased), (1, 0));
}

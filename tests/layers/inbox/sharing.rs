//! Tests that the backlog of one tenant does not delay the deliveries of another.

use super::*;

/// Accepts this many deliveries of one tenant, and then one of another. Returns how many deliveries a worker has begun
/// before it begins that one.
async fn begun_before_the_other(backlog: usize, concurrency: usize) -> usize {
    let inbox = inbox().max_backlog(100_000);
    let busy = stack_for(&inbox, "busy");
    for number in 0..backlog {
        assert_received(&busy, &numbered(number)).await;
    }
    assert_received(&stack_for(&inbox, "quiet"), &delivery().event_id("other")).await;
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(Duration::from_millis(10)));
    let worker =
        RunningWorker::start(inbox.worker(handler.clone()).concurrency(concurrency).drain_deadline(seconds(1)));
    until("the other tenant's delivery has begun", async || handler.begun().iter().any(|id| id == "other")).await;
    let begun = handler.begun().iter().position(|id| id == "other").unwrap();
    worker.stop().await;
    begun
}

#[tokio::test(start_paused = true)]
async fn backlog_of_one_tenant_does_not_delay_another() {
    let begun = begun_before_the_other(50_000, 16).await;
    assert!(begun < 16, "{begun}");
}

/// With one handler, the turns are drawn at random: 60 lost draws in a row do not happen.
#[tokio::test(start_paused = true)]
async fn tenants_take_turns_at_one_handler() {
    let begun = begun_before_the_other(1000, 1).await;
    assert!(begun < 60, "{begun}");
}

/// All handlers are busy with one tenant when the delivery of another arrives. It gets the next free one, each time.
#[tokio::test(start_paused = true)]
async fn next_free_handler_is_for_the_tenant_without_one() {
    for _ in 0..12 {
        let inbox = inbox();
        let busy = stack_for(&inbox, "busy");
        for number in 0..100 {
            assert_received(&busy, &numbered(number)).await;
        }
        let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(100)))
            .first([Reaction::AnswersAfter(seconds(5)), Reaction::AnswersAfter(seconds(10))]);
        let worker = RunningWorker::start(inbox.worker(handler.clone()).concurrency(8).drain_deadline(seconds(1)));
        sleep(seconds(1)).await;
        assert_received(&stack_for(&inbox, "quiet"), &delivery().event_id("other")).await;
        sleep(seconds(6)).await;
        assert_eq!(handler.begun().len(), 9);
        assert_eq!(handler.begun()[8], "other");
        worker.stop().await;
    }
}

//! Tests of the limits on how many deliveries are stored, and on the age of dead letters.

use std::ops::Range;

use super::{log::Log, *};

/// Accepts deliveries with these numbers. Waits after each until it is handled or dead-lettered.
async fn handle(inbox: &Inbox, handler: &ScriptedHandler, numbers: Range<usize>) {
    let stack = stack(inbox);
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    for number in numbers {
        assert_received(&stack, &numbered(number)).await;
        until_empty(inbox).await;
    }
    worker.stop().await;
}

/// Returns the numbers of ready, leased, dead and done deliveries.
async fn states(inbox: &Inbox) -> [u64; 4] {
    let counts = inbox.counts().await.unwrap();
    [counts.ready, counts.leased, counts.dead, counts.done]
}

/// Returns the event ids of the dead letters.
async fn dead(inbox: &Inbox) -> Vec<String> {
    let dead = inbox.dead(None, 100).await.unwrap();
    dead.iter().map(|entry| entry.event_id().unwrap().to_owned()).collect()
}

/// Returns the number of lines that contain `part`.
fn lines(text: &str, part: &str) -> usize {
    text.lines().filter(|line| line.contains(part)).count()
}

#[tokio::test(start_paused = true)]
async fn new_deliveries_evict_kept_ones() {
    let inbox = inbox().max_stored(5).keep_bodies(seconds(1000));
    let succeeds = ScriptedHandler::new(Reaction::Answers(200));
    handle(&inbox, &succeeds, 0..5).await;
    assert_eq!(states(&inbox).await, [0, 0, 0, 5]);
    let stack = stack(&inbox);
    for number in 5..8 {
        assert_received(&stack, &numbered(number)).await;
        assert_eq!(inbox.counts().await.unwrap().stored(), 5);
    }
    assert_eq!(states(&inbox).await, [3, 0, 0, 2]);
    // The first three were evicted, and copies of them are still duplicates.
    let mut kept = Vec::new();
    for id in 1..=8 {
        let entry = inbox.show(tower_klikit::inbox::DeliveryId::new(id)).await.unwrap();
        kept.extend(entry.map(|entry| entry.event_id().unwrap().to_owned()));
    }
    assert_eq!(kept, ["evt-3", "evt-4", "evt-5", "evt-6", "evt-7"]);
    assert_duplicate(&stack, &numbered(0)).await;
}

#[tokio::test(start_paused = true)]
async fn full_inbox_is_503_until_a_delivery_is_handled() {
    let inbox = inbox().max_stored(3).keep_bodies(seconds(1000));
    let stack = stack(&inbox);
    for number in 0..3 {
        assert_received(&stack, &numbered(number)).await;
    }
    let answer = send(&stack, &numbered(3)).await;
    answers::assert_unavailable(&answer, "inbox full");
    assert_eq!(answer.retry_after, Some(30));
    assert_eq!(states(&inbox).await, [3, 0, 0, 0]);
    let worker = RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Answers(200))));
    until_empty(&inbox).await;
    worker.stop().await;
    sleep(seconds(1)).await;
    assert_received(&stack, &numbered(3)).await;
    assert_eq!(states(&inbox).await, [1, 0, 0, 2]);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_never_evicted() {
    let inbox = inbox().max_stored(5).keep_bodies(seconds(1000));
    handle(&inbox, &ScriptedHandler::new(Reaction::Answers(422)), 0..3).await;
    handle(&inbox, &ScriptedHandler::new(Reaction::Answers(200)), 3..5).await;
    assert_eq!(states(&inbox).await, [0, 0, 3, 2]);
    let stack = stack(&inbox);
    for number in 5..7 {
        assert_received(&stack, &numbered(number)).await;
    }
    assert_eq!(states(&inbox).await, [2, 0, 3, 0]);
    for _ in 0..3 {
        assert_unavailable(&stack, &numbered(7), "inbox full").await;
        sleep(seconds(60)).await;
    }
    assert_eq!(dead(&inbox).await, ["evt-0", "evt-1", "evt-2"]);
    assert_eq!(operator(&inbox).forget_event("default", "evt-1").run().await.unwrap(), 1);
    assert_received(&stack, &numbered(7)).await;
    assert_unavailable(&stack, &numbered(8), "inbox full").await;
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_other_nodes_fill_the_inbox() {
    let store = MemoryStore::new();
    let [one, other] = [(); 2].map(|()| stack(&Inbox::new(store.clone()).max_stored(10)));
    assert_received(&one, &numbered(0)).await;
    sleep(seconds(5)).await;
    for number in 1..10 {
        assert_received(&other, &numbered(number)).await;
    }
    // The last count is now 10 seconds old, so the next one is made in the background.
    sleep(seconds(5)).await;
    assert_received(&one, &numbered(10)).await;
    sleep(Duration::from_millis(1)).await;
    assert_unavailable(&one, &numbered(11), "inbox full").await;
}

#[tokio::test(start_paused = true)]
async fn handled_deliveries_do_not_fill_the_inbox() {
    let inbox = inbox().max_stored(2);
    handle(&inbox, &ScriptedHandler::new(Reaction::Answers(200)), 0..1).await;
    let stack = stack(&inbox);
    for _ in 0..5 {
        assert_duplicate(&stack, &numbered(0)).await;
    }
    for number in 1..3 {
        assert_received(&stack, &numbered(number)).await;
    }
    assert_unavailable(&stack, &numbered(3), "inbox full").await;
}

#[tokio::test(start_paused = true)]
async fn counts_again_before_evicting() {
    let inbox = inbox().max_stored(5).keep_bodies(seconds(1000));
    handle(&inbox, &ScriptedHandler::new(Reaction::Answers(200)), 0..2).await;
    handle(&inbox, &ScriptedHandler::new(Reaction::Answers(422)), 2..5).await;
    for event_id in ["evt-2", "evt-3"] {
        assert_eq!(operator(&inbox).forget_event("default", event_id).run().await.unwrap(), 1);
    }
    // Five were accepted, and three of them are stored.
    assert_received(&stack(&inbox), &numbered(5)).await;
    assert_eq!(states(&inbox).await, [1, 0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn revived_dead_letter_is_stored_once() {
    let inbox = inbox().max_stored(2);
    handle(&inbox, &ScriptedHandler::new(Reaction::Answers(422)), 0..1).await;
    let stack = stack(&inbox);
    assert_received(&stack, &numbered(0)).await;
    assert_eq!(states(&inbox).await, [1, 0, 0, 0]);
    assert_received(&stack, &numbered(1)).await;
    assert_unavailable(&stack, &numbered(2), "inbox full").await;
}

#[test]
fn full_inbox_is_logged_with_its_setter() {
    let log = Log::default();
    let _listening = log.listen();
    log::paused(async {
        let stack = stack(&inbox().max_stored(1));
        assert_received(&stack, &numbered(0)).await;
        assert_unavailable(&stack, &numbered(1), "inbox full").await;
    });
    let text = log.text();
    let line = text.lines().find(|line| line.contains("inbox is full: rejected a delivery")).expect("a line");
    assert!(line.contains("WARN") && line.contains("max_stored=1"), "{text}");
}

#[test]
fn warns_once_when_the_inbox_fills_up() {
    const WARNING: &str = "inbox is filling up";
    let log = Log::default();
    let _listening = log.listen();
    log::paused(async {
        let inbox = inbox().max_stored(10).keep_bodies(seconds(1000));
        handle(&inbox, &ScriptedHandler::new(Reaction::Answers(422)), 0..3).await;
        handle(&inbox, &ScriptedHandler::new(Reaction::Answers(200)), 3..5).await;
        let stack = stack(&inbox);
        let accept = async |number: usize| {
            // The delivery is accepted by the old count, and a new count is made in the background.
            sleep(seconds(10)).await;
            assert_received(&stack, &numbered(number)).await;
            sleep(seconds(1)).await;
        };
        accept(5).await;
        accept(6).await;
        assert_eq!(lines(&log.text(), WARNING), 0, "{}", log.text());
        accept(7).await;
        accept(8).await;
        let text = log.taken();
        let warning = text.lines().find(|line| line.contains(WARNING)).expect("a warning");
        assert!(warning.contains("WARN") && warning.contains("max_stored=10"), "{warning}");
        assert!(warning.contains("ready=3 leased=0 dead=3 done=2"), "{warning}");
        assert_eq!(lines(&text, WARNING), 1, "{text}");

        // The number falls below 80 % and rises again.
        for number in 0..3 {
            assert_eq!(operator(&inbox).forget_event("default", &format!("evt-{number}")).run().await.unwrap(), 1);
        }
        accept(9).await;
        assert_eq!(lines(&log.text(), WARNING), 0, "{}", log.text());
        accept(10).await;
        assert_eq!(lines(&log.text(), WARNING), 1, "{}", log.text());
    });
}

#[test]
fn old_dead_letters_are_deleted_with_a_warning() {
    let log = Log::default();
    let _listening = log.listen();
    log::paused(async {
        let inbox = inbox().keep_dead_letters(seconds(1000)).keep_bodies(seconds(100_000));
        handle(&inbox, &ScriptedHandler::new(Reaction::Answers(422)), 0..2).await;
        handle(&inbox, &ScriptedHandler::new(Reaction::Answers(200)), 2..3).await;
        sleep(seconds(600)).await;
        handle(&inbox, &ScriptedHandler::new(Reaction::Answers(422)), 3..4).await;
        let worker =
            RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Hangs)).drain_deadline(seconds(0)));
        sleep(seconds(350)).await;
        assert_eq!(dead(&inbox).await, ["evt-0", "evt-1", "evt-3"]);
        drop(log.taken());
        sleep(seconds(150)).await;
        assert_eq!(dead(&inbox).await, ["evt-3"]);
        assert_eq!(states(&inbox).await, [0, 0, 1, 1]);
        let text = log.taken();
        let line = text.lines().find(|line| line.contains("deleted 2 dead letters accepted more than 1000s ago"));
        assert!(line.is_some_and(|line| line.contains("WARN")), "{text}");
        // Copies are duplicates, until the event is forgotten.
        assert_duplicate(&stack(&inbox), &numbered(0)).await;
        sleep(seconds(600)).await;
        assert_eq!(states(&inbox).await, [0, 0, 0, 1]);
        assert_eq!(lines(&log.taken(), "deleted 1 dead letters"), 1);
        sleep(seconds(600)).await;
        assert_eq!(log.text(), "");
        worker.stop().await;
    });
}

#[tokio::test(start_paused = true)]
async fn old_dead_letters_are_deleted_in_batches() {
    let inbox = inbox().keep_dead_letters(seconds(100));
    let stack = stack(&inbox);
    let worker = RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Answers(422))).concurrency(64));
    for number in 0..2500 {
        assert_received(&stack, &numbered(number)).await;
    }
    until_empty(&inbox).await;
    assert_eq!(states(&inbox).await, [0, 0, 2500, 0]);
    sleep(seconds(200)).await;
    assert_eq!(states(&inbox).await, [0, 0, 0, 0]);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_kept_by_default() {
    let inbox = inbox();
    handle(&inbox, &ScriptedHandler::new(Reaction::Answers(422)), 0..2).await;
    let worker = RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Hangs)).poll_interval(seconds(60)));
    sleep(seconds(24 * 60 * 60)).await;
    assert_eq!(dead(&inbox).await, ["evt-0", "evt-1"]);
    worker.stop().await;
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn acceptors_report_the_share_that_is_stored() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let inbox = inbox().max_stored(8);
    let stack = stack(&inbox);
    for number in 0..4 {
        assert_received(&stack, &numbered(number)).await;
    }
    sleep(seconds(10)).await;
    assert_duplicate(&stack, &numbered(0)).await;
    sleep(seconds(1)).await;
    let text = recorder.handle().render();
    assert!(text.contains("klikit_inbox_stored_ratio 0.5\n"), "{text}");
}

//! Tests of the actions of operators.

use std::{
    future::{poll_fn, ready},
    task::Poll,
};

use tower_klikit::inbox::{DeliveryId, DeliveryState, Entry, Filter};

use super::{faulty_store::FaultyInboxStore, *};

const READY: DeliveryState = DeliveryState::Ready;
const DEAD: DeliveryState = DeliveryState::Dead;
const DONE: DeliveryState = DeliveryState::Done;

/// Creates an inbox with a delivery in each state that no worker holds: `evt-0` is done, `evt-1` dead, and `evt-2` ready.
async fn with_each_state(store: impl InboxStore + tower_klikit::inbox::InboxAdmin) -> Inbox {
    let inbox = Inbox::new(store).keep_bodies(seconds(1000)).keep_history(seconds(2000));
    let stack = stack(&inbox);
    let handler = ScriptedHandler::new(Reaction::Answers(200)).first([200, 422].map(Reaction::Answers));
    let worker = RunningWorker::start(inbox.worker(handler).concurrency(1));
    for number in 0..2 {
        assert_received(&stack, &numbered(number)).await;
        until_empty(&inbox).await;
    }
    worker.stop().await;
    assert_received(&stack, &numbered(2)).await;
    inbox
}

/// Returns the event ids and states of all stored deliveries.
async fn states(inbox: &Inbox) -> Vec<(String, DeliveryState)> {
    let page = inbox.find(&Filter::new(), None, 1000).await.unwrap();
    let state = |entry: &Entry| (entry.event_id().unwrap().to_owned(), entry.state);
    page.entries.iter().map(state).collect()
}

fn event(number: usize, state: DeliveryState) -> (String, DeliveryState) {
    (format!("evt-{number}"), state)
}

#[tokio::test(start_paused = true)]
async fn preview_counts_and_changes_nothing() {
    let inbox = with_each_state(MemoryStore::new()).await;
    let ana = operator(&inbox);
    let all = Filter::new;
    let named = || Filter::new().states([READY, DEAD, DONE]);
    let previews = [
        ana.retry(all()).preview().await,
        ana.replay(all()).preview().await,
        ana.dead_letter(all(), "a test").preview().await,
        ana.dead_letter(named(), "a test").preview().await,
        ana.forget(all()).preview().await,
        ana.forget(named()).preview().await,
        ana.erase(all()).preview().await,
        ana.erase(named()).preview().await,
        ana.purge(all()).preview().await,
        ana.purge(named()).preview().await,
    ];
    assert_eq!(previews.map(Result::unwrap), [1, 1, 0, 1, 2, 3, 2, 3, 2, 2]);
    assert_eq!(states(&inbox).await, [event(0, DONE), event(1, DEAD), event(2, READY)]);
}

#[tokio::test(start_paused = true)]
async fn each_action_changes_what_it_previews() {
    for (name, expected) in [
        ("retry", vec![event(0, DONE), event(1, READY), event(2, READY)]),
        ("replay", vec![event(0, READY), event(1, DEAD), event(2, READY)]),
        ("dead_letter", vec![event(0, DONE), event(1, DEAD), event(2, DEAD)]),
        ("forget", vec![]),
        ("erase", vec![]),
        ("purge", vec![event(2, READY)]),
    ] {
        let inbox = with_each_state(MemoryStore::new()).await;
        let ana = operator(&inbox);
        let every = Filter::new().states([READY, DEAD, DONE]);
        let (previewed, changed) = match name {
            "retry" => (ana.retry(every.clone()).preview().await, ana.retry(every).run().await),
            "replay" => (ana.replay(every.clone()).preview().await, ana.replay(every).run().await),
            _ => {
                let action = match name {
                    "dead_letter" => ana.dead_letter(every, "a test"),
                    "forget" => ana.forget(every),
                    "erase" => ana.erase(every),
                    _ => ana.purge(every),
                };
                (action.preview().await, action.run().await)
            }
        };
        assert_eq!(changed.unwrap(), previewed.unwrap(), "{name}");
        assert_eq!(states(&inbox).await, expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn actions_reach_a_pending_delivery_by_its_id() {
    let pending = DeliveryId::new(3);
    let inbox = with_each_state(MemoryStore::new()).await;
    assert_eq!(operator(&inbox).retry(pending).run().await.unwrap(), 0);
    assert_eq!(operator(&inbox).purge(pending).run().await.unwrap(), 0);
    assert_eq!(operator(&inbox).dead_letter(pending, "a test").run().await.unwrap(), 1);
    assert_eq!(operator(&inbox).forget(DeliveryId::new(99)).run().await.unwrap(), 0);
    assert_eq!(states(&inbox).await, [event(0, DONE), event(1, DEAD), event(2, DEAD)]);
    let inbox = with_each_state(MemoryStore::new()).await;
    assert_eq!(operator(&inbox).forget(pending).run().await.unwrap(), 1);
    assert_received(&stack(&inbox), &numbered(2)).await;
}

#[tokio::test(start_paused = true)]
async fn erased_deliveries_are_still_duplicates() {
    let inbox = with_each_state(MemoryStore::new()).await;
    let every = Filter::new().states([READY, DEAD, DONE]);
    assert_eq!(operator(&inbox).erase(every).run().await.unwrap(), 3);
    assert!(states(&inbox).await.is_empty());
    for number in 0..3 {
        assert_duplicate(&stack(&inbox), &numbered(number)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn replayed_delivery_is_handled_again() {
    let inbox = with_each_state(MemoryStore::new()).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()).poll_interval(seconds(1000)));
    until_empty(&inbox).await;
    assert_eq!(operator(&inbox).replay(Filter::new().event_id("evt-0")).run().await.unwrap(), 1);
    sleep(seconds(1)).await;
    assert_eq!(handler.begun(), ["evt-2", "evt-0"]);
    assert_eq!(inbox.counts().await.unwrap().done, 2);
    // The bodies go, and the history stays.
    sleep(seconds(1100)).await;
    let replay = operator(&inbox).replay(Filter::new());
    assert_eq!((inbox.counts().await.unwrap().done, replay.preview().await.unwrap()), (2, 0));
    assert_eq!(replay.run().await.unwrap(), 0);
    worker.stop().await;
}

/// Creates an inbox with this many dead letters.
async fn with_dead(count: usize) -> Inbox {
    let inbox = inbox();
    for number in 0..count {
        assert_received(&stack(&inbox), &numbered(number)).await;
    }
    let pending = Filter::new().states([READY]);
    assert_eq!(operator(&inbox).dead_letter(pending, "a test").run().await.unwrap(), count as u64);
    inbox
}

#[tokio::test(start_paused = true)]
async fn rate_spreads_a_retry_over_time() {
    for (rate, expected) in [(10, seconds(20)), (100, seconds(2)), (500, Duration::from_millis(400))] {
        let inbox = with_dead(200).await;
        let started = Instant::now();
        let retry = tokio::spawn(operator(&inbox).retry(Filter::new()).rate(rate).run());
        sleep(expected / 2 - Duration::from_millis(10)).await;
        let ready = inbox.counts().await.unwrap().ready;
        assert_eq!(ready, 100, "at a rate of {rate}");
        assert_eq!(retry.await.unwrap().unwrap(), 200);
        let took = started.elapsed();
        assert!(took.abs_diff(expected) <= Duration::from_millis(110), "{took:?} at a rate of {rate}");
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_retry_leaves_the_rest() {
    let inbox = with_dead(20).await;
    let retry = operator(&inbox).retry(Filter::new()).rate(1);
    tokio::time::timeout(Duration::from_millis(4500), retry.run()).await.unwrap_err();
    let counts = inbox.counts().await.unwrap();
    assert_eq!((counts.ready, counts.dead), (5, 15));
}

#[tokio::test(start_paused = true)]
async fn stopped_action_returns_what_it_changed() {
    let inbox = with_dead(600).await;
    let retry = operator(&inbox).retry(Filter::new()).rate(1);
    assert_eq!(retry.run_until(sleep(Duration::from_millis(4500))).await.unwrap(), 5);
    assert_eq!(operator(&inbox).purge(Filter::new()).run_until(ready(())).await.unwrap(), 0);
    // Ready after the first page.
    let mut polls = 0;
    let stop = poll_fn(|_| {
        polls += 1;
        if polls > 1 { Poll::Ready(()) } else { Poll::Pending }
    });
    assert_eq!(operator(&inbox).purge(Filter::new()).run_until(stop).await.unwrap(), 256);
    let counts = inbox.counts().await.unwrap();
    assert_eq!((counts.ready, counts.dead), (5, 600 - 5 - 256));
}

#[tokio::test(start_paused = true)]
async fn actions_return_the_error_of_the_store() {
    let store = FaultyInboxStore::default();
    let inbox = with_each_state(store.clone()).await;
    store.begin_outage();
    let ana = operator(&inbox);
    let every = || Filter::new().states([READY, DEAD, DONE]);
    assert!(ana.retry(every()).preview().await.is_err());
    assert!(ana.retry(every()).run().await.is_err());
    assert!(ana.replay(every()).run().await.is_err());
    assert!(ana.dead_letter(every(), "a test").run().await.is_err());
    assert!(ana.forget(every()).run().await.is_err());
    assert!(ana.erase(every()).run().await.is_err());
    assert!(ana.purge(every()).run().await.is_err());
    assert!(ana.forget_event("default", "evt-0").preview().await.is_err());
    assert!(ana.forget_event("default", "evt-0").run().await.is_err());
    store.end_outage();
    assert_eq!(states(&inbox).await, [event(0, DONE), event(1, DEAD), event(2, READY)]);
}

/// A search examines a bounded number of deliveries in one call, so most of its pages are empty.
#[tokio::test(start_paused = true)]
async fn actions_find_deliveries_behind_empty_pages() {
    let inbox = with_dead(5000).await;
    let last = Filter::new().event_id("evt-4999");
    assert!(inbox.find(&last, None, 10).await.unwrap().next.is_some());
    assert_eq!(operator(&inbox).retry(last.clone()).preview().await.unwrap(), 1);
    assert_eq!(operator(&inbox).retry(last).run().await.unwrap(), 1);
    assert_eq!(inbox.counts().await.unwrap().ready, 1);
}

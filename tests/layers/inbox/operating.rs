//! Tests of the operations for operators.

use std::time::SystemTime;

use tower_klikit::{
    dedupe::{BodyDigest, Claim, EventKey},
    inbox::{DeliveryState, Filter, LeaseRequest, NewDelivery},
};

use super::*;

/// Creates an inbox with `count` dead letters, and a running worker whose handler succeeds from now on.
async fn with_dead(count: usize) -> (Inbox, ScriptedHandler, RunningWorker) {
    let inbox = inbox();
    let stack = stack(&inbox);
    let handler = ScriptedHandler::new(Reaction::Answers(422));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    for number in 0..count {
        assert_received(&stack, &numbered(number)).await;
    }
    until_counts(&inbox, "all deliveries are dead", |counts| counts.dead == count as u64).await;
    handler.set_reaction(Reaction::Answers(200));
    (inbox, handler, worker)
}

#[tokio::test(start_paused = true)]
async fn counts_report_numbers_and_age() {
    let inbox = inbox().keep_bodies(seconds(1000));
    let stack = stack(&inbox);
    let handler = ScriptedHandler::new(Reaction::Hangs).first([Reaction::Answers(200), Reaction::Answers(422)]);
    let worker = inbox.worker(handler.clone()).concurrency(1);
    let worker = RunningWorker::start(worker.drain_deadline(seconds(0)));
    for number in 0..5 {
        assert_received(&stack, &numbered(number)).await;
        sleep(seconds(10)).await;
    }
    let counts = inbox.counts().await.unwrap();
    assert_eq!((counts.ready, counts.leased, counts.dead, counts.done), (2, 1, 1, 1));
    assert_eq!(counts.backlog(), 3);
    let oldest = counts.oldest.unwrap();
    assert!(oldest.abs_diff(seconds(30)) < seconds(2), "{oldest:?}");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_listed_and_shown() {
    let (inbox, _, worker) = with_dead(5).await;
    let first = inbox.dead(None, 3).await.unwrap();
    let rest = inbox.dead(Some(first[2].id), 3).await.unwrap();
    let ids: Vec<_> = first.iter().chain(&rest).map(|entry| entry.event_id().unwrap().to_owned()).collect();
    assert_eq!(ids, ["evt-0", "evt-1", "evt-2", "evt-3", "evt-4"]);
    assert!(first.iter().all(|entry| entry.body.is_none()));

    let shown = inbox.show_with_body(first[1].id).await.unwrap().unwrap();
    assert_eq!(shown.body.as_ref(), Some(numbered(1).body()));
    assert_eq!((shown.state, shown.attempts), (DeliveryState::Dead, 1));
    assert_eq!((shown.tenant(), shown.event_type()), (Some("default"), Some("klikit.order.created.v2")));
    assert_eq!(shown.reason.as_deref(), Some("422 Unprocessable Entity"));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn dead_letter_is_retried_by_hand() {
    let (inbox, handler, worker) = with_dead(2).await;
    let dead = inbox.dead(None, 10).await.unwrap();
    assert_eq!(operator(&inbox).retry(dead[1].id).run().await.unwrap(), 1);
    until_counts(&inbox, "one is handled", |counts| counts.dead == 1 && counts.backlog() == 0).await;
    assert_eq!(operator(&inbox).retry(dead[1].id).run().await.unwrap(), 0, "the delivery is no longer dead");
    worker.stop().await;
    assert_eq!(handler.begun()[2..], ["evt-1"]);
    assert_eq!(handler.attempts()[2..], [1]);
}

#[tokio::test(start_paused = true)]
async fn retry_does_not_wait_for_the_poll() {
    let (inbox, handler, worker) = with_dead(1).await;
    worker.stop().await;
    let worker = RunningWorker::start(inbox.worker(handler.clone()).poll_interval(seconds(1000)));
    sleep(seconds(1)).await;
    let dead = inbox.dead(None, 1).await.unwrap();
    let retried = Instant::now();
    assert_eq!(operator(&inbox).retry(dead[0].id).run().await.unwrap(), 1);
    until_empty(&inbox).await;
    assert!(retried.elapsed() < seconds(100));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn all_dead_letters_are_retried_by_hand() {
    let (inbox, handler, worker) = with_dead(600).await;
    assert_eq!(operator(&inbox).retry(Filter::new()).run().await.unwrap(), 600);
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(inbox.counts().await.unwrap(), Counts::default());
    assert_eq!(handler.begun().len(), 1200);
}

/// Accepts two deliveries, and three more that share a body. Returns the event ids of those three.
async fn with_copies(inbox: &Inbox) -> [String; 3] {
    let stack = stack(inbox);
    for number in 0..2 {
        assert_received(&stack, &numbered(number)).await;
    }
    let ids = ["copy-1", "copy-2", "copy-3"];
    for id in ids {
        assert_received(&stack, &numbered(2).event_id(id)).await;
    }
    ids.map(Into::into)
}

#[tokio::test(start_paused = true)]
async fn pending_copies_are_dead_lettered() {
    let inbox = inbox();
    let ids = with_copies(&inbox).await;
    let copies = Filter::new().body(numbered(2).body());
    // No state is named, or none that is pending.
    assert_eq!(operator(&inbox).dead_letter(copies.clone(), "a replay").run().await.unwrap(), 0);
    let finished = copies.clone().states([DeliveryState::Dead, DeliveryState::Done]);
    assert_eq!(operator(&inbox).dead_letter(finished.clone(), "a replay").run().await.unwrap(), 0);
    assert_eq!(inbox.counts().await.unwrap().ready, 5);
    let pending = copies.clone().states([DeliveryState::Ready, DeliveryState::Dead]);
    assert_eq!(operator(&inbox).dead_letter(pending.clone(), "a replay").run().await.unwrap(), 3);
    let dead = inbox.dead(None, 10).await.unwrap();
    let found: Vec<_> = dead.iter().map(|entry| (entry.event_id().unwrap(), entry.reason.as_deref())).collect();
    assert_eq!(found, ids.each_ref().map(|id| (&**id, Some("a replay"))));
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(handler.begun(), ["evt-0", "evt-1"]);
}

#[tokio::test(start_paused = true)]
async fn pending_deliveries_are_forgotten_if_named() {
    let inbox = inbox();
    with_copies(&inbox).await;
    let stack = stack(&inbox);
    assert_eq!(operator(&inbox).forget(Filter::new()).run().await.unwrap(), 0);
    let all_but_ready = [DeliveryState::Leased, DeliveryState::Dead, DeliveryState::Done];
    assert_eq!(operator(&inbox).forget(Filter::new().states(all_but_ready)).run().await.unwrap(), 0);
    assert_duplicate(&stack, &numbered(2).event_id("copy-1")).await;
    let copies = Filter::new().body(numbered(2).body()).states([DeliveryState::Ready]);
    assert_eq!(operator(&inbox).forget(copies).run().await.unwrap(), 3);
    assert_eq!(inbox.counts().await.unwrap().ready, 2);
    assert_received(&stack, &numbered(2).event_id("copy-1")).await;
    assert_duplicate(&stack, &numbered(0)).await;
}

#[tokio::test(start_paused = true)]
async fn many_dead_letters_are_forgotten_by_filter() {
    let (inbox, _, worker) = with_dead(600).await;
    worker.stop().await;
    let stack = stack(&inbox);
    assert_received(&stack, &numbered(600)).await;
    assert_eq!(operator(&inbox).forget(Filter::new().tenant("other")).run().await.unwrap(), 0);
    assert_eq!(operator(&inbox).forget(Filter::new().tenant("default")).run().await.unwrap(), 600);
    let counts = inbox.counts().await.unwrap();
    assert_eq!((counts.ready, counts.dead), (1, 0));
}

/// The dead-lettered delivery has blocked another one.
#[tokio::test(start_paused = true)]
async fn dead_lettering_by_hand_wakes_the_worker() {
    let inbox = inbox().order_by(OrderBy::branch());
    let handler = ScriptedHandler::new(Reaction::Answers(200)).first([Reaction::Answers(500)]);
    let stack = stack(&inbox);
    for number in 0..2 {
        assert_received(&stack, &numbered(number)).await;
    }
    let worker = inbox.worker(handler.clone()).poll_interval(seconds(1000)).backoff(seconds(5000), seconds(5000));
    let worker = RunningWorker::start(worker);
    sleep(seconds(1)).await;
    assert_eq!(handler.begun(), ["evt-0"]);
    let blocking = Filter::new().states([DeliveryState::Ready]).event_id("evt-0");
    assert_eq!(operator(&inbox).dead_letter(blocking.clone(), "it blocks the others").run().await.unwrap(), 1);
    sleep(seconds(1)).await;
    assert_eq!(handler.begun(), ["evt-0", "evt-1"]);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn replay_revives_a_dead_letter() {
    let (inbox, handler, worker) = with_dead(1).await;
    let stack = stack(&inbox);
    assert_received(&stack, &numbered(0)).await;
    until_empty(&inbox).await;
    assert_duplicate(&stack, &numbered(0)).await;
    worker.stop().await;
    assert_eq!(inbox.counts().await.unwrap(), Counts::default());
    assert_eq!(handler.attempts(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn forgotten_delivery_is_handled_again() {
    let inbox = inbox();
    let stack = stack(&inbox);
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    assert_received(&stack, &delivery()).await;
    until_empty(&inbox).await;
    assert_eq!(operator(&inbox).forget_event("other", "evt-1").run().await.unwrap(), 0);
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(operator(&inbox).forget_event("other", "evt-1").preview().await.unwrap(), 0);
    let forget = operator(&inbox).forget_event("default", "evt-1");
    assert_eq!([forget.preview().await.unwrap(), forget.preview().await.unwrap()], [1, 1]);
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(forget.run().await.unwrap(), 1);
    assert_received(&stack, &delivery()).await;
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(handler.done().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn pending_delivery_is_not_forgotten() {
    let inbox = inbox();
    let stack = stack(&inbox);
    assert_received(&stack, &delivery()).await;
    let all = SystemTime::UNIX_EPOCH..SystemTime::now() + seconds(3600);
    for forget in [operator(&inbox).forget_event("default", "evt-1"), operator(&inbox).forget_accepted(all)] {
        assert_eq!(forget.preview().await.unwrap(), 0);
        assert_eq!(forget.run().await.unwrap(), 0);
    }
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(inbox.counts().await.unwrap().ready, 1);
}

#[tokio::test(start_paused = true)]
async fn window_is_forgotten() {
    let (inbox, _, worker) = with_dead(3).await;
    let long_ago = SystemTime::UNIX_EPOCH..SystemTime::now() - seconds(3600);
    let forget = operator(&inbox).forget_accepted(long_ago);
    assert_eq!(forget.preview().await.unwrap(), 0);
    assert_eq!(forget.run().await.unwrap(), 0);
    let today = SystemTime::now() - seconds(3600)..SystemTime::now() + seconds(3600);
    let forget = operator(&inbox).forget_accepted(today);
    assert_eq!(forget.preview().await.unwrap(), 3);
    assert_eq!(forget.run().await.unwrap(), 3);
    worker.stop().await;
    assert_eq!(inbox.counts().await.unwrap(), Counts::default());
    assert_received(&stack(&inbox), &numbered(0)).await;
}

#[tokio::test(start_paused = true)]
async fn delivery_identified_by_body_is_forgotten_by_body() {
    let inbox = inbox().identity(tower_klikit::dedupe::Identity::Body);
    let stack = stack(&inbox);
    let worker = RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Answers(200))));
    assert_received(&stack, &delivery()).await;
    until_empty(&inbox).await;
    assert_eq!(operator(&inbox).forget_event("default", "evt-1").run().await.unwrap(), 0);
    let forget = operator(&inbox).forget_body("default", BODY);
    assert_eq!(forget.preview().await.unwrap(), 1);
    assert_eq!(forget.run().await.unwrap(), 1);
    assert_received(&stack, &delivery()).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn bodies_are_kept_and_then_purged() {
    let inbox = inbox().keep_bodies(seconds(1000));
    let worker = RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Answers(200))));
    assert_received(&stack(&inbox), &delivery()).await;
    until_counts(&inbox, "the delivery is done", |counts| counts.done == 1).await;
    sleep(seconds(900)).await;
    assert_eq!(inbox.counts().await.unwrap().done, 1);
    // The worker purges automatically.
    sleep(seconds(200)).await;
    assert_eq!(inbox.counts().await.unwrap().done, 0);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn kept_deliveries_are_purged_by_hand() {
    let inbox = inbox().keep_bodies(seconds(1000));
    let worker = RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Answers(200))));
    for number in 0..5 {
        assert_received(&stack(&inbox), &numbered(number)).await;
    }
    until_counts(&inbox, "all deliveries are done", |counts| counts.done == 5).await;
    worker.stop().await;
    assert_eq!(operator(&inbox).purge(Filter::new().event_id("evt-1")).run().await.unwrap(), 1);
    assert_eq!(operator(&inbox).purge(Filter::new()).run().await.unwrap(), 4);
    assert_duplicate(&stack(&inbox), &numbered(1)).await;
}

#[tokio::test(start_paused = true)]
async fn workers_purge_any_number() {
    let inbox = inbox().keep_bodies(seconds(1));
    let worker = RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Answers(200))).concurrency(64));
    for number in 0..2500 {
        assert_received(&stack(&inbox), &numbered(number)).await;
    }
    until_counts(&inbox, "all deliveries are done", |counts| counts.backlog() == 0).await;
    sleep(seconds(130)).await;
    assert_eq!(inbox.counts().await.unwrap().done, 0);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn debug_output_has_no_body() {
    let (inbox, _, worker) = with_dead(1).await;
    let dead = inbox.dead(None, 1).await.unwrap();
    let shown = inbox.show_with_body(dead[0].id).await.unwrap().unwrap();
    let request = delivery().request_with(|_| ());
    let text = format!("{shown:?} {shown:#?} {inbox:?} {:?} {request:?}", inbox.acceptor());
    assert!(text.contains("evt-0") && !text.contains("brand_id"), "{text}");
    worker.stop().await;
}

/// The author of a store may print these types.
#[tokio::test(start_paused = true)]
async fn debug_output_of_store_types_has_no_body() {
    let store = MemoryStore::new();
    let key = *EventKey::of_event("default", "evt-0").as_bytes();
    let claim = Claim::new(key, key, BodyDigest::of(BODY.as_bytes()), key);
    let new = NewDelivery::new(claim, r#"{"event_id":"evt-0"}"#, BODY);
    store.accept(&new, seconds(60)).await.unwrap();
    let request =
        LeaseRequest { limit: 1, free_handlers: 1, duration: seconds(30), max_attempts: 25, held: &[], worker: "test" };
    let leased = store.lease(&request).await.unwrap().leased;
    assert_eq!(leased.len(), 1);
    let text = format!("{new:?} {new:#?} {leased:?} {leased:#?}");
    assert!(text.contains("evt-0") && !text.contains("brand_id"), "{text}");
}

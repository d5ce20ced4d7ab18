//! Tests of deliveries that are too old to be handled.

use tower_klikit::inbox::{DeliveryState, EXPIRED, Expired, Filter};

use super::*;

const CREATED: &str = "klikit.order.created.v2";
const UPDATED: &str = "klikit.order.status.updated";
const LIMIT: Duration = Duration::from_secs(1800);

fn of_type(number: usize, event_type: &str) -> SignedDelivery {
    numbered(number).event_type(event_type)
}

/// Accepts a delivery of each event type, and lets this time pass.
async fn with_both_types(age: Duration) -> Inbox {
    let inbox = inbox();
    let stack = stack(&inbox);
    assert_received(&stack, &of_type(0, CREATED)).await;
    assert_received(&stack, &of_type(1, UPDATED)).await;
    sleep(age).await;
    inbox
}

/// Runs a worker until no delivery is pending.
async fn run(inbox: &Inbox, worker: Worker<ScriptedHandler>) {
    let worker = RunningWorker::start(worker);
    until_empty(inbox).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn expired_delivery_is_dead_lettered_unhandled() {
    let inbox = with_both_types(LIMIT).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let reported = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let reported = Arc::clone(&reported);
        move |expired: &Expired| reported.lock().unwrap().push(expired.clone())
    };
    run(&inbox, inbox.worker(handler.clone()).expire_after(CREATED, LIMIT).on_expired(hook)).await;
    assert_eq!(handler.begun(), ["evt-1"]);
    let dead = inbox.dead(None, 10).await.unwrap();
    let shown = inbox.show(dead[0].id).await.unwrap().unwrap();
    assert_eq!((shown.event_id(), shown.reason.as_deref(), shown.attempts), (Some("evt-0"), Some(EXPIRED), 0));
    assert!(shown.has_body && shown.history.is_empty(), "{shown:?}");
    let reported = reported.lock().unwrap();
    let [Expired { id, event_id, event_type, tenant, age, .. }] = &reported[..] else { panic!("{reported:?}") };
    assert_eq!((*id, event_id.as_deref(), &**event_type, &**tenant), (shown.id, Some("evt-0"), CREATED, "default"));
    assert!(age.abs_diff(LIMIT) < seconds(5), "{age:?}");
}

#[tokio::test(start_paused = true)]
async fn younger_delivery_is_handled() {
    let inbox = with_both_types(LIMIT - seconds(5)).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    run(&inbox, inbox.worker(handler.clone()).expire_after(CREATED, LIMIT)).await;
    assert_eq!(handler.begun().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn deliveries_do_not_expire_by_default() {
    let inbox = with_both_types(100 * LIMIT).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    run(&inbox, inbox.worker(handler.clone())).await;
    assert_eq!(handler.begun().len(), 2);
}

/// The first delivery is handled for so long that the second one expires while it is prefetched or blocked.
#[tokio::test(start_paused = true)]
async fn delivery_expires_while_it_waits_for_another() {
    let inbox = inbox().order_by(OrderBy::branch());
    let stack = stack(&inbox);
    for number in 0..2 {
        assert_received(&stack, &of_type(number, CREATED)).await;
    }
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(LIMIT + seconds(60)));
    let worker = inbox.worker(handler.clone()).handler_deadline(2 * LIMIT).expire_after(CREATED, LIMIT);
    run(&inbox, worker).await;
    assert_eq!((handler.done(), inbox.counts().await.unwrap().dead), (vec!["evt-0".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn failed_delivery_expires_before_its_retry() {
    let inbox = inbox();
    assert_received(&stack(&inbox), &of_type(0, CREATED)).await;
    let handler = ScriptedHandler::new(Reaction::Answers(503));
    let worker = inbox.worker(handler.clone()).backoff(seconds(60), seconds(60)).expire_after(CREATED, seconds(300));
    run(&inbox, worker).await;
    let attempts = handler.begun().len();
    let dead = inbox.dead(None, 1).await.unwrap();
    let shown = inbox.show(dead[0].id).await.unwrap().unwrap();
    assert_eq!((shown.reason.as_deref(), shown.attempts as usize), (Some(EXPIRED), attempts));
    assert!(shown.history.len() == attempts && attempts > 1, "{shown:?}");
}

#[tokio::test(start_paused = true)]
async fn expired_delivery_unblocks_its_ordering_keys() {
    let inbox = inbox().order_by(OrderBy::branch());
    let stack = stack(&inbox);
    assert_received(&stack, &of_type(0, CREATED)).await;
    sleep(LIMIT).await;
    assert_received(&stack, &of_type(1, CREATED)).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    run(&inbox, inbox.worker(handler.clone()).expire_after(CREATED, LIMIT)).await;
    assert_eq!(handler.begun(), ["evt-1"]);
}

#[tokio::test(start_paused = true)]
async fn operator_retries_an_expired_delivery() {
    let inbox = with_both_types(LIMIT).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = inbox.worker(handler.clone()).expire_after(CREATED, LIMIT);
    run(&inbox, worker.clone()).await;
    assert_eq!(operator(&inbox).retry(Filter::new().reason(EXPIRED)).run().await.unwrap(), 1);
    run(&inbox, worker).await;
    assert_eq!(handler.begun(), ["evt-1", "evt-0"]);
}

#[tokio::test(start_paused = true)]
async fn delivery_that_klikit_sends_again_stays_expired() {
    let inbox = with_both_types(LIMIT).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = inbox.worker(handler.clone()).expire_after(CREATED, LIMIT);
    run(&inbox, worker.clone()).await;
    assert_received(&stack(&inbox), &of_type(0, CREATED)).await;
    run(&inbox, worker).await;
    assert_eq!(handler.begun(), ["evt-1"]);
    assert_eq!(inbox.dead(None, 10).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn worker_survives_a_hook_that_panics() {
    let inbox = with_both_types(LIMIT).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = inbox.worker(handler.clone()).concurrency(1).expire_after(CREATED, LIMIT);
    run(&inbox, worker.on_expired(|_| panic!("a hook that panics"))).await;
    assert_eq!(handler.begun(), ["evt-1"]);
    let dead = inbox.find(&Filter::new().states([DeliveryState::Dead]), None, 10).await.unwrap();
    assert_eq!(dead.entries.len(), 1);
}

//! Tests of finding deliveries, and of the records of their attempts.

use std::time::SystemTime;

use tower_klikit::inbox::{AttemptRecord, DeliveryId, DeliveryState, Entry, Filter};

use super::*;

const CREATED: &str = "klikit.order.created.v2";
const UPDATED: &str = "klikit.order.status.updated";

/// Returns the delivery of an order, whose event id is `evt-<order>`.
fn order(order: u64, branch: &str, event_type: &str) -> SignedDelivery {
    let body = format!(r#"{{"brand_id":1,"branch_id":{branch},"orders":[{{"id":{order}}},{{"id":"GF-{order}"}}]}}"#);
    SignedDelivery::new(SECRET, body).event_id(format!("evt-{order}")).event_type(event_type)
}

async fn found(inbox: &Inbox, filter: Filter) -> Vec<String> {
    let page = inbox.find(&filter, None, 100).await.unwrap();
    assert_eq!(page.next, None);
    page.entries.iter().map(|entry| entry.event_id().unwrap().to_owned()).collect()
}

/// The number, the status and the reason of an attempt, and whether it has ended.
type AttemptOutcome = (u32, Option<u16>, Option<String>, bool);

fn outcomes(entry: &Entry) -> Vec<AttemptOutcome> {
    let outcome = |AttemptRecord { number, status, reason, ended_at, .. }: &AttemptRecord| {
        (*number, *status, reason.clone(), ended_at.is_some())
    };
    entry.history.iter().map(outcome).collect()
}

#[tokio::test(start_paused = true)]
async fn deliveries_are_found_by_what_their_bodies_say() {
    let inbox = inbox();
    let stack = stack(&inbox);
    for delivery in [order(1, "7", CREATED), order(2, r#""7""#, UPDATED), order(3, "8", CREATED)] {
        assert_received(&stack, &delivery).await;
    }
    let filter = Filter::new;
    assert_eq!(found(&inbox, filter().order(2)).await, ["evt-2"]);
    assert_eq!(found(&inbox, filter().order("2.0")).await, ["evt-2"]);
    assert_eq!(found(&inbox, filter().order("GF-3")).await, ["evt-3"]);
    assert_eq!(found(&inbox, filter().order("gf-3")).await, [""; 0]);
    assert_eq!(found(&inbox, filter().branch(7)).await, ["evt-1", "evt-2"]);
    assert_eq!(found(&inbox, filter().branch(7).event_type(CREATED)).await, ["evt-1"]);
    assert_eq!(found(&inbox, filter().event_type(CREATED)).await, ["evt-1", "evt-3"]);
    let page = inbox.find(&filter().order(2), None, 1).await.unwrap();
    let entry = &page.entries[0];
    assert_eq!((entry.orders().collect::<Vec<_>>(), entry.branch()), (vec!["2", "GF-2"], Some("7")));
    assert!(entry.has_body && entry.body.is_none() && entry.history.is_empty());
}

/// Only a timestamped signature signs an envelope. Elsewhere, a member `data` is an unknown field.
#[tokio::test(start_paused = true)]
async fn body_without_an_envelope_has_no_terms_of_data() {
    let inbox = inbox();
    let body = r#"{"brand_id":1,"branch_id":7,"orders":[],"data":{"branch_id":8,"orders":[{"id":5}]}}"#;
    assert_received(&stack(&inbox), &SignedDelivery::new(SECRET, body).event_id("evt-1")).await;
    assert_eq!(found(&inbox, Filter::new().order(5)).await, [""; 0]);
    assert_eq!(found(&inbox, Filter::new().branch(7)).await, ["evt-1"]);
}

#[cfg(feature = "payload")]
#[tokio::test(start_paused = true)]
async fn envelope_of_timestamped_signature_has_terms() {
    let inbox = inbox();
    let stack = KlikitVerifyLayer::new(SECRET).accept_timestamped(seconds(300)).layer(inbox.acceptor());
    let data = r#"{"branch_id":7,"orders":[{"id":5}],"data":{"orders":[{"id":6}]}}"#;
    let delivery = SignedDelivery::timestamped(SECRET, SystemTime::now(), "evt-9", CREATED, data);
    assert_received(&stack, &delivery).await;
    assert_eq!(found(&inbox, Filter::new().order(5).branch(7)).await, ["evt-9"]);
    assert_eq!(found(&inbox, Filter::new().order(6)).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn deliveries_are_found_by_age_reason_and_attempts() {
    let inbox = inbox();
    let stack = stack(&inbox);
    let handler = ScriptedHandler::new(Reaction::Answers(200)).first([500, 500, 422].map(Reaction::Answers));
    let worker = inbox.worker(handler).concurrency(1).backoff(seconds(10_000), seconds(10_000));
    let worker = RunningWorker::start(worker);
    for number in [1, 2] {
        assert_received(&stack, &numbered(number)).await;
        sleep(seconds(100)).await;
    }
    assert_received(&stack, &numbered(3)).await;
    until_counts(&inbox, "one is dead", |counts| counts.dead == 1).await;
    worker.stop().await;
    let filter = Filter::new;
    assert_eq!(found(&inbox, filter().reason("500")).await, ["evt-1", "evt-2"]);
    assert_eq!(found(&inbox, filter().reason("Unprocessable")).await, ["evt-3"]);
    assert_eq!(found(&inbox, filter().attempts(1..=1)).await.len(), 3);
    assert_eq!(found(&inbox, filter().attempts(2..=9)).await, [""; 0]);
    assert_eq!(found(&inbox, filter().older_than(seconds(150))).await, ["evt-1"]);
    assert_eq!(found(&inbox, filter().younger_than(seconds(150)).states([DeliveryState::Ready])).await, ["evt-2"]);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_recorded() {
    let inbox = inbox();
    let handler = ScriptedHandler::new(Reaction::Answers(422)).first([Reaction::Answers(503), Reaction::Panics]);
    let worker = inbox.worker(handler).name("kitchen-1");
    let worker = RunningWorker::start(worker);
    assert_received(&stack(&inbox), &delivery()).await;
    until_counts(&inbox, "the delivery is dead", |counts| counts.dead == 1).await;
    worker.stop().await;
    let shown = inbox.show(DeliveryId::new(1)).await.unwrap().unwrap();
    let expected = [
        (1, Some(503), Some("503 Service Unavailable".into()), true),
        (2, None, Some("the handler panicked".into()), true),
        (3, Some(422), Some("422 Unprocessable Entity".into()), true),
    ];
    assert_eq!(outcomes(&shown), expected);
    assert!(
        shown.history.iter().all(|record| record.worker == "kitchen-1" && record.ended_at >= Some(record.started_at))
    );
    assert!(shown.history.is_sorted_by_key(|record| record.started_at));
    assert!(shown.body.is_none() && shown.has_body);
}

#[tokio::test(start_paused = true)]
async fn running_attempt_has_no_end() {
    let inbox = inbox();
    let worker = inbox.worker(ScriptedHandler::new(Reaction::AnswersAfter(seconds(100))));
    let worker = RunningWorker::start(worker);
    assert_received(&stack(&inbox), &delivery()).await;
    sleep(seconds(10)).await;
    let shown = inbox.show(DeliveryId::new(1)).await.unwrap().unwrap();
    assert_eq!((shown.state, outcomes(&shown)), (DeliveryState::Leased, vec![(1, None, None, false)]));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn interrupted_attempt_leaves_no_record() {
    let inbox = inbox();
    let worker = inbox.worker(ScriptedHandler::new(Reaction::Hangs)).drain_deadline(seconds(1));
    let worker = RunningWorker::start(worker);
    assert_received(&stack(&inbox), &delivery()).await;
    sleep(seconds(10)).await;
    worker.stop().await;
    let shown = inbox.show(DeliveryId::new(1)).await.unwrap().unwrap();
    assert_eq!((shown.state, shown.attempts, outcomes(&shown)), (DeliveryState::Ready, 0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn history_outlives_the_body() {
    let inbox = inbox().keep_bodies(seconds(100)).keep_history(seconds(1000));
    let handler = ScriptedHandler::new(Reaction::Answers(200)).first([Reaction::Answers(503)]);
    let worker = RunningWorker::start(inbox.worker(handler));
    assert_received(&stack(&inbox), &delivery()).await;
    until_counts(&inbox, "the delivery is done", |counts| counts.done == 1).await;
    let expected = [(1, Some(503), Some("503 Service Unavailable".into()), true), (2, Some(200), None, true)];
    let shown = inbox.show_with_body(DeliveryId::new(1)).await.unwrap().unwrap();
    assert_eq!((outcomes(&shown), shown.body.as_deref()), (expected.to_vec(), Some(BODY.as_bytes())));
    sleep(seconds(200)).await;
    let shown = inbox.show_with_body(DeliveryId::new(1)).await.unwrap().unwrap();
    assert_eq!((outcomes(&shown), shown.body.as_ref()), (expected.to_vec(), None));
    sleep(seconds(1000)).await;
    assert!(inbox.show(DeliveryId::new(1)).await.unwrap().is_none());
    assert_duplicate(&stack(&inbox), &delivery()).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn handled_delivery_leaves_nothing_by_default() {
    let inbox = inbox();
    let worker = RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Answers(200))));
    assert_received(&stack(&inbox), &delivery()).await;
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(found(&inbox, Filter::new()).await, [""; 0]);
}

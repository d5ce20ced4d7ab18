//! The test utilities of the feature `testing`.
#![cfg(feature = "axum")]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, http::StatusCode, routing::post};
use bytes::Bytes;
use futures_util::stream;
use http::Response;
use tokio::time::sleep;
use tower_klikit::{
    KlikitVerifyLayer,
    axum::KlikitEvent,
    dedupe::KlikitDedupeLayer,
    payload::{OrderEvent, OrderStatus, OrderType},
    store::MemoryStore,
    testing::{
        Answer, FakeKlikit, SignedDelivery,
        orders::{FakeOrder, body},
    },
};

const SECRET: &str = "klikit-test-secret";

fn delivery() -> SignedDelivery {
    SignedDelivery::new(SECRET, body(1, 2, [FakeOrder::new(42)]))
}

/// Returns an app that responds with these statuses in turn, and a counter of its calls.
fn responding_with(statuses: &'static [u16]) -> (Router, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&count);
    let handler = async move || {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        StatusCode::from_u16(statuses[call % statuses.len()]).unwrap()
    };
    let app = Router::new().route("/webhooks/klikit", post(handler)).layer(KlikitVerifyLayer::new(SECRET));
    (app, count)
}

#[tokio::test(start_paused = true)]
async fn fake_klikit_retries_until_success() {
    let (app, count) = responding_with(&[500, 404, 204]);
    let report = FakeKlikit::new().deliver::<Body>(&app, &delivery()).await;
    assert!(report.is_delivered());
    assert_eq!(report.statuses(), [500, 404, 204]);
    let after: Vec<_> = report.attempts.iter().map(|attempt| attempt.after.as_secs()).collect();
    assert_eq!(after, [0, 30, 150]);
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn fake_klikit_stops_after_31_hours() {
    let (app, _) = responding_with(&[503]);
    let report = FakeKlikit::new().deliver::<Body>(&app, &delivery()).await;
    assert!(!report.is_delivered());
    assert_eq!(report.statuses(), [503; 7]);
    assert_eq!(report.attempts.last().unwrap().after.as_secs(), 30 + 120 + 600 + 3600 + 6 * 3600 + 24 * 3600);
}

#[tokio::test(start_paused = true)]
async fn response_after_10_seconds_is_a_timeout() {
    for (seconds, answer) in [(9, Answer::Status(StatusCode::OK)), (11, Answer::TimedOut)] {
        let handler = post(async move || sleep(Duration::from_secs(seconds)).await);
        let app = Router::new().route("/webhooks/klikit", handler);
        let report = FakeKlikit::new().pauses([]).deliver::<Body>(&app, &delivery()).await;
        assert_eq!(report.attempts[0].answer, answer);
    }
}

#[tokio::test(start_paused = true)]
async fn incomplete_response_is_a_failure() {
    let broken = || Body::from_stream(stream::iter([Ok(Bytes::from("{")), Err("broken")]));
    let endless = || Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let broken = Router::new().route("/webhooks/klikit", post(async move || Response::new(broken())));
    let endless = Router::new().route("/webhooks/klikit", post(async move || Response::new(endless())));
    for (app, answer) in [(broken, Answer::Failed), (endless, Answer::TimedOut)] {
        let report = FakeKlikit::new().pauses([]).deliver::<Body>(&app, &delivery()).await;
        assert_eq!(report.attempts[0].answer, answer);
    }
}

#[tokio::test(start_paused = true)]
async fn retries_have_the_same_id() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let slow = post(async move |_: KlikitEvent| {
        counted.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_secs(12)).await;
    });
    let layers = tower::ServiceBuilder::new()
        .layer(KlikitVerifyLayer::new(SECRET))
        .layer(KlikitDedupeLayer::new(MemoryStore::new()));
    let app = Router::new().route("/webhooks/klikit", slow.layer(layers));
    let report = FakeKlikit::new().deliver::<Body>(&app, &delivery()).await;
    assert_eq!((report.attempts[0].answer, report.statuses()), (Answer::TimedOut, vec![200]));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn fake_orders_have_fields_of_klikit() {
    let order = FakeOrder::new(42)
        .item("Nasi goreng", 2, 25_000)
        .item("Es teh", 1, 8_000)
        .status(OrderStatus::READY)
        .order_type(OrderType::DINE_IN)
        .field("table_no", "7")
        .without("delivery_address");
    let event: OrderEvent = OrderEvent::from_slice(body(1, 2, [order, FakeOrder::large(43)]).as_bytes()).unwrap();
    assert_eq!((event.brand_id, event.branch_id, event.orders.len()), (1, 2, 2));
    let [order, large] = &event.orders[..] else { panic!("{event:?}") };
    assert_eq!((order.id(), order.external_id().as_deref()), (Some(42.into()), Some("GF-42")));
    assert_eq!((order.status(), order.order_type()), (Some(OrderStatus::READY), Some(OrderType::DINE_IN)));
    assert_eq!(order.total().unwrap().as_str(), "58000.00");
    assert_eq!((order.cart().unwrap().len(), order.read::<u32>("item_count")), (2, Ok(Some(3))));
    assert_eq!(order.read::<&str>("table_no"), Ok(Some("7")));
    assert!(order.get("delivery_address").is_none());
    assert!(order.brands().is_some() && order.payment_status().is_some() && order.currency().is_some());
    assert_eq!(large.cart().unwrap().len(), 15);
    assert!((15_000..40_000).contains(&large.as_json().len()), "{}", large.as_json().len());
}

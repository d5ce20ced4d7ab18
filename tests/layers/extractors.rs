//! Extractors for axum handlers, and the responses when they fail.
#![cfg(feature = "axum")]

use std::{
    io,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use axum::{Router, body::Body, extract::DefaultBodyLimit, routing::post};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use tower::ServiceExt;
use tower_klikit::{
    Delivery, EventId, EventType, FailureReason, KlikitVerifyLayer,
    axum::{KlikitEvent, KlikitRejection},
    header::EVENT_ID,
    payload::OrderEvent,
    testing::SignedDelivery,
};

use crate::support::{BODY, SECRET};

fn verified(router: Router) -> Router {
    router.layer(KlikitVerifyLayer::new(SECRET).allow_missing_event_id().body_limit(4 << 20))
}

/// Sends a request. Returns the status and the body of the response.
async fn answer(app: Router, request: Request<Body>) -> (StatusCode, String) {
    let response = app.oneshot(request).await.unwrap();
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    }
    let text = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(text.to_vec()).unwrap())
}

/// Creates a router with this handler.
macro_rules! app {
    ($handler:expr) => {
        Router::new().route("/webhooks/klikit", post($handler))
    };
}

fn delivery() -> SignedDelivery {
    SignedDelivery::new(SECRET, BODY).event_id("evt-1")
}

#[tokio::test]
async fn extracts_id_metadata_and_payload() {
    let app = app!(async |id: EventId, delivery: Delivery, event: KlikitEvent| {
        assert_eq!(Some(&id), delivery.event_id());
        let orders: Vec<_> = event.payload.orders.iter().map(|order| order.id()).collect();
        format!("{id} {} {:?} {} {orders:?}", event.id, event.event_type, event.payload.branch_id)
    });
    let (status, text) = answer(verified(app), delivery().request()).await;
    assert_eq!((status, &*text), (StatusCode::OK, "evt-1 evt-1 Some(OrderCreated) 2 [Some(42)]"));
}

#[tokio::test]
async fn extracts_custom_order_types() {
    #[derive(Deserialize)]
    struct Ticket {
        id: u32,
    }
    let by_event = app!(async |event: KlikitEvent<Ticket>| event.payload.orders[0].id.to_string());
    assert_eq!(answer(verified(by_event), delivery().request()).await.1, "42");
    let by_payload = app!(async |payload: OrderEvent<Ticket>| payload.orders[0].id.to_string());
    assert_eq!(answer(verified(by_payload), delivery().request()).await.1, "42");
}

#[tokio::test]
async fn extracts_payload_from_timestamped_envelope() {
    let app = app!(async |event: KlikitEvent| format!("{} {:?}", event.id, event.payload.orders[0].id()));
    let app = app.layer(KlikitVerifyLayer::new(SECRET).accept_timestamped(std::time::Duration::from_secs(300)));
    let signed = SignedDelivery::timestamped(SECRET, SystemTime::now(), "evt-7", EventType::OrderCreated, BODY);
    assert_eq!(answer(app.clone(), signed.request()).await, (StatusCode::OK, "evt-7 Some(42)".into()));

    let odd = SignedDelivery::timestamped(SECRET, SystemTime::now(), "evt-7", EventType::OrderCreated, "{}");
    let (status, text) = answer(app, odd.request()).await;
    assert_eq!((status, &*text), (StatusCode::UNPROCESSABLE_ENTITY, r#"{"error":"`data.brand_id` is missing"}"#));
}

#[tokio::test]
async fn missing_event_id_is_400_unless_optional() {
    let anonymous = || delivery().without_header(&EVENT_ID).request();
    let missing = (StatusCode::BAD_REQUEST, r#"{"error":"missing klikit headers"}"#.to_owned());
    assert_eq!(answer(verified(app!(async |_: EventId| ())), anonymous()).await, missing);
    assert_eq!(answer(verified(app!(async |_: KlikitEvent| ())), anonymous()).await, missing);
    let optional = app!(async |id: Option<EventId>| format!("{id:?}"));
    assert_eq!(answer(verified(optional), anonymous()).await.1, "None");
    assert_eq!(answer(verified(app!(async |_: OrderEvent| ())), anonymous()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn invalid_payload_is_422_without_quoting_it() {
    let odd = SignedDelivery::new(SECRET, r#"{"brand_id":"Ayu","branch_id":2,"orders":[]}"#);
    let (status, text) = answer(verified(app!(async |_: KlikitEvent| ())), odd.request()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(text, r#"{"error":"brand_id is a string, not an integer"}"#);
}

#[tokio::test]
async fn body_over_axum_limit_is_413() {
    let large = format!(r#"{{"brand_id":1,"branch_id":2,"orders":[],"x":"{}"}}"#, "x".repeat(3 << 20));
    let large = SignedDelivery::new(SECRET, large);
    let app = app!(async |_: KlikitEvent| ());
    let too_large = (StatusCode::PAYLOAD_TOO_LARGE, r#"{"error":"body too large"}"#.to_owned());
    assert_eq!(answer(verified(app.clone()), large.request()).await, too_large);
    let raised = app.layer(DefaultBodyLimit::max(4 << 20));
    assert_eq!(answer(verified(raised), large.request()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn handler_can_take_the_rejection() {
    let app = app!(async |event: Result<KlikitEvent, KlikitRejection>| {
        event.unwrap_err().payload_error().unwrap().path().to_owned()
    });
    let odd = SignedDelivery::new(SECRET, r#"{"brand_id":1,"branch_id":2,"orders":[7]}"#);
    assert_eq!(answer(verified(app), odd.request()).await.1, "orders[0]");
}

#[tokio::test]
async fn optional_delivery_is_none_without_layer() {
    let app = app!(async |delivery: Option<Delivery>| delivery.is_some().to_string());
    assert_eq!(answer(app.clone(), delivery().request()).await.1, "false");
    assert_eq!(answer(verified(app), delivery().request()).await.1, "true");
}

#[tokio::test]
async fn rejection_has_a_failure_reason() {
    #[derive(Deserialize)]
    struct Ticket {
        #[allow(dead_code, reason = "the field only has to be parsed")]
        note: String,
    }
    let app = app!(async |_: KlikitEvent<Ticket>| ());
    let odd = SignedDelivery::new(SECRET, include_str!("../reports/lone-surrogate-in-note.json"));
    let response = verified(app.clone()).oneshot(odd.request::<Body>()).await.unwrap();
    let reason = response.extensions().get::<FailureReason>().unwrap();
    assert_eq!(reason.as_str(), "`orders[0].note` is not a valid Unicode string");
    let (status, text) = answer(verified(app.clone()), odd.request()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(text, r#"{"error":"`orders[0].note` is not a valid Unicode string"}"#);

    let anonymous = delivery().without_header(&EVENT_ID);
    let response = verified(app).oneshot(anonymous.request::<Body>()).await.unwrap();
    assert_eq!(response.extensions().get::<FailureReason>().unwrap().as_str(), "the delivery has no event id");
}

#[tokio::test]
async fn handler_can_return_failure_reason() {
    let app = app!(async || (StatusCode::CONFLICT, FailureReason::new("printer is out of paper"), "no paper"));
    let response = app.oneshot(delivery().request::<Body>()).await.unwrap();
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert_eq!(response.extensions().get::<FailureReason>().unwrap().as_str(), "printer is out of paper");

    let app = app!(async || (StatusCode::CONFLICT, FailureReason::new("printer is out of paper")));
    let response = app.oneshot(delivery().request::<Body>()).await.unwrap();
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert!(response.extensions().get::<FailureReason>().is_some());
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
}

/// The only test that reads the log. One test covers all extractors, because a log line that first occurs without a
/// subscriber stays disabled for the whole process.
#[test]
fn missing_layer_is_500_and_logged() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let log = Log::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let apps = [
        app!(async |_: EventId| ()),
        app!(async |_: Option<EventId>| ()),
        app!(async |_: Delivery| ()),
        app!(async |_: OrderEvent| ()),
        app!(async |_: KlikitEvent| ()),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (n, app) in apps.into_iter().enumerate() {
        let answered = runtime.block_on(answer(app, delivery().request()));
        assert_eq!(answered, (StatusCode::INTERNAL_SERVER_ERROR, r#"{"error":"misconfigured"}"#.into()));
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("put KlikitVerifyLayer outside of it").count(), n + 1, "{text}");
    }
}

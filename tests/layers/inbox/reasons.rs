//! Tests of the reasons of failed attempts in the log and in entries, and of deliveries without a route.

use axum::{
    Router,
    routing::{get, post, post_service},
};
use tower_klikit::FailureReason;

use super::{log::Log, *};

/// Returns the reason of the only dead letter.
async fn reason(inbox: &Inbox) -> String {
    let dead = inbox.dead(None, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    dead[0].reason.clone().unwrap()
}

/// Runs a test on a paused clock and returns its log.
fn logged(log: &Log, test: impl Future<Output = ()>) -> String {
    let _listening = log.listen();
    log::paused(test);
    log.taken()
}

#[test]
fn reason_comes_from_the_response() {
    let log = Log::default();
    let text = logged(&log, async {
        let inbox = inbox();
        assert_received(&stack(&inbox), &delivery()).await;
        let handler = tower::service_fn(|_: Request<VerifiedBody>| async {
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
            response.extensions_mut().insert(FailureReason::new("the printer is out of paper"));
            Ok::<_, BoxError>(response)
        });
        inbox.worker(handler).run_until(until_empty(&inbox)).await;
        assert_eq!(reason(&inbox).await, "the printer is out of paper");
    });
    assert!(text.contains("dead-lettered a delivery: the printer is out of paper"), "{text}");
    assert!(text.contains("delivery_id=1"), "{text}");
}

#[cfg(feature = "axum")]
#[test]
fn rejection_of_an_extractor_is_the_reason() {
    use tower_klikit::{axum::KlikitEvent, payload::Order};

    let log = Log::default();
    let text = logged(&log, async {
        let inbox = inbox();
        let body = r#"{"brand_id":1,"branch_id":"two","orders":[]}"#;
        assert_received(&stack(&inbox), &SignedDelivery::new(SECRET, body).event_id("evt-1")).await;
        let handler = Router::new().route("/webhooks/klikit", post(async |_: KlikitEvent<Order>| ()));
        inbox.worker(handler).run_until(until_empty(&inbox)).await;
        assert!(reason(&inbox).await.contains("branch_id"), "{}", reason(&inbox).await);
    });
    assert!(text.contains("dead-lettered a delivery: branch_id"), "{text}");
}

#[cfg(feature = "axum")]
#[test]
fn payload_error_of_a_handler_is_the_reason() {
    use tower_klikit::{axum::KlikitEvent, payload::PayloadError};

    async fn handle(event: KlikitEvent) -> Result<(), PayloadError> {
        event.payload.orders[0].require_id()?;
        Ok(())
    }

    let log = Log::default();
    let text = logged(&log, async {
        let inbox = inbox();
        let body = r#"{"brand_id":1,"branch_id":2,"orders":[{"status":1}]}"#;
        assert_received(&stack(&inbox), &SignedDelivery::new(SECRET, body).event_id("evt-1")).await;
        let handler = Router::new().route("/webhooks/klikit", post(handle));
        inbox.worker(handler).run_until(until_empty(&inbox)).await;
        assert_eq!(reason(&inbox).await, "`id` is missing");
    });
    assert!(text.contains("dead-lettered a delivery: `id` is missing"), "{text}");
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn nested_acceptor_stores_the_whole_path() {
    let inbox = inbox();
    let acceptor = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
    let inner = Router::new().nest("/klikit", Router::new().route("/orders", post_service(acceptor)));
    let app = Router::new().nest("/webhooks", inner);
    let request = delivery().uri("/webhooks/klikit/orders?branch=7").request::<axum::body::Body>();
    assert_eq!(app.oneshot(request).await.unwrap().status(), 200);

    let paths = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&paths);
    let handler = post(async move |uri: http::Uri| seen.lock().unwrap().push(uri.to_string()));
    let handler = Router::new().route("/webhooks/klikit/orders", handler);
    inbox.worker(handler).max_attempts(1).run_until(until_empty(&inbox)).await;
    assert_eq!(*paths.lock().unwrap(), ["/webhooks/klikit/orders?branch=7"]);
    assert_eq!(inbox.counts().await.unwrap(), Counts::default());
}

#[test]
fn missing_route_is_an_error_in_the_log() {
    for (method, status) in [("GET", "405 Method Not Allowed"), ("POST", "404 Not Found")] {
        let log = Log::default();
        let text = logged(&log, async {
            let inbox = inbox();
            for number in 0..3 {
                let delivery = numbered(number).uri("/webhooks/klikit?token=secret");
                assert_received(&stack(&inbox), &delivery).await;
            }
            let path = if method == "GET" { "/webhooks/klikit" } else { "/elsewhere" };
            let handler = Router::new().route(path, get(async || ()));
            inbox.worker(handler).max_attempts(2).run_until(until_empty(&inbox)).await;
        });
        let line = format!("the worker's handler has no route for POST /webhooks/klikit: it responded with {status}");
        let lines: Vec<_> = text.lines().filter(|text| text.contains(&line)).collect();
        assert!(matches!(&lines[..], [line] if line.contains("ERROR")), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}

//! Tests of the request that the handler receives: it equals the request without an inbox.

use std::time::{Duration as StdDuration, SystemTime};

use axum::{
    Extension, Router,
    body::Bytes as AxumBytes,
    extract::{OriginalUri, Query},
    http::{HeaderMap, Method},
    routing::{any, post},
};
use tower::ServiceBuilder;
use tower_klikit::{Delivery, dedupe::KlikitDedupeLayer};

use super::*;

/// The parts of a request that an axum handler received.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SeenRequest {
    method: Method,
    uri: String,
    query: Vec<(String, String)>,
    content_type: Option<String>,
    content_length: Option<String>,
    id: String,
    id_header: String,
    event_type: String,
    tenant: String,
    secret_id: String,
    body: Vec<u8>,
}

type SeenRequests = Arc<Mutex<Vec<SeenRequest>>>;

fn router(log: SeenRequests) -> Router {
    let handler = async move |method: Method,
                              OriginalUri(uri): OriginalUri,
                              Query(query): Query<Vec<(String, String)>>,
                              Extension(id): Extension<EventId>,
                              Extension(delivery): Extension<Delivery>,
                              headers: HeaderMap,
                              body: AxumBytes| {
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        log.lock().unwrap().push(SeenRequest {
            method,
            uri: uri.path_and_query().unwrap().to_string(),
            query,
            content_type: header("content-type"),
            content_length: header("content-length"),
            id: id.to_string(),
            id_header: header("x-klikit-event-id").unwrap(),
            event_type: delivery.event_type().unwrap().to_string(),
            tenant: delivery.tenant().to_owned(),
            secret_id: delivery.secret_id().to_owned(),
            body: body.to_vec(),
        });
    };
    Router::new().route("/webhooks/klikit", any(handler))
}

fn keyring() -> Keyring {
    let keyring = Keyring::new("warung", "old", WebhookSecret::new("another secret").unwrap());
    keyring.add("new", WebhookSecret::new(SECRET).unwrap()).unwrap();
    keyring
}

fn unusual() -> SignedDelivery {
    SignedDelivery::new(SECRET, &b"{\"caf\xc3\xa9\": \"\\u0000\"}\n"[..])
        .uri("/webhooks/klikit?branch=7&a=%20b")
        .event_id("evt~!1")
        .event_type("klikit.order.created.v9")
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
}

async fn handle_all<S>(inbox: &Inbox, handler: S)
where
    S: Service<Request<VerifiedBody>, Response = Response<axum::body::Body>, Error = std::convert::Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    inbox.worker(handler).run_until(until_empty(inbox)).await;
}

#[tokio::test(start_paused = true)]
async fn handler_sees_the_same_request_as_inline() {
    let verify = KlikitVerifyLayer::with_keyring(keyring());
    let inline = SeenRequests::default();
    let app = router(Arc::clone(&inline)).layer(verify.clone());
    let request = || unusual().request::<axum::body::Body>();
    assert_eq!(app.oneshot(request()).await.unwrap().status(), StatusCode::OK);

    let inbox = inbox();
    let answer = verify.layer(inbox.acceptor()).oneshot(request()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let later = SeenRequests::default();
    handle_all(&inbox, router(Arc::clone(&later))).await;

    assert_eq!(later.lock().unwrap().len(), 1);
    assert_eq!(*later.lock().unwrap(), *inline.lock().unwrap());
    assert_eq!(later.lock().unwrap()[0].secret_id, "new");
}

#[tokio::test(start_paused = true)]
async fn received_at_is_the_time_of_the_delivery() {
    let inbox = inbox();
    assert_received(&stack(&inbox), &delivery()).await;
    let before = SystemTime::now();
    std::thread::sleep(StdDuration::from_millis(20));
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let handler = post(async move |Extension(delivery): Extension<Delivery>| {
        seen.lock().unwrap().push(delivery.received_at());
    });
    handle_all(&inbox, Router::new().route("/webhooks/klikit", handler)).await;
    assert!(times.lock().unwrap()[0] <= before);
    assert!(times.lock().unwrap()[0] > before - seconds(60));
}

#[tokio::test(start_paused = true)]
async fn router_with_the_layers_lets_deliveries_through() {
    let store = MemoryStore::new();
    let inbox = Inbox::new(store.clone());
    let log = SeenRequests::default();
    let layers = ServiceBuilder::new().layer(KlikitVerifyLayer::new(SECRET)).layer(KlikitDedupeLayer::new(store));
    let app = router(Arc::clone(&log)).layer(layers);
    assert_received(&stack(&inbox), &delivery()).await;
    handle_all(&inbox, app.clone()).await;
    assert_eq!(log.lock().unwrap().len(), 1);
    assert_eq!(log.lock().unwrap()[0].body, BODY.as_bytes());
    assert_eq!(log.lock().unwrap()[0].tenant, "default");

    // The router still rejects forged requests.
    let forged = delivery().altered().request::<axum::body::Body>();
    assert_eq!(app.oneshot(forged).await.unwrap().status(), StatusCode::FORBIDDEN);
}

#[tokio::test(start_paused = true)]
async fn handler_gets_the_verified_body() {
    let inbox = inbox();
    let log = SeenRequests::default();
    let app = router(Arc::clone(&log)).layer(KlikitVerifyLayer::new(SECRET));
    let rewrites = tower::service_fn(move |request: Request<VerifiedBody>| {
        app.clone().oneshot(request.map(|_| axum::body::Body::from("something else")))
    });
    assert_received(&stack(&inbox), &delivery()).await;
    handle_all(&inbox, rewrites).await;
    assert_eq!(log.lock().unwrap()[0].body, BODY.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn failing_handler_behind_the_layers_is_retried() {
    let store = MemoryStore::new();
    let inbox = Inbox::new(store.clone());
    let handler = ScriptedHandler::new(Reaction::Answers(200)).first([Reaction::Answers(500), Reaction::Fails]);
    let layers = ServiceBuilder::new().layer(KlikitVerifyLayer::new(SECRET)).layer(KlikitDedupeLayer::new(store));
    assert_received(&stack(&inbox), &delivery()).await;
    inbox.worker(layers.service(handler.clone())).run_until(until_empty(&inbox)).await;
    assert_eq!(handler.attempts(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn acceptor_is_rejected_as_a_handler() {
    let inbox = inbox();
    let stack = stack(&inbox);
    assert_received(&stack, &delivery()).await;
    let worker = inbox.worker(stack.clone()).max_attempts(2);
    let dead = until_counts(&inbox, "the delivery is dead", |counts| counts.dead == 1);
    worker.run_until(dead).await;
    assert_eq!(inbox.dead(None, 1).await.unwrap()[0].reason.as_deref(), Some("500 Internal Server Error"));
}

/// klikit signs neither path, query nor content type, so anybody who has captured a delivery can choose them.
#[tokio::test(start_paused = true)]
async fn stored_head_is_bounded() {
    let inbox = inbox();
    let stack = stack(&inbox);
    let with_uri = |uri: String| unusual().uri(&uri);
    let long_path = with_uri(format!("/webhooks/{}", "p".repeat(60_000))).request::<Full<Bytes>>();
    let answer = stack.clone().oneshot(long_path).await.unwrap();
    assert_eq!(answer.status(), StatusCode::URI_TOO_LONG);
    let mut long_method = unusual().request::<Full<Bytes>>();
    *long_method.method_mut() = Method::from_bytes("M".repeat(60_000).as_bytes()).unwrap();
    let answer = stack.clone().oneshot(long_method).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_IMPLEMENTED);
    assert_eq!(inbox.counts().await.unwrap().stored(), 0);

    // The delivery is stored all the same, without its query.
    let long_query = with_uri(format!("/webhooks/klikit?{}", "q".repeat(60_000)));
    let long_query = long_query.header(header::CONTENT_TYPE, format!("application/json; a={}", "a".repeat(60_000)));
    assert_received(&stack, &long_query).await;
    let log = SeenRequests::default();
    handle_all(&inbox, router(Arc::clone(&log))).await;
    let seen = log.lock().unwrap().pop().unwrap();
    assert_eq!((&*seen.uri, seen.content_type.as_deref()), ("/webhooks/klikit", Some("application/json")));
}

//! axum, with the layer in each position that a router offers, and among other layers.

use std::{convert::Infallible, future, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::{DefaultBodyLimit, Request},
    middleware::{Next, from_fn},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt, Full};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_http::{
    catch_panic::CatchPanicLayer, compression::Compression, decompression::RequestDecompressionLayer,
    map_request_body::MapRequestBodyLayer, timeout::TimeoutLayer, trace::TraceLayer,
};
use tower_klikit::{EventId, Rejection, testing::SignedDelivery};

use crate::stacks::{
    PATH,
    peers::{Client, Handler, assert_only_genuine_deliveries_arrive, sample, secret, serve_axum, verify},
};

/// Sends two requests that are not from klikit, one for another route and one without a route. Returns their statuses.
async fn statuses_of_others(client: &Client) -> [StatusCode; 2] {
    let get = |path: &str| {
        let request = Request::get(path).body(Full::default().boxed_unsync()).unwrap();
        async { client.request(request).await.status }
    };
    [get("/health").await, get("/nowhere").await]
}

#[tokio::test]
async fn router_layer_covers_the_whole_app() {
    let handler = Handler::default();
    let app = handler.router().route("/health", get(async || {})).layer(verify());
    let client = Client::http1(serve_axum(app));

    assert_only_genuine_deliveries_arrive(&handler, async |delivery| client.send(delivery).await.status).await;
    assert_eq!(statuses_of_others(&client).await, [403, 403]);
}

#[tokio::test]
async fn route_layer_covers_the_routes_before_it() {
    let handler = Handler::default();
    let app = handler.router().route_layer(verify()).route("/health", get(async || {}));
    let client = Client::http1(serve_axum(app));

    assert_only_genuine_deliveries_arrive(&handler, async |delivery| client.send(delivery).await.status).await;
    assert_eq!(statuses_of_others(&client).await, [200, 404]);
}

#[tokio::test]
async fn method_router_layer_covers_one_route() {
    let handler = Handler::default();
    let receive = handler.clone();
    let webhook = post(async move |Extension(id): Extension<EventId>, body: Bytes| {
        receive.receive(id, body);
    });
    let app = Router::new().route(PATH, webhook.layer(verify())).route("/health", get(async || {}));
    let client = Client::http1(serve_axum(app));

    assert_only_genuine_deliveries_arrive(&handler, async |delivery| client.send(delivery).await.status).await;
    assert_eq!(statuses_of_others(&client).await, [200, 404]);
}

/// Adds the layer among other layers, in one `ServiceBuilder`.
fn among_others(app: Router) -> Router {
    app.layer(
        ServiceBuilder::new()
            .map_response(expose_rejection)
            .layer(TraceLayer::new_for_http())
            .layer(CatchPanicLayer::new())
            .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(30)))
            .layer(verify())
            .layer(RequestDecompressionLayer::new())
            // axum's own middleware requires axum's body.
            .layer(MapRequestBodyLayer::new(Body::new))
            .layer(from_fn(expose_event_id)),
    )
}

#[tokio::test]
async fn works_around_axum_middleware() {
    let handler = Handler::default();
    let stack = ServiceBuilder::new()
        .layer(verify().with_body::<Body>())
        .layer(from_fn(async |request: Request, next: Next| next.run(request).await));
    let client = Client::http1(serve_axum(handler.router().layer(stack)));
    assert_only_genuine_deliveries_arrive(&handler, async |delivery| client.send(delivery).await.status).await;
}

/// Acts as an outer logging layer, which reads the reason for a rejection from the response.
fn expose_rejection<B>(mut response: Response<B>) -> Response<B> {
    if let Some(rejection) = response.extensions().get::<Rejection>() {
        let kind = format!("{:?}", rejection.kind());
        response.headers_mut().insert("x-rejected", kind.parse().unwrap());
    }
    response
}

/// Acts as inner middleware, which sees only verified requests.
async fn expose_event_id(Extension(id): Extension<EventId>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert("x-event-id", id.as_str().parse().unwrap());
    response
}

#[tokio::test]
async fn works_among_other_layers() {
    let handler = Handler::default();
    let client = Client::http1(serve_axum(among_others(handler.router())));

    assert_only_genuine_deliveries_arrive(&handler, async |delivery| {
        let answer = client.send(delivery).await;
        match answer.status {
            StatusCode::OK => {
                let id = delivery.to_delivery().event_id().unwrap().to_string();
                assert_eq!(answer.headers["x-event-id"], id);
            }
            _ => {
                assert_eq!(answer.headers["x-rejected"], "SignatureMismatch");
                assert_eq!(answer.text, r#"{"error":"invalid signature"}"#);
                assert!(!answer.headers.contains_key("x-event-id"), "inner middleware saw an unverified request");
            }
        }
        answer.status
    })
    .await;
}

#[tokio::test]
async fn verifies_body_before_decompression() {
    let handler = Handler::default();
    let client = Client::http1(serve_axum(among_others(handler.router())));
    let plain = sample();
    let gzipped = gzip(plain.body().clone()).await;
    assert!(gzipped.len() < plain.body().len());
    let id = plain.to_delivery().event_id().unwrap().to_string();
    let signed = SignedDelivery::new(secret(), gzipped.clone()).event_id(id).header(header::CONTENT_ENCODING, "gzip");

    let answer = client.send(&signed).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    handler.assert_received(&plain);

    let answer = client.send(&signed.altered()).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    handler.assert_not_called();
}

/// Compresses a body.
async fn gzip(body: Bytes) -> Bytes {
    let compress = Compression::new(service_fn(move |_: Request<()>| {
        let body = Full::new(body.clone());
        async { Ok::<_, Infallible>(Response::new(body)) }
    }));
    let request = Request::builder().header(header::ACCEPT_ENCODING, "gzip").body(()).unwrap();
    compress.oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn outer_layer_catches_panic_of_handler() {
    let app = Router::new().route(PATH, post(async || -> () { panic!("the handler panics") }));
    let client = Client::http1(serve_axum(among_others(app)));

    let answer = client.send(&sample()).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    let answer = client.send(&sample().altered()).await;
    assert_eq!(answer.status, 403, "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn outer_timeout_ends_the_handler() {
    let app = Router::new().route(PATH, post(future::pending::<()>));

    let answer = among_others(app).oneshot(sample().request::<Body>()).await.unwrap();
    assert_eq!(answer.status(), 504);
}

#[tokio::test]
async fn limit_of_extractors_applies() {
    let handler = Handler::default();
    let large = SignedDelivery::new(secret(), vec![b' '; 3 << 20]);
    let app = handler.router().layer(verify().body_limit(4 << 20));

    let client = Client::http1(serve_axum(app.clone()));
    assert_eq!(client.send(&large).await.status, 413);
    handler.assert_not_called();

    let client = Client::http1(serve_axum(app.layer(DefaultBodyLimit::disable())));
    assert_eq!(client.send(&large).await.status, 200);
    handler.assert_received(&large);
}

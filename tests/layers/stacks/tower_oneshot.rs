//! The layer without a server: the tests call the service directly.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_klikit::{EventId, VerifiedBody};

use crate::stacks::peers::{Handler, assert_only_genuine_deliveries_arrive, verify};

#[tokio::test]
async fn verifies_for_plain_service() {
    let handler = Handler::default();
    let service = verify().layer(service_fn(async |request: Request<VerifiedBody>| {
        let id = request.extensions().get::<EventId>().expect("the request is verified").clone();
        handler.receive(id, request.into_body().into_bytes());
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    }));
    assert_only_genuine_deliveries_arrive(&handler, async |delivery| {
        service.clone().oneshot(delivery.request::<Full<Bytes>>()).await.unwrap().status()
    })
    .await;
}

#[tokio::test]
async fn verifies_for_router() {
    let handler = Handler::default();
    let app = handler.router().layer(verify());
    assert_only_genuine_deliveries_arrive(&handler, async |delivery| {
        app.clone().oneshot(delivery.request::<axum::body::Body>()).await.unwrap().status()
    })
    .await;
}

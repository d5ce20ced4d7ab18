//! What shows on the wire of HTTP/2 alone: bodies without a length, and answers that come before the request has ended.

use std::net::SocketAddr;

use tower_klikit::{
    KlikitVerifyLayer,
    header::{EVENT_ID, SIGNATURE},
    testing::SignedDelivery,
};

use crate::stacks::{
    peers::{Client, Handler, assert_a_body_without_a_length_completes, sample, secret, serve_axum, verify},
    plain_hyper,
};

const LIMIT: usize = 256 * 1024;

/// The same handler and layer under axum's server and under hyper's own.
fn serve(handler: &Handler, layer: &KlikitVerifyLayer) -> [SocketAddr; 2] {
    let axum = serve_axum(handler.router().layer(layer.clone()));
    [axum, plain_hyper::serve_http2(handler, layer)]
}

#[tokio::test]
async fn a_delivery_without_a_length_completes() {
    let handler = Handler::default();
    for address in serve(&handler, &verify()) {
        let client = Client::http2(address);
        assert_a_body_without_a_length_completes(&client, &handler).await;
    }
}

#[tokio::test]
async fn the_sender_of_a_body_that_is_too_large_sees_the_status() {
    let handler = Handler::default();
    for address in serve(&handler, &verify().body_limit(LIMIT)) {
        let client = Client::http2(address);
        let large = SignedDelivery::new(secret(), vec![b' '; LIMIT * 2 - 1]);
        assert_eq!(client.send(&large).await.status, 413, "with a content-length");
        assert_eq!(client.send_chunked(&large).await.status, 413, "without a content-length");
        handler.assert_not_called();
    }
}

#[tokio::test]
async fn what_the_head_decides_is_answered_before_the_body_comes() {
    let handler = Handler::default();
    for address in serve(&handler, &verify()) {
        let client = Client::http2(address);
        assert_eq!(client.send_head(&sample().without_header(&SIGNATURE)).await.status, 403);
        assert_eq!(client.send_head(&sample().without_header(&EVENT_ID)).await.status, 400);
        handler.assert_not_called();

        // The connection serves on.
        assert_eq!(client.send(&sample()).await.status, 200);
        handler.assert_received(&sample());
    }
}

//! Behaviour that is specific to HTTP/2: bodies without a length, and responses before the end of the request.

use std::net::SocketAddr;

use tower_klikit::{
    KlikitVerifyLayer,
    header::{EVENT_ID, SIGNATURE},
    testing::SignedDelivery,
};

use crate::stacks::{
    peers::{Client, Handler, assert_body_without_length_completes, sample, secret, serve_axum, verify},
    plain_hyper,
};

const LIMIT: usize = 256 * 1024;

/// Serves the handler and the layer with axum's server and with hyper's.
fn serve(handler: &Handler, layer: &KlikitVerifyLayer) -> [SocketAddr; 2] {
    let axum = serve_axum(handler.router().layer(layer.clone()));
    [axum, plain_hyper::serve_http2(handler, layer)]
}

#[tokio::test]
async fn accepts_delivery_without_length() {
    let handler = Handler::default();
    for address in serve(&handler, &verify()) {
        let client = Client::http2(address);
        assert_body_without_length_completes(&client, &handler).await;
    }
}

#[tokio::test]
async fn sender_of_large_body_sees_the_status() {
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
async fn rejects_bad_head_before_reading_body() {
    let handler = Handler::default();
    for address in serve(&handler, &verify()) {
        let client = Client::http2(address);
        assert_eq!(client.send_head(&sample().without_header(&SIGNATURE)).await.status, 403);
        assert_eq!(client.send_head(&sample().without_header(&EVENT_ID)).await.status, 400);
        handler.assert_not_called();

        // The connection is still usable.
        assert_eq!(client.send(&sample()).await.status, 200);
        handler.assert_received(&sample());
    }
}

//! Compressed bodies. nginx forwards compressed requests but cannot compress them, so the tests run gzip(1).

use std::{
    io::Write,
    process::{Command, Stdio},
};

use axum::{body::Body, routing::MethodRouter};
use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use tower::ServiceBuilder;
use tower_http::{decompression::RequestDecompressionLayer, map_request_body::MapRequestBodyLayer};
use tower_klikit::{
    RejectionKind::SignatureMismatch,
    diagnose::{Cause, Certainty},
    testing::SignedDelivery,
};

use crate::proxies::{
    deliveries,
    receiver::{Receiver, serve, verify},
    sender::{sample, send, send_body},
    servers::nginx::Nginx,
};

/// Compresses a body with gzip(1).
fn gzip(body: &Bytes) -> Bytes {
    let mut gzip =
        Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip is installed");
    gzip.stdin.take().expect("stdin is piped").write_all(body).unwrap();
    let output = gzip.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout.into()
}

/// Decompresses requests before they reach `route`.
fn decompressing(route: MethodRouter) -> MethodRouter {
    let stack = ServiceBuilder::new().layer(RequestDecompressionLayer::new());
    route.layer(stack.layer(MapRequestBodyLayer::new(Body::new)))
}

/// Returns a delivery with the signature of its uncompressed body, and with `Content-Encoding`. The caller sends the
/// compressed body instead.
fn signed_before_compression() -> SignedDelivery {
    sample().header(CONTENT_ENCODING, "gzip")
}

/// Returns a delivery with the signature of its compressed body.
fn signed_after_compression() -> SignedDelivery {
    let (secret, _) = deliveries::all();
    SignedDelivery::new(secret, gzip(sample().body())).header(CONTENT_ENCODING, "gzip")
}

#[tokio::test]
async fn proves_compression_after_signing() {
    let (receiver, _guard) = Receiver::listening();
    // With and without `Content-Encoding`.
    for delivery in [signed_before_compression(), sample()] {
        let address = serve(receiver.route(verify())).await;
        let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
        assert_eq!(send_body(nginx.address(), &delivery, gzip(sample().body())).await, 403);
        receiver.take_rejected().assert_rejected(SignatureMismatch, Cause::BodyCompressed, Certainty::Proven);
    }
}

#[tokio::test]
async fn accepts_body_decompressed_before_verifying() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(decompressing(receiver.route(verify()))).await;
    let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
    let delivery = signed_before_compression();
    assert_eq!(send_body(nginx.address(), &delivery, gzip(sample().body())).await, 200);
    let (_, handled) = receiver.take();
    assert_eq!(handled.as_ref(), Some(sample().body()));
}

#[tokio::test]
async fn accepts_compressed_body_signed_as_sent() {
    let (receiver, _guard) = Receiver::listening();
    let verify_then_decompress = ServiceBuilder::new().layer(verify()).layer(RequestDecompressionLayer::new());
    let route = receiver.handler().layer(verify_then_decompress);
    let address = serve(receiver.around(route)).await;
    let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
    assert_eq!(send(nginx.address(), &signed_after_compression()).await, 200);
    let (_, handled) = receiver.take();
    assert_eq!(handled.as_ref(), Some(sample().body()));
}

/// tower-http removes `Content-Encoding` when it decompresses, so the verify layer cannot see that the signature is for
/// the compressed body.
#[tokio::test]
async fn decompression_before_verifying_hides_cause() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(decompressing(receiver.route(verify()))).await;
    let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
    assert_eq!(send(nginx.address(), &signed_after_compression()).await, 403);
    let arrival = receiver.take_rejected();
    assert_eq!(&arrival.body, sample().body());
    assert!(!arrival.headers.contains_key(CONTENT_ENCODING), "{:?}", arrival.headers);
    arrival.assert_rejected(SignatureMismatch, Cause::Unknown, Certainty::Unknown);
}

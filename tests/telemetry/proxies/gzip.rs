//! Compressed bodies. nginx compresses no requests and forwards compressed ones, so gzip(1) compresses them here.

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

/// Adds a decompression layer around `route`.
fn decompressing(route: MethodRouter) -> MethodRouter {
    let stack = ServiceBuilder::new().layer(RequestDecompressionLayer::new());
    route.layer(stack.layer(MapRequestBodyLayer::new(Body::new)))
}

/// Returns a delivery that was signed before compression. The caller sends the compressed body.
fn labelled() -> SignedDelivery {
    sample().header(CONTENT_ENCODING, "gzip")
}

/// Returns a delivery that was compressed before it was signed.
fn compressed_first() -> SignedDelivery {
    let (secret, _) = deliveries::all();
    SignedDelivery::new(secret, gzip(sample().body())).header(CONTENT_ENCODING, "gzip")
}

#[tokio::test]
async fn proves_compression_after_signing() {
    let (receiver, _guard) = Receiver::listening();
    // With and without `Content-Encoding`.
    for delivery in [labelled(), sample()] {
        let address = serve(receiver.route(verify())).await;
        let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
        assert_eq!(send_body(nginx.address(), &delivery, gzip(sample().body())).await, 403);
        receiver.take_rejected().assert_rejected(SignatureMismatch, Cause::BodyCompressed, Certainty::Proven);
    }
}

#[tokio::test]
async fn decompression_outside_undoes_compression() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(decompressing(receiver.route(verify()))).await;
    let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
    assert_eq!(send_body(nginx.address(), &labelled(), gzip(sample().body())).await, 200);
    assert_eq!(receiver.take().1.as_ref(), Some(sample().body()));
}

#[tokio::test]
async fn signed_compressed_body_needs_inner_decompression() {
    let (receiver, _guard) = Receiver::listening();
    let stack = ServiceBuilder::new().layer(verify()).layer(RequestDecompressionLayer::new());
    let route = receiver.handler().layer(stack);
    let address = serve(receiver.around(route)).await;
    let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
    assert_eq!(send(nginx.address(), &compressed_first()).await, 200);
    assert_eq!(receiver.take().1.as_ref(), Some(sample().body()));
}

/// tower-http removes `Content-Encoding` when it decompresses, so the request shows no cause.
#[tokio::test]
async fn outer_decompression_leaves_no_cause() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(decompressing(receiver.route(verify()))).await;
    let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
    assert_eq!(send(nginx.address(), &compressed_first()).await, 403);
    let arrival = receiver.take_rejected();
    assert_eq!(&arrival.body, sample().body());
    assert!(!arrival.headers.contains_key(CONTENT_ENCODING), "{:?}", arrival.headers);
    arrival.assert_rejected(SignatureMismatch, Cause::Unknown, Certainty::Unknown);
}

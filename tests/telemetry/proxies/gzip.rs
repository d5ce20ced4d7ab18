//! Bodies that are compressed on the way, by gzip(1). nginx does not, and passes on what is.

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

/// By the program.
fn gzip(body: &Bytes) -> Bytes {
    let mut gzip =
        Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip is there");
    gzip.stdin.take().expect("it is piped").write_all(body).unwrap();
    let output = gzip.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout.into()
}

/// Decompresses outside of `route`.
fn decompressing(route: MethodRouter) -> MethodRouter {
    let stack = ServiceBuilder::new().layer(RequestDecompressionLayer::new());
    route.layer(stack.layer(MapRequestBodyLayer::new(Body::new)))
}

/// Signed by klikit, and compressed by something after it.
fn labelled() -> SignedDelivery {
    sample().header(CONTENT_ENCODING, "gzip")
}

/// Compressed by klikit itself, which then signs what it sends.
fn compressed_first() -> SignedDelivery {
    let (secret, _) = deliveries::all();
    SignedDelivery::new(secret, gzip(sample().body())).header(CONTENT_ENCODING, "gzip")
}

#[tokio::test]
async fn what_is_compressed_after_it_was_signed_fails_and_the_cause_is_proven() {
    let (receiver, _guard) = Receiver::listening();
    // Also without its label.
    for delivery in [labelled(), sample()] {
        let address = serve(receiver.route(verify())).await;
        let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
        assert_eq!(send_body(nginx.address(), &delivery, gzip(sample().body())).await, 403);
        receiver.take_refused().assert_rejected(SignatureMismatch, Cause::BodyCompressed, Certainty::Proven);
    }
}

/// The cure for the above.
#[tokio::test]
async fn what_is_compressed_after_it_was_signed_verifies_behind_decompression() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(decompressing(receiver.route(verify()))).await;
    let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
    assert_eq!(send_body(nginx.address(), &labelled(), gzip(sample().body())).await, 200);
    assert_eq!(receiver.take().1.as_ref(), Some(sample().body()));
}

#[tokio::test]
async fn what_is_signed_compressed_verifies_before_decompression() {
    let (receiver, _guard) = Receiver::listening();
    let stack = ServiceBuilder::new().layer(verify()).layer(RequestDecompressionLayer::new());
    let route = receiver.handler().layer(stack);
    let address = serve(receiver.around(route)).await;
    let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
    assert_eq!(send(nginx.address(), &compressed_first()).await, 200);
    assert_eq!(receiver.take().1.as_ref(), Some(sample().body()));
}

/// tower-http takes the label off with the compression, so that nothing is left to tell by.
#[tokio::test]
async fn what_is_signed_compressed_fails_behind_decompression_for_a_cause_that_left_no_trace() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(decompressing(receiver.route(verify()))).await;
    let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
    assert_eq!(send(nginx.address(), &compressed_first()).await, 403);
    let arrival = receiver.take_refused();
    assert_eq!(&arrival.body, sample().body());
    assert!(!arrival.headers.contains_key(CONTENT_ENCODING), "{:?}", arrival.headers);
    arrival.assert_rejected(SignatureMismatch, Cause::Unknown, Certainty::Unknown);
}

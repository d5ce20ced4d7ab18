//! Bodies that the proxy drops, or that are too large for it.

use std::time::Duration;

use tower_klikit::{
    RejectionKind::{BodyTimeout, SignatureMismatch},
    diagnose::{Cause, Certainty},
};

use crate::proxies::{
    receiver::{Receiver, serve, verify},
    sender::{large_sample, sample, send},
    servers::nginx::Nginx,
};

/// nginx forwards the `Content-Length` and sends no body, so the receiver waits until its deadline.
#[tokio::test]
async fn dropped_body_with_length_times_out() {
    let (receiver, _guard) = Receiver::listening();
    let impatient = verify().body_deadline(Duration::from_millis(100));
    let address = serve(receiver.route(impatient)).await;
    let Some(nginx) = Nginx::in_front_of(address, &["proxy_pass_request_body off"]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 408);
    let arrival = receiver.take_rejected();
    assert_eq!(arrival.headers["content-length"], sample().body().len().to_string().as_str());
    assert_eq!(arrival.body, "");
    arrival.assert_logged(BodyTimeout, Cause::BodyIncomplete, Certainty::Shown);
}

/// The configuration is from nginx's documentation.
#[tokio::test]
async fn dropped_body_without_length_is_empty() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let without = ["proxy_pass_request_body off", r#"proxy_set_header Content-Length """#];
    let Some(nginx) = Nginx::in_front_of(address, &without) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 403);
    receiver.take_rejected().assert_rejected(SignatureMismatch, Cause::BodyEmpty, Certainty::Shown);
}

/// `$request_body` contains only bodies in memory. nginx writes a body beyond `client_body_buffer_size` to a file.
#[tokio::test]
async fn large_body_from_request_body_variable_is_empty() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let Some(nginx) = Nginx::in_front_of(address, &["proxy_set_body $request_body"]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 200);
    assert_eq!(receiver.take().1.as_ref(), Some(sample().body()));
    assert_eq!(send(nginx.address(), &large_sample()).await, 403);
    receiver.take_rejected().assert_rejected(SignatureMismatch, Cause::BodyEmpty, Certainty::Shown);
}

/// The default limit of nginx is 1 MB.
#[tokio::test]
async fn nginx_rejects_body_over_its_limit() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let Some(nginx) = Nginx::in_front_of(address, &["client_max_body_size 100k"]) else { return };
    assert_eq!(send(nginx.address(), &large_sample()).await, 413);
    receiver.assert_no_arrival();
    assert_eq!(send(nginx.address(), &sample()).await, 200);
}

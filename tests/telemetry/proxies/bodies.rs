//! Bodies that do not come, or come too large.

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

/// nginx announces the length that came, and sends nothing: the receiver waits for it in vain.
#[tokio::test]
async fn a_body_that_is_not_passed_on_is_waited_for() {
    let (receiver, _guard) = Receiver::listening();
    let impatient = verify().body_deadline(Duration::from_millis(100));
    let address = serve(receiver.route(impatient)).await;
    let Some(nginx) = Nginx::in_front_of(address, &["proxy_pass_request_body off"]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 408);
    let arrival = receiver.take_refused();
    assert_eq!(arrival.headers["content-length"], sample().body().len().to_string().as_str());
    assert_eq!(arrival.body, "");
    arrival.assert_logged(BodyTimeout, Cause::BodyIncomplete, Certainty::Shown);
}

/// As nginx's documentation has it.
#[tokio::test]
async fn a_body_that_is_not_passed_on_with_no_length_either_is_empty() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let without = ["proxy_pass_request_body off", r#"proxy_set_header Content-Length """#];
    let Some(nginx) = Nginx::in_front_of(address, &without) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 403);
    receiver.take_refused().assert_rejected(SignatureMismatch, Cause::BodyEmpty, Certainty::Shown);
}

/// `$request_body` holds what is in memory. A body beyond `client_body_buffer_size` is in a file.
#[tokio::test]
async fn a_body_that_is_set_from_its_variable_is_empty_once_it_is_large() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let Some(nginx) = Nginx::in_front_of(address, &["proxy_set_body $request_body"]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 200);
    assert_eq!(receiver.take().1.as_ref(), Some(sample().body()));
    assert_eq!(send(nginx.address(), &large_sample()).await, 403);
    receiver.take_refused().assert_rejected(SignatureMismatch, Cause::BodyEmpty, Certainty::Shown);
}

/// nginx's own limit is 1 MB, and some lower it.
#[tokio::test]
async fn a_body_over_the_proxys_limit_never_comes() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let Some(nginx) = Nginx::in_front_of(address, &["client_max_body_size 100k"]) else { return };
    assert_eq!(send(nginx.address(), &large_sample()).await, 413);
    receiver.assert_nothing_came();
    assert_eq!(send(nginx.address(), &sample()).await, 200);
}

//! Headers that the proxy drops, renames or repeats.

use http::HeaderName;
use tower_klikit::{
    RejectionKind::{MalformedSignature, MissingEventId, MissingSignature},
    diagnose::{Cause, Certainty},
    header::{EVENT_ID, EVENT_TYPE, SIGNATURE},
};

use crate::proxies::{
    receiver::{Arrival, Receiver, serve, verify},
    sender::{sample, send},
    servers::nginx::Nginx,
};

#[tokio::test]
async fn empty_proxy_set_header_drops_the_signature() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let Some(nginx) = Nginx::in_front_of(address, &[r#"proxy_set_header x-klikit-signature """#]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 403);
    let arrival = receiver.take_rejected();
    assert!(arrival.headers.contains_key(EVENT_ID), "the other headers are forwarded: {:?}", arrival.headers);
    arrival.assert_rejected(MissingSignature, Cause::SignatureMissing, Certainty::Shown);
}

#[tokio::test]
async fn diagnoses_dropped_event_id() {
    let (receiver, _guard) = Receiver::listening();
    let without_id = r#"proxy_set_header x-klikit-event-id """#;
    let address = serve(receiver.route(verify())).await;
    let Some(nginx) = Nginx::in_front_of(address, &[without_id]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 400);
    receiver.take_rejected().assert_logged(MissingEventId, Cause::EventIdMissing, Certainty::Shown);

    let lenient = serve(receiver.route(verify().allow_missing_event_id())).await;
    let Some(nginx) = Nginx::in_front_of(lenient, &[without_id]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 200);
    let (arrival, handled) = receiver.take();
    assert_eq!(handled.as_ref(), Some(sample().body()));
    arrival.assert_cause(Cause::EventIdMissing, Certainty::Proven);
}

#[tokio::test]
async fn diagnoses_dropped_headers() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let Some(nginx) = Nginx::in_front_of(address, &["proxy_pass_request_headers off"]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 403);
    let arrival = receiver.take_rejected();
    for name in [EVENT_ID, EVENT_TYPE, SIGNATURE] {
        assert!(!arrival.headers.contains_key(&name), "{:?}", arrival.headers);
    }
    arrival.assert_rejected(MissingSignature, Cause::SignatureMissing, Certainty::Shown);
}

/// Returns a delivery whose signature header has underscores, as from gateways that turn headers into variables.
fn underscored() -> (HeaderName, tower_klikit::testing::SignedDelivery) {
    let name = HeaderName::from_static("x_klikit_signature");
    let delivery = sample();
    let value = delivery.request::<axum::body::Body>().headers()[SIGNATURE].clone();
    (name.clone(), delivery.without_header(&SIGNATURE).header(name, value))
}

#[tokio::test]
async fn nginx_drops_header_with_underscores() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
    let (name, delivery) = underscored();
    assert_eq!(send(nginx.address(), &delivery).await, 403);
    let arrival = receiver.take_rejected();
    assert!(!arrival.headers.contains_key(name), "{:?}", arrival.headers);
    arrival.assert_rejected(MissingSignature, Cause::SignatureMissing, Certainty::Shown);
}

/// Another proxy adds the header a second time, and nginx forwards both.
#[tokio::test]
async fn rejects_repeated_signature_header() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
    let delivery = sample();
    let value = delivery.request::<axum::body::Body>().headers()[SIGNATURE].clone();
    assert_eq!(send(nginx.address(), &delivery.added_header(SIGNATURE, value)).await, 403);
    let arrival = receiver.take_rejected();
    assert_eq!(count(&arrival, &SIGNATURE), 2);
    arrival.assert_rejected(MalformedSignature, Cause::SignatureRepeated, Certainty::Shown);
}

/// RFC 9110, section 5.3, allows a proxy to join repeated headers in one line.
#[tokio::test]
async fn rejects_signatures_joined_in_one_header() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let joined = r#"proxy_set_header x-klikit-signature "$http_x_klikit_signature, $http_x_klikit_signature""#;
    let Some(nginx) = Nginx::in_front_of(address, &[joined]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 403);
    receiver.take_rejected().assert_rejected(MalformedSignature, Cause::SignatureRepeated, Certainty::Shown);
}

/// `proxy_set_header` replaces the header, so setting it from its own variable does not repeat it.
#[tokio::test]
async fn accepts_signature_set_from_its_variable() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let again = "proxy_set_header x-klikit-signature $http_x_klikit_signature";
    let Some(nginx) = Nginx::in_front_of(address, &[again]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 200);
    let (arrival, handled) = receiver.take();
    assert_eq!((count(&arrival, &SIGNATURE), handled), (1, Some(sample().body().clone())));
}

/// Counts the values of a header.
fn count(arrival: &Arrival, name: &HeaderName) -> usize {
    arrival.headers.get_all(name).iter().count()
}

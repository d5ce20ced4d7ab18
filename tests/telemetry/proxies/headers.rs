//! Headers that are dropped, renamed or doubled on the way.

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
async fn a_header_that_is_set_to_nothing_is_dropped() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let Some(nginx) = Nginx::in_front_of(address, &[r#"proxy_set_header x-klikit-signature """#]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 403);
    let arrival = receiver.take_refused();
    assert!(arrival.headers.contains_key(EVENT_ID), "the others come through: {:?}", arrival.headers);
    arrival.assert_rejected(MissingSignature, Cause::SignatureMissing, Certainty::Shown);
}

#[tokio::test]
async fn an_event_id_that_is_dropped_is_missed_although_the_signature_holds() {
    let (receiver, _guard) = Receiver::listening();
    let without_id = r#"proxy_set_header x-klikit-event-id """#;
    let address = serve(receiver.route(verify())).await;
    let Some(nginx) = Nginx::in_front_of(address, &[without_id]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 400);
    receiver.take_refused().assert_logged(MissingEventId, Cause::EventIdMissing, Certainty::Shown);

    let lenient = serve(receiver.route(verify().allow_missing_event_id())).await;
    let Some(nginx) = Nginx::in_front_of(lenient, &[without_id]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 200);
    let (arrival, handled) = receiver.take();
    assert_eq!(handled.as_ref(), Some(sample().body()));
    arrival.assert_cause(Cause::EventIdMissing, Certainty::Proven);
}

#[tokio::test]
async fn headers_that_are_not_passed_on_are_all_missed() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let Some(nginx) = Nginx::in_front_of(address, &["proxy_pass_request_headers off"]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 403);
    let arrival = receiver.take_refused();
    for name in [EVENT_ID, EVENT_TYPE, SIGNATURE] {
        assert!(!arrival.headers.contains_key(&name), "{:?}", arrival.headers);
    }
    arrival.assert_rejected(MissingSignature, Cause::SignatureMissing, Certainty::Shown);
}

/// As gateways write them that make variables of headers.
fn underscored() -> (HeaderName, tower_klikit::testing::SignedDelivery) {
    let name = HeaderName::from_static("x_klikit_signature");
    let delivery = sample();
    let value = delivery.request::<axum::body::Body>().headers()[SIGNATURE].clone();
    (name.clone(), delivery.without_header(&SIGNATURE).header(name, value))
}

#[tokio::test]
async fn a_name_with_underscores_is_dropped() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
    let (name, delivery) = underscored();
    assert_eq!(send(nginx.address(), &delivery).await, 403);
    let arrival = receiver.take_refused();
    assert!(!arrival.headers.contains_key(name), "{:?}", arrival.headers);
    arrival.assert_rejected(MissingSignature, Cause::SignatureMissing, Certainty::Shown);
}

/// Something in front adds it to what has it already, and nginx passes both on.
#[tokio::test]
async fn a_header_that_comes_twice_is_refused() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
    let delivery = sample();
    let value = delivery.request::<axum::body::Body>().headers()[SIGNATURE].clone();
    assert_eq!(send(nginx.address(), &delivery.added_header(SIGNATURE, value)).await, 403);
    let arrival = receiver.take_refused();
    assert_eq!(count(&arrival, &SIGNATURE), 2);
    arrival.assert_rejected(MalformedSignature, Cause::SignatureRepeated, Certainty::Shown);
}

/// In one line, as RFC 9110, section 5.3, lets a proxy write what came in two.
#[tokio::test]
async fn two_headers_in_one_line_are_refused() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let joined = r#"proxy_set_header x-klikit-signature "$http_x_klikit_signature, $http_x_klikit_signature""#;
    let Some(nginx) = Nginx::in_front_of(address, &[joined]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 403);
    receiver.take_refused().assert_rejected(MalformedSignature, Cause::SignatureRepeated, Certainty::Shown);
}

/// `proxy_set_header` replaces, so a header that comes from a variable is still one.
#[tokio::test]
async fn a_header_that_is_set_again_is_still_one() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let again = "proxy_set_header x-klikit-signature $http_x_klikit_signature";
    let Some(nginx) = Nginx::in_front_of(address, &[again]) else { return };
    assert_eq!(send(nginx.address(), &sample()).await, 200);
    let (arrival, handled) = receiver.take();
    assert_eq!((count(&arrival, &SIGNATURE), handled), (1, Some(sample().body().clone())));
}

fn count(arrival: &Arrival, name: &HeaderName) -> usize {
    arrival.headers.get_all(name).iter().count()
}

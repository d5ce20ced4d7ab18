//! Tests of the verify layer's log lines.

use http::{Response, StatusCode, header};
use tower_klikit::header::EVENT_ID;

use super::*;
use crate::support::body::{Script, Step};

#[test]
fn each_rejection_is_one_warning_with_its_reason() {
    let delivery = || SignedDelivery::new(SECRET, BODY).header(header::AUTHORIZATION, "Basic c2VjcmV0");
    let cases = [
        (delivery().altered(), "does not match the body under any configured secret", "status=403"),
        (delivery().without_header(&SIGNATURE), "no x-klikit-signature header", "status=403"),
        (delivery().header(SIGNATURE, "sha256=00"), "not exactly one x-klikit-signature header", "status=403"),
        (delivery().without_header(&EVENT_ID), "no x-klikit-event-id header", "status=400"),
    ];
    for (delivery, reason, status) in cases {
        let log = log_of_request(&KlikitVerifyLayer::new(SECRET), delivery.request::<Full<Bytes>>());
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains("WARN") && log.contains(reason) && log.contains(status), "{log}");
    }
}

#[test]
fn body_error_is_logged_with_its_source() {
    let request = SignedDelivery::new(SECRET, BODY).request_with(|_| Script::new([Step::Fail]));
    assert!(log_of_request(&KlikitVerifyLayer::new(SECRET), request).contains("the connection broke"));
}

#[test]
fn rejection_with_a_success_status_is_an_error() {
    let layer = KlikitVerifyLayer::new(SECRET).on_rejection(|_| Response::new(Bytes::new()));
    let log = log_of_request(&layer, SignedDelivery::new(SECRET, BODY).altered().request::<Full<Bytes>>());
    assert!(log.contains("ERROR") && log.contains(StatusCode::OK.as_str()), "{log}");
}

#[test]
fn accepted_delivery_is_not_logged() {
    assert_eq!(
        log_of_request(&KlikitVerifyLayer::new(SECRET), SignedDelivery::new(SECRET, BODY).request::<Full<Bytes>>()),
        ""
    );
}

//! The log says why, and never what: no body, no secret, no whole signature.
#![cfg(feature = "tracing")]

mod support;

use std::{
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use support::{
    BODY, SECRET,
    body::{Script, Step},
    send,
};
use tower_klikit::{
    KlikitVerifyLayer,
    header::{EVENT_ID, SIGNATURE},
    testing::SignedDelivery,
};
use tracing_subscriber::filter::LevelFilter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged, at all levels, while one request is answered.
fn log<B>(layer: &KlikitVerifyLayer, request: http::Request<B>) -> String
where
    B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tracing::subscriber::with_default(subscriber, || runtime.block_on(send(layer, request)));
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let signature = SignedDelivery::new(SECRET, BODY).request::<Full<Bytes>>().headers()[SIGNATURE].clone();
    for hidden in [SECRET, BODY, signature.to_str().unwrap(), "c2VjcmV0"] {
        assert!(!log.contains(hidden), "{hidden} was logged: {log}");
    }
    log
}

#[test]
fn each_refusal_is_one_warning_with_its_reason() {
    let delivery = || SignedDelivery::new(SECRET, BODY).header(header::AUTHORIZATION, "Basic c2VjcmV0");
    let cases = [
        (delivery().altered(), "matches this body with none of the secrets", "status=403"),
        (delivery().without_header(&SIGNATURE), "no x-klikit-signature header", "status=403"),
        (delivery().header(SIGNATURE, "sha256=00"), "not, once, 64 hex digits", "status=403"),
        (delivery().without_header(&EVENT_ID), "no x-klikit-event-id header", "status=400"),
    ];
    for (delivery, reason, status) in cases {
        let log = log(&KlikitVerifyLayer::new(SECRET), delivery.request::<Full<Bytes>>());
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains("WARN") && log.contains(reason) && log.contains(status), "{log}");
    }
}

#[test]
fn a_body_that_fails_is_logged_with_its_error() {
    let request = SignedDelivery::new(SECRET, BODY).request_with(|_| Script::new([Step::Fail]));
    assert!(log(&KlikitVerifyLayer::new(SECRET), request).contains("the connection broke"));
}

#[test]
fn a_refusal_worded_as_a_success_is_an_error_in_the_log() {
    let layer = KlikitVerifyLayer::new(SECRET).on_rejection(|_| Response::new(Bytes::new()));
    let log = log(&layer, SignedDelivery::new(SECRET, BODY).altered().request::<Full<Bytes>>());
    assert!(log.contains("ERROR") && log.contains(StatusCode::OK.as_str()), "{log}");
}

#[test]
fn what_is_accepted_is_not_logged() {
    assert_eq!(log(&KlikitVerifyLayer::new(SECRET), SignedDelivery::new(SECRET, BODY).request::<Full<Bytes>>()), "");
}

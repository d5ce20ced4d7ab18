//! The log says why, and never what: no body, no secret, no whole signature.
#![cfg(feature = "tracing")]

mod support;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use support::{
    BODY, SECRET,
    body::{Script, Step},
    send,
};
#[cfg(feature = "dedupe")]
use tower::{Layer, ServiceExt};
use tower_klikit::{
    KlikitVerifyLayer,
    header::{EVENT_ID, SIGNATURE},
    testing::SignedDelivery,
};
#[cfg(feature = "dedupe")]
use tower_klikit::{
    dedupe::{KlikitDedupeLayer, Ledger},
    store::MemoryStore,
    testing::ledger,
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

/// What is logged, at all levels, while this runs. Nothing in this program may log outside of it: `tracing` would take it that
/// nobody wants to hear.
fn logged(run: impl FnOnce()) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// What is logged while one request is answered.
fn log<B>(layer: &KlikitVerifyLayer, request: http::Request<B>) -> String
where
    B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let log = logged(|| {
        runtime().block_on(send(layer, request));
    });
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

#[cfg(feature = "dedupe")]
#[test]
fn a_full_memory_store_says_so_once() {
    let claim = |n: usize| ledger::claim("default", &format!("evt-{n}"), BODY);
    let log = logged(|| {
        runtime().block_on(async {
            let store = MemoryStore::new().capacity(1);
            for n in 0..6 {
                let claim = claim(n);
                store.claim(&claim, Duration::from_secs(1)).await.unwrap();
                assert!(store.complete(&claim, Duration::from_secs(1)).await.unwrap());
            }
            assert_eq!(store.evicted(), 5);
        });
    });
    assert_eq!(log.matches("the memory store is full").count(), 1, "{log}");
}

#[cfg(feature = "dedupe")]
#[test]
fn a_missing_verify_layer_is_named() {
    let log = logged(|| {
        let service = KlikitDedupeLayer::new(MemoryStore::new()).layer(support::Handler::default());
        let strip = |mut request: http::Request<_>| {
            request.extensions_mut().clear();
            request
        };
        let misbuilt = KlikitVerifyLayer::new(SECRET).layer(tower::util::MapRequest::new(service, strip));
        let request = SignedDelivery::new(SECRET, BODY).request::<Full<Bytes>>();
        assert_eq!(runtime().block_on(misbuilt.oneshot(request)).unwrap().status(), 500);
    });
    assert!(log.contains("ERROR") && log.contains("put KlikitVerifyLayer outside of it"), "{log}");
}

#[cfg(feature = "dedupe")]
#[test]
fn a_conflict_is_logged_with_its_id() {
    let stack = KlikitVerifyLayer::new(SECRET)
        .layer(KlikitDedupeLayer::new(MemoryStore::new()).layer(support::Handler::default()));
    let log = logged(|| {
        for body in [BODY, "{}"] {
            let request = SignedDelivery::new(SECRET, body).event_id("evt-7").request::<Full<Bytes>>();
            assert_eq!(runtime().block_on(stack.clone().oneshot(request)).unwrap().status(), 200);
        }
    });
    assert!(log.contains("evt-7") && log.contains("another body"), "{log}");
    assert!(!log.contains(BODY), "{log}");
}

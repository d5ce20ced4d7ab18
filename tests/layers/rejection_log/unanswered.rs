//! Rejections without a response are in the log too, without a status.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::{FutureExt, poll};
use http::Response;
use tower::{Layer, Service};
use tower_klikit::{RejectionKind, dedupe::BodyDigest, testing::SignedDelivery};

use super::{Whole, delivery, logging, only, unsigned};
use crate::support::{
    BODY, Handler, SECRET,
    body::{Script, Step},
    send,
};

#[tokio::test(start_paused = true)]
async fn sender_disconnects_while_the_rest_is_discarded() {
    let (layer, log) = logging();
    let layer = layer.body_limit(BODY.len() - 1);
    {
        let body = Script::frames([BODY.into()]).then(Step::Hang);
        let mut request = Box::pin(send(&layer, delivery().request_with(|_| body)));
        assert!(poll!(&mut request).is_pending());
        assert!(log.is_empty(), "the sender may still get a response");
    }
    let entry = only(&log);
    assert_eq!((entry.kind(), entry.status(), entry.bytes()), (RejectionKind::BodyTooLarge, None, BODY.len()));
    assert_eq!((entry.event_id(), entry.tenant(), entry.body_digest()), (Some("evt-7"), Some("default"), None));
    assert_eq!(
        entry.to_string(),
        r##"#1 unanswered body_too_large event_id="evt-7" tenant="default" path="/webhooks/klikit" bytes=49"##
    );
}

#[tokio::test]
async fn sender_disconnects_while_the_body_is_hashed() {
    let (layer, log) = logging();
    let forged = SignedDelivery::new("a forger's own", vec![b' '; 200 * 1024]).request::<Whole>();
    {
        let mut request = Box::pin(send(&layer, forged));
        assert!(poll!(&mut request).is_pending());
    }
    let entry = only(&log);
    assert_eq!((entry.kind(), entry.status()), (RejectionKind::SignatureMismatch, None));
    assert_eq!((entry.bytes(), entry.body_digest()), (200 * 1024, None));
}

#[tokio::test]
async fn rejected_request_is_dropped_before_its_first_poll() {
    let (layer, log) = logging();
    drop(layer.layer(Handler::default()).call(unsigned()));
    assert_eq!((only(&log).kind(), only(&log).status()), (RejectionKind::MissingSignature, None));
}

#[tokio::test]
async fn response_function_panics() {
    let (layer, log) = logging();
    let panicking = layer.on_rejection(|_| -> Response<bytes::Bytes> { panic!("a bug in on_rejection") });
    let forged = || delivery().altered().request::<Whole>();
    for request in [unsigned(), forged()] {
        let answer = catch_unwind(AssertUnwindSafe(|| send(&panicking, request).now_or_never()));
        assert!(answer.is_err());
    }
    let facts: Vec<_> = log.entries().iter().map(|entry| (entry.kind(), entry.status())).collect();
    assert_eq!(facts, [(RejectionKind::SignatureMismatch, None), (RejectionKind::MissingSignature, None)]);
    let digest = BodyDigest::of(delivery().altered().body());
    assert_eq!(log.entries()[0].body_digest().map(BodyDigest::from), Some(digest));
}

#[tokio::test(start_paused = true)]
async fn request_without_verdict_is_no_rejection() {
    let (layer, log) = logging();
    {
        let body = Script::frames([BODY[..20].into()]).then(Step::Hang);
        let mut request = Box::pin(send(&layer, SignedDelivery::new(SECRET, BODY).request_with(|_| body)));
        assert!(poll!(&mut request).is_pending());
    }
    assert_eq!((log.len(), log.recorded()), (0, 0));
}

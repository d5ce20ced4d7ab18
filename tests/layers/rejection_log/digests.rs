//! The digest of a large body is computed in several polls, and the body stays charged to the budget meanwhile.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio_test::task::{self, Spawn};
use tower::{Layer, Service};
use tower_klikit::{
    KlikitVerifyLayer, RejectionKind, RejectionLog,
    dedupe::BodyDigest,
    testing::SignedDelivery,
    verify::{ResponseBody, ResponseFuture},
};

use super::{logging, only};
use crate::support::{BODY, Handler, SECRET, accepted, body::Script, rejected};

const KIB: usize = 1024;

/// A forged request with a body of `length` bytes, in pieces of `piece` bytes.
fn forged(length: usize, piece: usize) -> (Request<Script>, Bytes) {
    // Different bytes, so that the digest depends on their order.
    let body: Bytes = (0..length).map(|n| ((n / 251) ^ n).to_le_bytes()[0]).collect();
    let request =
        SignedDelivery::new("a forger's own", body.clone()).request_with(|body| Script::chunked(&body, piece));
    (request, body)
}

fn start(layer: &KlikitVerifyLayer, request: Request<Script>) -> Spawn<ResponseFuture<Handler, Script>> {
    task::spawn(layer.layer(Handler::default()).call(request))
}

/// Polls a request until it is answered. Returns the response and the number of polls.
fn finish(mut request: Spawn<ResponseFuture<Handler, Script>>) -> (Response<ResponseBody<Full<Bytes>>>, usize) {
    for polls in 1.. {
        match request.poll() {
            std::task::Poll::Ready(response) => return (response.unwrap(), polls),
            std::task::Poll::Pending => assert!(request.is_woken(), "nothing continues the hash"),
        }
    }
    unreachable!()
}

#[tokio::test]
async fn large_body_is_hashed_in_several_polls() {
    for (length, verifying, hashing) in
        [(0, 1, 0), (100 * KIB, 1, 0), (200 * KIB, 1, 1), (256 * KIB, 1, 1), (1024 * KIB, 4, 4)]
    {
        for pieces in [64 * KIB, 1024 * KIB] {
            let (request, _) = forged(length, pieces);
            assert_eq!(finish(start(&KlikitVerifyLayer::new(SECRET), request)).1, verifying, "{length} without a log");
            let (layer, log) = logging();
            let (request, body) = forged(length, pieces);
            let (response, polls) = finish(start(&layer, request));
            assert_eq!((response.status().as_u16(), polls), (403, verifying + hashing), "{length}");
            let digest = only(&log).body_digest().map(BodyDigest::from);
            assert_eq!((digest, only(&log).bytes()), (Some(BodyDigest::of(&body)), length));
        }
    }
}

#[tokio::test]
async fn hashed_body_stays_charged() {
    let log = RejectionLog::new();
    let layer =
        KlikitVerifyLayer::new(SECRET).body_limit(300 * KIB).buffer_budget(300 * KIB).rejection_log(log.clone());
    let in_pieces = || SignedDelivery::new(SECRET, BODY).request_with(|body| Script::chunked(&body, 10));
    let mut request = start(&layer, forged(300 * KIB, 64 * KIB).0);
    // The first poll hashes 256 KiB, and the second one the rest to verify the body.
    assert!(request.poll().is_pending() && request.poll().is_pending());
    rejected(&layer, in_pieces(), RejectionKind::Overloaded).await;
    assert_eq!(finish(request).0.status().as_u16(), 403);
    accepted(&layer, in_pieces()).await;
    assert_eq!(log.recorded(), 2);
}

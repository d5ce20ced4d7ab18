//! What unverified bodies hold together is bounded, and whoever stalls makes room for whoever does not.

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use support::{
    BODY, Handler, SECRET, accepted,
    body::{Script, Step},
    refused,
};
use tokio::time::advance;
use tokio_test::{
    assert_pending, assert_ready_ok,
    task::{self, Spawn},
};
use tower::{Layer, Service};
use tower_klikit::{
    KlikitVerifyLayer, RejectionKind,
    testing::SignedDelivery,
    verify::{ResponseBody, ResponseFuture},
};

const LIMIT: usize = 64 * 1024;
const SENDERS: usize = 64;

/// Room for `SENDERS` bodies of the limit.
fn layer() -> KlikitVerifyLayer {
    KlikitVerifyLayer::new(SECRET).body_limit(LIMIT).buffer_budget(SENDERS * LIMIT)
}

type Pending = Spawn<ResponseFuture<Handler, Script>>;

fn start(layer: &KlikitVerifyLayer, request: Request<Script>) -> Pending {
    let mut future = task::spawn(layer.layer(Handler::default()).call(request));
    assert_pending!(future.poll());
    future
}

/// Sends all but the last byte of a body of the limit, in two pieces, and stops.
fn stalled(layer: &KlikitVerifyLayer) -> Pending {
    let delivery = SignedDelivery::new(SECRET, vec![b' '; LIMIT]);
    let body = delivery.body().slice(..LIMIT - 1);
    start(layer, delivery.request_with(|_| Script::chunked(&body, LIMIT / 2).then(Step::Hang)))
}

fn in_pieces() -> Request<Script> {
    SignedDelivery::new(SECRET, BODY).request_with(|body| Script::chunked(&body, 10))
}

fn in_one_piece() -> Request<Full<Bytes>> {
    SignedDelivery::new(SECRET, BODY).request()
}

fn answer(future: &mut Pending) -> Response<ResponseBody<Full<Bytes>>> {
    assert_ready_ok!(future.poll())
}

fn second() -> Duration {
    Duration::from_secs(1)
}

#[tokio::test(start_paused = true)]
async fn senders_that_stall_do_not_shut_klikit_out() {
    let layer = layer();
    let mut stalled: Vec<_> = (0..SENDERS).map(|_| stalled(&layer)).collect();
    advance(second()).await;
    accepted(&layer, in_pieces()).await;

    assert!(stalled[0].is_woken(), "the first to wait is the first to go");
    let response = answer(&mut stalled[0]);
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    assert!(stalled[1..].iter().all(|other| !other.is_woken()), "one was enough");
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_longest_go_first_and_only_as_many_as_it_takes() {
    let layer = layer();
    let mut waiting = Vec::new();
    for _ in 0..SENDERS {
        waiting.push(stalled(&layer));
        advance(Duration::from_millis(100)).await;
    }
    for round in 0..3 {
        // Each holds what the one before it freed.
        waiting.push(stalled(&layer));
        let woken: Vec<_> = (0..waiting.len()).filter(|&n| waiting[n].is_woken()).collect();
        assert_eq!(woken, (0..=round).collect::<Vec<_>>());
    }
    let _ = answer(&mut waiting[0]);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_is_refused_while_nobody_has_waited_for_a_second() {
    let layer = layer();
    let stalled: Vec<_> = (0..SENDERS).map(|_| stalled(&layer)).collect();
    advance(Duration::from_millis(999)).await;
    let answer = refused(&layer, in_pieces(), RejectionKind::Overloaded).await;
    assert_eq!((answer.status.as_u16(), &*answer.text), (503, r#"{"error":"overloaded"}"#));
    assert!(stalled.iter().all(|other| !other.is_woken()));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_arrives_in_one_piece_needs_no_room() {
    let layer = layer();
    let _stalled: Vec<_> = (0..SENDERS).map(|_| stalled(&layer)).collect();
    accepted(&layer, in_one_piece()).await;
}

#[tokio::test(start_paused = true)]
async fn a_first_piece_that_waits_is_counted() {
    let layer = KlikitVerifyLayer::new(SECRET).buffer_budget(BODY.len());
    let delivery = SignedDelivery::new(SECRET, BODY);
    let request = || delivery.request_with(|body| Script::frames([body]).then(Step::Hang));
    let first = start(&layer, request());
    refused(&layer, request(), RejectionKind::Overloaded).await;
    drop(first);
    let _ = start(&layer, request());
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_refused_or_handed_on_is_given_back() {
    let layer = KlikitVerifyLayer::new(SECRET).body_limit(LIMIT).buffer_budget(LIMIT);
    for _ in 0..3 {
        drop(stalled(&layer));
        accepted(&layer, in_pieces()).await;
        let fails = SignedDelivery::new(SECRET, BODY).request_with(|body| Script::chunked(&body, 9).then(Step::Fail));
        refused(&layer, fails, RejectionKind::BodyUnreadable).await;
        let mut stalled = stalled(&layer);
        advance(10 * second()).await;
        assert_eq!(answer(&mut stalled).status(), StatusCode::REQUEST_TIMEOUT);
        let too_large = SignedDelivery::new(SECRET, vec![0; LIMIT + 1]);
        refused(&layer, too_large.request_with(|body| Script::chunked(&body, 999)), RejectionKind::BodyTooLarge).await;
    }
    // The whole budget is there again.
    let _ = stalled(&layer);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_large_holds_nothing_while_the_rest_is_dropped() {
    let layer = KlikitVerifyLayer::new(SECRET).body_limit(LIMIT).buffer_budget(LIMIT);
    let frames = Script::chunked(&vec![0; LIMIT].into(), LIMIT / 2).then(Step::Wait(second() / 2));
    let too_large = frames.then(Step::Data(vec![0; 2].into())).then(Step::Hang);
    let mut too_large = start(&layer, SignedDelivery::new(SECRET, BODY).request_with(|_| too_large));
    refused(&layer, in_pieces(), RejectionKind::Overloaded).await;
    advance(second() / 2).await;
    assert_pending!(too_large.poll());
    accepted(&layer, in_pieces()).await;
}

#[tokio::test(start_paused = true)]
async fn clones_and_services_share_one_budget() {
    let layer = KlikitVerifyLayer::new(SECRET).body_limit(LIMIT).buffer_budget(LIMIT);
    let _stalled = stalled(&layer.clone());
    refused(&layer.clone().allow_missing_event_id(), in_pieces(), RejectionKind::Overloaded).await;
    accepted(&layer.clone().buffer_budget(LIMIT), in_pieces()).await;
}

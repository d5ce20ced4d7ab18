//! What unverified bodies hold together is bounded, and whoever stalls makes room for whoever does not.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
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

use crate::support::{
    BODY, Handler, SECRET, accepted,
    body::{Script, Step},
    refused,
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
    drop(start(&layer, request()));
}

#[tokio::test(start_paused = true)]
async fn a_first_piece_that_waits_counts_as_a_read_buffer_however_short() {
    const READ_BUFFER: usize = 16 * 1024;
    let layer = KlikitVerifyLayer::new(SECRET).buffer_budget(2 * READ_BUFFER);
    let short =
        || SignedDelivery::new(SECRET, BODY).request_with(|body| Script::chunked(&body, 1).first(1).then(Step::Hang));
    let _waiting = [start(&layer, short()), start(&layer, short())];
    refused(&layer, short(), RejectionKind::Overloaded).await;
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
    drop(stalled(&layer));
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

#[tokio::test(start_paused = true)]
async fn a_body_that_grows_in_small_frames_is_charged_for_all_of_it() {
    let layer = KlikitVerifyLayer::new(SECRET).body_limit(LIMIT).buffer_budget(LIMIT);
    let delivery = SignedDelivery::new(SECRET, vec![b' '; LIMIT]);
    let body = delivery.body().slice(..LIMIT - 1);
    let growing = || delivery.request_with(|_| Script::chunked(&body, LIMIT / 32).then(Step::Hang));
    let _first = start(&layer, growing());
    refused(&layer, growing(), RejectionKind::Overloaded).await;
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_body_waited_with_nothing_counts() {
    let layer = KlikitVerifyLayer::new(SECRET).body_limit(LIMIT).buffer_budget(LIMIT);
    let frames = Script::chunked(&vec![0; LIMIT].into(), LIMIT / 2);
    let late = Script::new([Step::Wait(second())]).followed_by(frames).then(Step::Hang);
    let mut late = start(&layer, SignedDelivery::new(SECRET, BODY).request_with(|_| late));
    advance(second()).await;
    assert_pending!(late.poll());
    accepted(&layer, in_pieces()).await;
    assert_eq!(answer(&mut late).status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_being_polled_is_passed_over_and_can_be_refused_when_it_waits_again() {
    let layer = KlikitVerifyLayer::new(SECRET).body_limit(LIMIT).buffer_budget(2 * LIMIT);
    // The first, while it is polled, sees a newcomer arrive, which holds what it takes from the second.
    let held = Arc::new(Mutex::new(Vec::new()));
    let newcomer = {
        let (layer, held) = (layer.clone(), Arc::clone(&held));
        move || held.lock().unwrap().push(stalled(&layer))
    };
    let frames = Script::chunked(&vec![0; LIMIT].into(), LIMIT / 2);
    let steps = [Step::Wait(second()), Step::deed(newcomer), Step::Hang];
    let first = frames.followed_by(Script::new(steps));
    let mut first = start(&layer, SignedDelivery::new(SECRET, BODY).request_with(|_| first));
    let mut second_one = stalled(&layer);
    advance(second()).await;
    assert_pending!(first.poll());
    assert_eq!(held.lock().unwrap().len(), 1);
    assert_eq!(answer(&mut second_one).status(), StatusCode::SERVICE_UNAVAILABLE);

    accepted(&layer, in_pieces()).await;
    assert_eq!(answer(&mut first).status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_body_that_fits_the_budget_alone_is_accepted() {
    for (length, budget) in [(360_000, 700_000), (6000, 10_000), (10_000, 10_000)] {
        let layer = KlikitVerifyLayer::new(SECRET).buffer_budget(budget);
        let delivery = SignedDelivery::new(SECRET, vec![b' '; length]);
        accepted(&layer, delivery.request_with(|body| Script::chunked(&body, length / 2))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_left_over_after_many_senders_on_many_threads() {
    let layer = KlikitVerifyLayer::new(SECRET).body_limit(LIMIT).buffer_budget(4 * LIMIT);
    let delivery = SignedDelivery::new(SECRET, vec![b' '; LIMIT]);
    let senders = (0..400).map(|n| {
        let body = Script::chunked(delivery.body(), 1000 + n);
        let waits = (0..n % 7).fold(Script::new([]), |script, _| script.then(Step::Yield));
        let service = layer.layer(Handler::default());
        let request = delivery.request_with(|_| waits.followed_by(body));
        tokio::spawn(async move {
            let mut call = pin!(tower::ServiceExt::oneshot(service, request));
            // Some leave before their answer.
            for _ in 0..n % 5 {
                if futures_util::poll!(&mut call).is_ready() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            if n % 3 == 0 {
                let _ = call.await;
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    // The whole budget is there again.
    let all: Vec<_> = (0..4).map(|_| stalled(&layer)).collect();
    drop(all);
}

//! The buffer budget limits the memory of all unverified bodies together. If it is used up, a newcomer evicts other
//! bodies.

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
    rejected,
};

const LIMIT: usize = 64 * 1024;
const SENDERS: usize = 64;
/// The smallest charge, in bytes.
const KIB: usize = 1024;

/// Returns a layer whose budget is used up by this many bodies of the limit.
fn layer(bodies: usize) -> KlikitVerifyLayer {
    KlikitVerifyLayer::new(SECRET).body_limit(LIMIT).buffer_budget(bodies * LIMIT)
}

/// The indices if no body was evicted.
const NONE: [usize; 0] = [];

type Pending = Spawn<ResponseFuture<Handler, Script>>;

/// Sends a body that the layer has to wait for.
fn start(layer: &KlikitVerifyLayer, script: Script) -> Pending {
    let request = SignedDelivery::new(SECRET, BODY).request_with(|_| script);
    let mut future = task::spawn(layer.layer(Handler::default()).call(request));
    assert_pending!(future.poll());
    future
}

/// Returns all but the last byte of a body of the limit, in two pieces.
fn all_but_a_byte() -> Script {
    Script::chunked(&vec![b' '; LIMIT - 1].into(), LIMIT / 2)
}

/// Sends all but the last byte of a body of the limit, and stops.
fn stalled(layer: &KlikitVerifyLayer) -> Pending {
    start(layer, all_but_a_byte().then(Step::Hang))
}

/// Returns a genuine delivery in pieces that arrive at once.
fn in_pieces() -> Request<Script> {
    SignedDelivery::new(SECRET, BODY).request_with(|body| Script::chunked(&body, 10))
}

/// Returns the indices of the bodies that were evicted, whose tasks were woken.
fn evicted(bodies: &[Pending]) -> Vec<usize> {
    (0..bodies.len()).filter(|&n| bodies[n].is_woken()).collect()
}

fn response(future: &mut Pending) -> Response<ResponseBody<Full<Bytes>>> {
    assert_ready_ok!(future.poll())
}

#[track_caller]
fn assert_evicted(future: &mut Pending) {
    let response = response(future);
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn newcomer_evicts_a_waiting_body_of_any_age() {
    let layer = layer(SENDERS);
    let mut stalled: Vec<_> = (0..SENDERS).map(|_| stalled(&layer)).collect();
    accepted(&layer, in_pieces()).await;

    let [evicted] = evicted(&stalled)[..] else { panic!("{:?} were evicted", evicted(&stalled)) };
    assert_pending!(stalled[evicted].poll(), "the rest was not read for a second");
    advance(seconds(1)).await;
    assert_evicted(&mut stalled[evicted]);
}

#[tokio::test(start_paused = true)]
async fn each_newcomer_evicts_no_more_than_it_needs() {
    let layer = layer(SENDERS);
    let mut waiting: Vec<_> = (0..SENDERS).map(|_| stalled(&layer)).collect();
    for round in 1..=3 {
        waiting.push(stalled(&layer));
        assert_eq!(evicted(&waiting).len(), round);
    }
}

#[tokio::test(start_paused = true)]
async fn evicted_sender_sees_the_response_at_its_end() {
    let layer = layer(1);
    let rest = [Step::Wait(seconds(1) / 2), Step::Data(vec![b' '; LIMIT / 2].into())];
    let mut writing = start(&layer, Script::frames([vec![b' '; LIMIT / 2].into()]).followed_by(Script::new(rest)));
    let _newcomer = stalled(&layer);
    assert!(writing.is_woken());
    assert_pending!(writing.poll());
    advance(seconds(1) / 2).await;
    assert_evicted(&mut writing);
}

#[tokio::test(start_paused = true)]
async fn body_over_the_budget_is_rejected_at_its_end() {
    let layer = KlikitVerifyLayer::new(SECRET).body_limit(LIMIT).buffer_budget(LIMIT / 4);
    let mut waiting = start(&layer, Script::chunked(&vec![b' '; LIMIT / 4].into(), LIMIT / 8).then(Step::Hang));
    let too_large = all_but_a_byte().followed_by(Script::new([Step::Wait(seconds(1) / 2)]));
    let mut too_large = start(&layer, too_large);
    advance(seconds(1) / 2).await;
    assert_evicted(&mut too_large);
    advance(seconds(10)).await;
    assert_eq!(response(&mut waiting).status(), StatusCode::REQUEST_TIMEOUT, "it was evicted in vain");
}

#[tokio::test(start_paused = true)]
async fn body_in_one_piece_needs_no_budget() {
    let layer = layer(SENDERS);
    let stalled: Vec<_> = (0..SENDERS).map(|_| stalled(&layer)).collect();
    accepted(&layer, SignedDelivery::new(SECRET, BODY).request::<Full<Bytes>>()).await;
    assert_eq!(evicted(&stalled), NONE);
}

#[tokio::test(start_paused = true)]
async fn budget_of_the_body_limit_takes_a_body_in_pieces() {
    for (length, pieces) in [(LIMIT, 2), (LIMIT, 3), (LIMIT, 16), (LIMIT - 1, 5), (2 * KIB, 2), (10, 10)] {
        let layer = KlikitVerifyLayer::new(SECRET).body_limit(length).buffer_budget(length);
        let delivery = SignedDelivery::new(SECRET, vec![b' '; length]);
        let piece = length.div_ceil(pieces);
        for wait in [Duration::ZERO, Duration::from_millis(2), seconds(2) / 16] {
            accepted(&layer, delivery.request_with(|body| Script::trickle(&body, piece, wait))).await;
            accepted(&layer, delivery.request_with(|body| Script::chunked(&body, piece))).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_byte_is_charged_a_kibibyte() {
    for frames in [1, 2] {
        let layer = KlikitVerifyLayer::new(SECRET).buffer_budget(3 * KIB);
        let byte = |_| start(&layer, Script::chunked(&vec![b' '; frames].into(), 1).then(Step::Hang));
        let mut waiting: Vec<_> = (0..3).map(byte).collect();
        assert_eq!(evicted(&waiting), NONE);
        waiting.push(byte(3));
        assert_eq!(evicted(&waiting).len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_piece_is_charged_for_its_length() {
    let layer = KlikitVerifyLayer::new(SECRET).buffer_budget(600_000);
    let piece = |length: usize| start(&layer, Script::frames([vec![b' '; length].into()]).then(Step::Hang));
    let waiting = [piece(100_000), piece(200_000), piece(300_000)];
    assert_eq!(evicted(&waiting), NONE);
    let _newcomer = piece(1);
    assert_eq!(evicted(&waiting), [2], "the largest was not evicted");
}

#[tokio::test(start_paused = true)]
async fn announced_length_bounds_the_charge() {
    let layer = KlikitVerifyLayer::new(SECRET).buffer_budget(120_000);
    let announced = |length: usize| {
        let delivery =
            SignedDelivery::new(SECRET, vec![b' '; length]).header(header::CONTENT_LENGTH, length.to_string());
        let script = |body: Bytes| Script::trickle(&body, 25_000, seconds(1)).then(Step::Hang);
        let mut future = task::spawn(layer.layer(Handler::default()).call(delivery.request_with(script)));
        assert_pending!(future.poll());
        future
    };
    let mut waiting = [announced(60_000), announced(60_000)];
    for _ in 0..3 {
        advance(seconds(1)).await;
        waiting.iter_mut().for_each(|body| drop(body.poll()));
    }
    assert_eq!(evicted(&waiting), NONE, "the charge exceeds the announced length");
}

#[tokio::test(start_paused = true)]
async fn waiting_piece_frees_its_read_buffer() {
    let read_buffer = Arc::new(vec![b' '; LIMIT]);
    struct ReadBuffer(Arc<Vec<u8>>);
    impl AsRef<[u8]> for ReadBuffer {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let piece = Bytes::from_owner(ReadBuffer(Arc::clone(&read_buffer))).slice(..LIMIT / 2);
    let _waiting = start(&layer(1), Script::frames([piece]).then(Step::Hang));
    assert_eq!(Arc::strong_count(&read_buffer), 1);
}

#[tokio::test(start_paused = true)]
async fn charge_is_released_however_a_body_ends() {
    let layer = layer(1);
    for _ in 0..3 {
        drop(stalled(&layer));
        accepted(&layer, in_pieces()).await;
        let fails = SignedDelivery::new(SECRET, BODY).request_with(|body| Script::chunked(&body, 9).then(Step::Fail));
        rejected(&layer, fails, RejectionKind::BodyUnreadable).await;
        let mut stalled = stalled(&layer);
        advance(seconds(10)).await;
        assert_eq!(response(&mut stalled).status(), StatusCode::REQUEST_TIMEOUT);
        let too_large = SignedDelivery::new(SECRET, vec![0; LIMIT + 1]);
        rejected(&layer, too_large.request_with(|body| Script::chunked(&body, 999)), RejectionKind::BodyTooLarge).await;
        let evicted = self::stalled(&layer);
        let newcomer = self::stalled(&layer);
        assert!(evicted.is_woken() && !newcomer.is_woken());
    }
    // The whole budget is free, or this body would not wait until its deadline.
    let mut stalled = stalled(&layer);
    advance(seconds(10)).await;
    assert_eq!(response(&mut stalled).status(), StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn too_large_body_holds_nothing_while_drained() {
    let layer = layer(2);
    let steps = [Step::Wait(seconds(1) / 2), Step::Data(vec![0; 2].into()), Step::Hang];
    let mut too_large = start(&layer, all_but_a_byte().followed_by(Script::new(steps)));
    let other = stalled(&layer);
    advance(seconds(1) / 2).await;
    assert_pending!(too_large.poll());
    accepted(&layer, in_pieces()).await;
    assert!(!other.is_woken());
}

#[tokio::test(start_paused = true)]
async fn clones_and_services_share_one_budget() {
    let layer = layer(1);
    let first = stalled(&layer.clone());
    accepted(&layer.clone().buffer_budget(LIMIT), in_pieces()).await;
    assert!(!first.is_woken(), "a layer with its own budget evicted it");
    accepted(&layer.clone().allow_missing_event_id(), in_pieces()).await;
    assert!(first.is_woken());
}

#[tokio::test(start_paused = true)]
async fn body_in_small_frames_is_charged_for_all() {
    let layer = layer(1);
    let small_frames = Script::chunked(&vec![b' '; LIMIT - 1].into(), LIMIT / 32);
    let first = start(&layer, small_frames.then(Step::Hang));
    accepted(&layer, in_pieces()).await;
    assert!(first.is_woken());
}

#[tokio::test(start_paused = true)]
async fn polled_body_is_evicted_once_it_waits() {
    let layer = layer(2);
    // A newcomer arrives while the first body is being polled, and evicts the second body, which is waiting.
    let held = Arc::new(Mutex::new(Vec::new()));
    let newcomer = {
        let (layer, held) = (layer.clone(), Arc::clone(&held));
        move || held.lock().unwrap().push(stalled(&layer))
    };
    let steps = [Step::Wait(seconds(2)), Step::call(newcomer), Step::Hang];
    let mut first = start(&layer, all_but_a_byte().followed_by(Script::new(steps)));
    advance(seconds(1)).await;
    let second = stalled(&layer);
    advance(seconds(1)).await;
    assert_pending!(first.poll());
    assert_eq!(held.lock().unwrap().len(), 1);
    assert!(second.is_woken());

    accepted(&layer, in_pieces()).await;
    assert!(first.is_woken(), "the body that waited longest was not evicted");
}

#[tokio::test(start_paused = true)]
async fn stalled_body_is_evicted_before_a_growing_one() {
    let layer = KlikitVerifyLayer::new(SECRET).buffer_budget(20 * KIB);
    let stalled = start(&layer, Script::frames([vec![b' '; 2 * KIB].into()]).then(Step::Hang));
    let piece = |n| [Step::Wait(seconds(1) * u32::from(n > 0)), Step::Data(vec![b' '; KIB].into())];
    let mut growing = start(&layer, Script::new((0..8).flat_map(piece)).then(Step::Hang));
    for _ in 1..8 {
        advance(seconds(1)).await;
        assert_pending!(growing.poll());
    }
    let _newcomer = start(&layer, Script::frames([vec![b' '; 5 * KIB].into()]).then(Step::Hang));
    assert!(stalled.is_woken() && !growing.is_woken());
}

#[tokio::test]
async fn body_that_fits_the_budget_alone_is_accepted() {
    for (length, budget) in [(360_000, 700_000), (360_000, 360_000), (6000, 10_000), (10_000, 10_000)] {
        let layer = KlikitVerifyLayer::new(SECRET).buffer_budget(budget);
        let delivery = SignedDelivery::new(SECRET, vec![b' '; length]);
        accepted(&layer, delivery.request_with(|body| Script::chunked(&body, length / 2))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_senders_on_many_threads_leave_nothing_charged() {
    let layer = layer(4);
    let delivery = SignedDelivery::new(SECRET, vec![b' '; LIMIT]);
    let senders = (0..400).map(|n| {
        let body = Script::chunked(delivery.body(), 1000 + n);
        let waits = (0..n % 7).fold(Script::new([]), |script, _| script.then(Step::Yield));
        let service = layer.layer(Handler::default());
        let request = delivery.request_with(|_| body.first(n % 9).followed_by(waits));
        tokio::spawn(async move {
            let mut call = pin!(tower::ServiceExt::oneshot(service, request));
            // Some senders disconnect before the response.
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
    let stalled: Vec<_> = (0..4).map(|_| stalled(&layer)).collect();
    assert_eq!(evicted(&stalled), NONE, "a part of the budget is still charged");
}

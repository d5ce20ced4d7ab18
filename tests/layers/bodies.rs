//! Reading a body: all ways in which a body can arrive, fail, stall, or be too long.

use std::{convert::Infallible, future::Future, pin::pin, task::Poll, time::Duration};

use bytes::{Buf, Bytes};
use futures_util::task::noop_waker;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_klikit::{
    Keyring, KlikitVerifyLayer, RejectionKind, VerifiedBody, WebhookSecret, header::EVENT_ID, testing::SignedDelivery,
};

use crate::support::{
    BODY, Handler, SECRET, accepted,
    body::{Script, Step},
    rejected, send,
};

const LIMIT: usize = 1000;

fn layer() -> KlikitVerifyLayer {
    KlikitVerifyLayer::new(SECRET).body_limit(LIMIT)
}

fn delivery() -> SignedDelivery {
    SignedDelivery::new(SECRET, BODY)
}

fn signed_spaces(length: usize) -> SignedDelivery {
    SignedDelivery::new(SECRET, vec![b' '; length])
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn accepts_body_in_frames_of_any_size() {
    for size in [1, 7, BODY.len() - 1, BODY.len()] {
        let seen = accepted(&layer(), delivery().request_with(|body| Script::chunked(&body, size))).await;
        assert_eq!(seen.bytes, BODY);
        assert_eq!(seen.headers[header::CONTENT_LENGTH], *BODY.len().to_string());
    }
}

#[tokio::test]
async fn ignores_empty_frames_waits_and_trailers() {
    let steps = [
        Step::Data(Bytes::new()),
        Step::Data(BODY[..20].into()),
        Step::Yield,
        Step::Data(Bytes::new()),
        Step::Data(BODY[20..].into()),
        Step::Trailers,
    ];
    let seen = accepted(&layer(), delivery().request_with(|_| Script::new(steps))).await;
    assert_eq!(seen.bytes, BODY);
    assert_ne!(seen.headers[EVENT_ID], "forged");
}

#[tokio::test]
async fn accepts_signed_empty_body() {
    let empty = SignedDelivery::new(SECRET, "");
    for frames in [vec![], vec![Bytes::new()]] {
        assert!(accepted(&layer(), empty.request_with(|_| Script::frames(frames))).await.bytes.is_empty());
    }
    rejected(&layer(), delivery().request_with(|_| Script::new([])), RejectionKind::SignatureMismatch).await;
}

#[tokio::test]
async fn body_in_one_frame_is_not_copied() {
    let body = Bytes::from(BODY.to_owned());
    let steps = [Step::Data(Bytes::new()), Step::Yield, Step::Data(body.clone()), Step::Trailers];
    let seen = accepted(&layer(), delivery().request_with(|_| Script::new(steps))).await;
    assert_eq!(seen.bytes.as_ptr(), body.as_ptr());
}

#[tokio::test]
async fn accepts_any_type_of_buffer() {
    let (head, tail) = BODY.split_at(10);
    let chained = Bytes::from(head).chain(Bytes::from(tail));
    let body = Full::new(chained);
    assert_eq!(accepted(&layer(), delivery().request_with(|_| body)).await.bytes, BODY);
}

#[tokio::test]
async fn accepts_binary_body() {
    let bytes: Vec<u8> = (0..=255).collect();
    let delivery = SignedDelivery::new(SECRET, bytes.clone());
    assert_eq!(accepted(&layer(), delivery.request_with(|body| Script::chunked(&body, 100))).await.bytes, bytes);
}

#[tokio::test]
async fn accepts_body_of_exactly_the_limit() {
    for size in [1, 64, LIMIT + 1] {
        let chunked = |length| signed_spaces(length).request_with(|body| Script::chunked(&body, size));
        assert_eq!(accepted(&layer(), chunked(LIMIT)).await.bytes.len(), LIMIT);
        let answer = rejected(&layer(), chunked(LIMIT + 1), RejectionKind::BodyTooLarge).await;
        assert_eq!((answer.status, &*answer.text), (StatusCode::PAYLOAD_TOO_LARGE, r#"{"error":"body too large"}"#));
    }
}

#[tokio::test]
async fn forged_large_body_is_rejected_as_too_large() {
    let forged = signed_spaces(LIMIT + 1).altered();
    rejected(&layer(), forged.request_with(|body| Script::chunked(&body, 100)), RejectionKind::BodyTooLarge).await;
}

#[tokio::test]
async fn drains_large_body_up_to_twice_the_limit() {
    let body = Script::chunked(&vec![b' '; 2 * LIMIT].into(), 100);
    let polls = body.polls();
    rejected(&layer(), signed_spaces(LIMIT).request_with(|_| body), RejectionKind::BodyTooLarge).await;
    assert_eq!(polls.count(), 21, "expected 20 frames and the end");

    let endless = Script::endless(vec![Step::Data(vec![b' '; 100].into())]);
    let polls = endless.polls();
    rejected(&layer(), signed_spaces(LIMIT).request_with(|_| endless), RejectionKind::BodyTooLarge).await;
    assert_eq!(polls.count(), 21, "expected 20 frames and one frame too many");
}

#[tokio::test]
async fn drains_body_with_announced_length_over_limit() {
    let announced = signed_spaces(LIMIT + 1);
    let body = Script::chunked(announced.body(), 100);
    let polls = body.polls();
    let mut request = announced.request_with(|_| body);
    request.headers_mut().insert(header::CONTENT_LENGTH, (LIMIT + 1).into());
    rejected(&layer(), request, RejectionKind::BodyTooLarge).await;
    assert_eq!(polls.count(), 12, "expected 11 frames and the end");
}

#[tokio::test]
async fn rejects_huge_announced_length_at_once() {
    for length in ["2001", "1099511627776", "18446744073709551615", "18446744073709551616", "99999999999999999999999"] {
        let body = Script::endless(vec![Step::Data(vec![b' '; 100].into())]).announcing(u64::MAX);
        let polls = body.polls();
        let request = delivery().header(header::CONTENT_LENGTH, length).request_with(|_| body);
        rejected(&layer(), request, RejectionKind::BodyTooLarge).await;
        assert_eq!(polls.count(), 0, "for {length}");
    }
}

#[tokio::test]
async fn ignores_wrong_announced_length() {
    for length in ["0", "1", "900", "nonsense", ""] {
        let request = delivery().header(header::CONTENT_LENGTH, length).request_with(|body| Script::chunked(&body, 9));
        assert_eq!(accepted(&layer(), request).await.bytes, BODY, "for {length}");
    }
    let hint = delivery().request_with(|body| Script::chunked(&body, 9).announcing(u64::MAX));
    assert_eq!(accepted(&layer(), hint).await.bytes, BODY);
}

#[tokio::test]
async fn rejects_body_that_fails() {
    let all = Step::Data(BODY.into());
    for steps in [
        vec![Step::Fail],
        vec![Step::Data(BODY[..9].into()), Step::Fail],
        vec![all.clone(), Step::Fail],
        vec![all, Step::Yield, Step::Trailers, Step::Fail],
    ] {
        let request = delivery().request_with(|_| Script::new(steps));
        let answer = rejected(&layer(), request, RejectionKind::BodyUnreadable).await;
        assert_eq!((answer.status, &*answer.text), (StatusCode::BAD_REQUEST, r#"{"error":"body unreadable"}"#));
    }
}

#[tokio::test]
async fn rejects_body_that_fails_after_its_end_hint() {
    let ends_early =
        delivery().request_with(|body| Script::frames([body]).then(Step::Yield).then(Step::Fail).ending_early());
    rejected(&layer(), ends_early, RejectionKind::BodyUnreadable).await;
}

#[tokio::test]
async fn error_of_body_is_source_of_rejection() {
    let layer = layer().on_rejection(|rejection| {
        let source = std::error::Error::source(rejection).expect("the rejection has a source").to_string();
        Response::builder().status(400).body(source.into()).unwrap()
    });
    let (answer, _) = send(&layer, delivery().request_with(|_| Script::new([Step::Fail]))).await;
    assert_eq!(answer.text, "the connection broke");
}

#[tokio::test(start_paused = true)]
async fn rejects_slow_body_at_the_deadline() {
    let started = Instant::now();
    let trickle = signed_spaces(100).request_with(|body| Script::trickle(&body, 1, Duration::from_millis(500)));
    let answer = rejected(&layer(), trickle, RejectionKind::BodyTimeout).await;
    assert_eq!((answer.status, &*answer.text), (StatusCode::REQUEST_TIMEOUT, r#"{"error":"body too slow"}"#));
    assert_eq!(started.elapsed().as_secs(), 10);

    let started = Instant::now();
    let hanging = delivery().request_with(|_| Script::new([Step::Hang]));
    rejected(&layer().body_deadline(seconds(3)), hanging, RejectionKind::BodyTimeout).await;
    assert_eq!(started.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn zero_deadline_ends_at_first_wait() {
    let layer = layer().body_deadline(Duration::ZERO);
    let waiting = delivery().request_with(|_| Script::new([Step::Hang]));
    let mut future = tokio_test::task::spawn(layer.layer(Handler::default()).call(waiting));
    let response = tokio_test::assert_ready_ok!(future.poll());
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    accepted(&layer, delivery().request_with(|body| Script::chunked(&body, 5))).await;
}

#[tokio::test(start_paused = true)]
async fn rejects_slow_forged_body_at_its_end() {
    let slow = delivery().altered().request_with(|body| Script::trickle(&body, 10, seconds(1)));
    rejected(&layer(), slow, RejectionKind::SignatureMismatch).await;
}

#[tokio::test(start_paused = true)]
async fn accepts_slow_body_within_the_deadline() {
    let trickle = delivery().request_with(|body| Script::trickle(&body, 5, Duration::from_millis(900)));
    assert_eq!(accepted(&layer(), trickle).await.bytes, BODY);
}

#[tokio::test(start_paused = true)]
async fn rejects_complete_body_without_end() {
    let never_ended = delivery().request_with(|_| Script::new([Step::Data(BODY.into()), Step::Hang]));
    rejected(&layer(), never_ended, RejectionKind::BodyTimeout).await;
}

/// Uses the real clock, because a paused clock does not advance while a task is ready, and this body is always ready.
#[tokio::test]
async fn endless_empty_frames_end_at_the_deadline() {
    let endless = delivery().request_with(|_| Script::endless(vec![Step::Data(Bytes::new())]));
    let layer = layer().body_deadline(Duration::from_millis(20));
    rejected(&layer, endless, RejectionKind::BodyTimeout).await;
}

#[tokio::test]
async fn yields_after_64_frames() {
    let body = Script::endless(vec![Step::Data(Bytes::new())]);
    let polls = body.polls();
    let mut future = tokio_test::task::spawn(layer().layer(Handler::default()).call(delivery().request_with(|_| body)));
    for round in 1..=3 {
        assert!(future.poll().is_pending() && future.is_woken());
        assert_eq!(polls.count(), 64 * round);
    }
}

#[tokio::test(start_paused = true)]
async fn drains_large_body_for_a_second() {
    let cases = [
        vec![Step::Data(vec![0; LIMIT + 1].into()), Step::Hang],
        // The limit is exceeded after the timer was started.
        vec![Step::Data(vec![0; 10].into()), Step::Wait(seconds(5)), Step::Data(vec![0; LIMIT].into()), Step::Hang],
        // The deadline ends before the second.
        vec![Step::Wait(Duration::from_millis(9500)), Step::Data(vec![0; LIMIT + 1].into()), Step::Hang],
    ];
    for (steps, elapsed) in cases.into_iter().zip([1000, 6000, 10_000]) {
        let started = Instant::now();
        let request = delivery().request_with(|_| Script::new(steps));
        rejected(&layer(), request, RejectionKind::BodyTooLarge).await;
        assert_eq!(started.elapsed().as_millis(), elapsed);
    }
}

#[tokio::test(start_paused = true)]
async fn drains_announced_large_body_for_a_second() {
    let started = Instant::now();
    let mut request = delivery().request_with(|_| Script::new([Step::Hang]));
    request.headers_mut().insert(header::CONTENT_LENGTH, (LIMIT + 1).into());
    rejected(&layer(), request, RejectionKind::BodyTooLarge).await;
    assert_eq!(started.elapsed(), seconds(1));
}

#[test]
fn complete_body_needs_no_runtime() {
    let handler = Handler::default();
    let request = delivery().request_with(|body| Script::chunked(&body, 5));
    let mut future = pin!(layer().layer(handler.clone()).call(request));
    let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut std::task::Context::from_waker(&noop_waker())) else {
        panic!("the complete body was not verified at the first poll");
    };
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(handler.seen().len(), 1);
}

#[tokio::test]
async fn debug_of_verified_body_shows_only_length() {
    let printing = service_fn(async |request: Request<VerifiedBody>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(format!("{request:?}"))))
    });
    let request = SignedDelivery::new(SECRET, BODY).request::<Full<Bytes>>();
    let response = KlikitVerifyLayer::new(SECRET).layer(printing).oneshot(request).await.unwrap();
    let printed = response.into_body().collect().await.unwrap().to_bytes();
    let printed = str::from_utf8(&printed).unwrap();
    assert!(printed.contains(&format!("{} bytes", BODY.len())) && !printed.contains("brand_id"), "{printed}");
}

/// Returns a layer with 8 secrets, which tries [`SECRET`] last.
fn layer_with_8_secrets() -> KlikitVerifyLayer {
    let secret = |text: &str| WebhookSecret::new(text).unwrap();
    let keyring = Keyring::new("warung", "last", secret(SECRET));
    for id in ["7", "6", "5", "4", "3", "2", "1"] {
        keyring.add(id, secret(&format!("secret-{id}"))).unwrap();
    }
    KlikitVerifyLayer::with_keyring(keyring)
}

/// Sends a request whose body is complete at once. Returns the status and the number of polls.
fn polls(layer: &KlikitVerifyLayer, request: Request<Script>) -> (StatusCode, usize) {
    let mut response = tokio_test::task::spawn(layer.layer(Handler::default()).oneshot(request));
    for polls in 1.. {
        if let Poll::Ready(response) = response.poll() {
            return (response.unwrap().status(), polls);
        }
        assert!(response.is_woken(), "the request was not woken after {polls} polls");
    }
    unreachable!()
}

#[tokio::test(start_paused = true)]
async fn one_poll_hashes_a_bounded_number_of_bytes() {
    const KIB: usize = 1024;
    let (one, eight) = (KlikitVerifyLayer::new(SECRET), layer_with_8_secrets());
    for (layer, length, expected) in [
        (&one, 256 * KIB, 1),
        (&one, 256 * KIB + 1, 2),
        (&one, KIB * KIB, 4),
        (&eight, 32 * KIB, 1),
        (&eight, 256 * KIB, 8),
        (&eight, 300 * KIB, 10),
        (&eight, KIB * KIB, 32),
    ] {
        let genuine = signed_spaces(length);
        let forged = SignedDelivery::new("forger", genuine.body().to_vec());
        for (delivery, status) in [(genuine, StatusCode::OK), (forged, StatusCode::FORBIDDEN)] {
            let (answer, polls) = polls(layer, delivery.request_with(|body| Script::frames([body])));
            assert_eq!((answer, polls), (status, expected), "{length} bytes");
        }
    }
}

#[tokio::test]
async fn hashes_all_parts_of_large_body() {
    let layer = layer_with_8_secrets();
    for length in [32 * 1024 + 1, 100_000, 262_143, 262_145, 1_000_000] {
        let body: Vec<u8> = (0..=250).cycle().take(length).collect();
        let delivery = SignedDelivery::new(SECRET, body.clone());
        for size in [1000, 4096, 99_999, length] {
            let seen = accepted(&layer, delivery.request_with(|body| Script::chunked(&body, size))).await;
            assert_eq!((seen.bytes, seen.delivery.secret_id()), (Bytes::from(body.clone()), "last"));
        }
        for index in [0, length / 2, length - 1] {
            let mut altered = body.clone();
            altered[index] ^= 1;
            let request = delivery.request_with(|_| Script::chunked(&altered.into(), 4096));
            rejected(&layer, request, RejectionKind::SignatureMismatch).await;
        }
    }
}

/// The deadline limits only the time in which the body arrives.
#[tokio::test(start_paused = true)]
async fn hashing_does_not_count_against_the_deadline() {
    let request = signed_spaces(1_000_000).request_with(|body| Script::new([Step::Yield, Step::Data(body)]));
    let mut response = tokio_test::task::spawn(layer_with_8_secrets().layer(Handler::default()).oneshot(request));
    assert!(response.poll().is_pending() && response.poll().is_pending());
    tokio::time::advance(seconds(60)).await;
    let answer = loop {
        if let Poll::Ready(answer) = response.poll() {
            break answer.unwrap();
        }
    };
    assert_eq!(answer.status(), StatusCode::OK);
}

//! Deliveries with a timestamped signature, whose envelope names the event.
#![cfg(feature = "payload")]

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use tower_klikit::{
    EventType, Keyring, KlikitVerifyLayer, RejectionKind, WebhookSecret,
    header::{EVENT_ID, SIGNATURE},
    payload::{OrderEvent, TimestampedEvent},
    testing::SignedDelivery,
};

use crate::support::{BODY, SECRET, accepted, rejected, send};

const MINUTE: Duration = Duration::from_secs(60);

fn layer() -> KlikitVerifyLayer {
    KlikitVerifyLayer::new(SECRET).accept_timestamped(5 * MINUTE)
}

fn signed(at: SystemTime) -> SignedDelivery {
    SignedDelivery::timestamped(SECRET, at, "evt-1", EventType::OrderStatusUpdated, BODY)
}

fn now() -> SystemTime {
    SystemTime::now()
}

fn request(delivery: &SignedDelivery) -> http::Request<Full<Bytes>> {
    delivery.request()
}

#[tokio::test]
async fn rejects_timestamped_signature_by_default() {
    let answer =
        rejected(&KlikitVerifyLayer::new(SECRET), request(&signed(now())), RejectionKind::MalformedSignature).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn takes_id_and_type_from_envelope() {
    let at = now();
    let seen = accepted(&layer(), request(&signed(at))).await;
    assert_eq!(seen.event_id.unwrap().as_str(), "evt-1");
    assert_eq!(seen.delivery.event_id().unwrap().as_str(), "evt-1");
    assert_eq!(seen.delivery.event_type(), Some(&EventType::OrderStatusUpdated));
    let signed_at = seen.delivery.signed_at().unwrap();
    assert!(signed_at <= at && signed_at + Duration::from_secs(1) > at);
    assert_eq!(seen.bytes, signed(at).body());

    let event = TimestampedEvent::from_bytes(&seen.bytes).unwrap();
    assert_eq!((event.event_id().as_deref(), event.business_id()), (Some("evt-1"), Some(737)));
    assert_eq!(event.event_type().as_deref(), Some("klikit.order.status.updated"));
    assert_eq!(event.created_at().as_deref(), Some("2026-05-01T00:00:00Z"));
    assert_eq!(event.event_version().map(|version| version.get()), Some("\"v2\""));
    let payload: OrderEvent = event.payload().unwrap();
    assert_eq!((payload.branch_id, payload.orders[0].id()), (2, Some(42.into())));
}

#[tokio::test]
async fn accepts_current_signature_too() {
    let seen = accepted(&layer(), request(&SignedDelivery::new(SECRET, BODY))).await;
    assert_eq!(seen.delivery.signed_at(), None);
    assert_eq!(seen.delivery.event_type(), Some(&EventType::OrderCreated));
}

#[tokio::test]
async fn tolerance_applies_to_past_and_future() {
    for minutes in [1, 4] {
        accepted(&layer(), request(&signed(now() - minutes * MINUTE))).await;
        accepted(&layer(), request(&signed(now() + minutes * MINUTE))).await;
    }
    for minutes in [6, 600] {
        for time in [now() - minutes * MINUTE, now() + minutes * MINUTE] {
            let answer = rejected(&layer(), request(&signed(time)), RejectionKind::StaleTimestamp).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN);
            assert_eq!(answer.text, r#"{"error":"timestamp out of tolerance"}"#);
        }
    }
}

#[tokio::test]
async fn rejects_changed_time_or_body() {
    let genuine = signed(now());
    let forged = genuine.clone().altered();
    rejected(&layer(), request(&forged), RejectionKind::SignatureMismatch).await;

    // Another time with the same signature.
    let header = request(&genuine).headers()[SIGNATURE].to_str().unwrap().to_owned();
    let (_, signature) = header.split_once(",v1=").unwrap();
    let later = now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 30;
    let moved = genuine.clone().header(SIGNATURE, format!("t={later},v1={signature}"));
    rejected(&layer(), request(&moved), RejectionKind::SignatureMismatch).await;

    // A timestamped signature without its time, and a current signature with a time.
    let plain = genuine.clone().header(SIGNATURE, signature);
    rejected(&layer(), request(&plain), RejectionKind::SignatureMismatch).await;
    let other = SignedDelivery::new(SECRET, BODY);
    let signature = request(&other).headers()[SIGNATURE].to_str().unwrap().to_owned();
    let timestamped = other.header(SIGNATURE, format!("t={later},v1={signature}"));
    rejected(&layer(), request(&timestamped), RejectionKind::SignatureMismatch).await;
}

#[tokio::test]
async fn rejects_other_event_id_in_header() {
    let missing = signed(now()).without_header(&EVENT_ID);
    assert_eq!(accepted(&layer(), request(&missing)).await.event_id.unwrap().as_str(), "evt-1");

    let other = signed(now()).event_id("evt-2");
    let answer = rejected(&layer(), request(&other), RejectionKind::EventIdMismatch).await;
    assert_eq!((answer.status, &*answer.text), (StatusCode::FORBIDDEN, r#"{"error":"invalid event id"}"#));

    let twice = signed(now()).added_header(EVENT_ID, "evt-1");
    rejected(&layer(), request(&twice), RejectionKind::MalformedEventId).await;
}

#[tokio::test]
async fn rejects_signed_body_without_event_id() {
    let secret = WebhookSecret::new(SECRET).unwrap();
    let seconds = now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    for body in ["", "{}", BODY, r#"{"event_id":7}"#, r#"{"event_id":""}"#, r#"{"event_id":"a b"}"#, "[]"] {
        let signature = secret.sign(format!("{seconds}.{body}").as_bytes());
        let delivery = SignedDelivery::new(SECRET, body).header(SIGNATURE, format!("t={seconds},v1={signature}"));
        let answer = rejected(&layer(), request(&delivery), RejectionKind::MalformedEnvelope).await;
        assert_eq!((answer.status, &*answer.text), (StatusCode::BAD_REQUEST, r#"{"error":"invalid envelope"}"#));
    }
}

#[tokio::test]
async fn works_with_any_secret_and_any_frames() {
    let keyring = Keyring::new("warung", "old", WebhookSecret::new("another").unwrap());
    keyring.add("new", WebhookSecret::new(SECRET).unwrap()).unwrap();
    let layer = KlikitVerifyLayer::with_keyring(keyring).accept_timestamped(MINUTE);
    for size in [1, 7, 100, 10_000] {
        let delivery = signed(now());
        let pieces: Vec<_> = delivery.body().chunks(size).map(Bytes::copy_from_slice).collect();
        let request = delivery.request_with(|_| crate::support::body::Script::frames(pieces));
        let (answer, seen) = send(&layer, request).await;
        assert_eq!((answer.status, seen.unwrap().delivery.secret_id()), (StatusCode::OK, "new"));
    }
}

/// A timestamped signature covers `T.body` and a current one covers `body`, so a captured delivery can verify as
/// either.
#[tokio::test]
async fn rejects_timestamp_moved_into_body() {
    let secret = WebhookSecret::new(SECRET).unwrap();
    let keyring = Keyring::new("warung", "old", secret.clone());
    keyring.add("new", WebhookSecret::new("another").unwrap()).unwrap();
    let layer = KlikitVerifyLayer::with_keyring(keyring).accept_timestamped(5 * MINUTE);

    let captured = signed(now() - 600 * MINUTE);
    let header = request(&captured).headers()[SIGNATURE].to_str().unwrap().to_owned();
    let (time, signature) = header.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let body = [time.as_bytes(), b".", captured.body()].concat();
    let moved = SignedDelivery::new(SECRET, body.clone()).header(SIGNATURE, signature);
    let answer = rejected(&layer, request(&moved), RejectionKind::TimestampInBody).await;
    assert_eq!((answer.status, &*answer.text), (StatusCode::FORBIDDEN, r#"{"error":"invalid signature"}"#));
    // Also in frames of one byte.
    let in_bytes = moved.request_with(|body| {
        crate::support::body::Script::frames(body.chunks(1).map(Bytes::copy_from_slice).collect::<Vec<_>>())
    });
    rejected(&layer, in_bytes, RejectionKind::TimestampInBody).await;
    // Also with spellings of the time that the header may not have.
    for time in ["0", "007", "1777777777", "1777777777000", "1777777777.123", "99999999999999999999999", "-1", "+1"] {
        for time in [time.to_owned(), format!(" {time}"), format!("\t\r\n{time} ")] {
            let moved = SignedDelivery::new(SECRET, format!("{time}.{BODY}"));
            rejected(&layer, request(&moved), RejectionKind::TimestampInBody).await;
        }
    }
    rejected(&layer, request(&SignedDelivery::new(SECRET, format!(".{BODY}"))), RejectionKind::TimestampInBody).await;

    // A forged body of this form is a mismatch.
    let forged = SignedDelivery::new("forger", body).request();
    rejected::<Full<Bytes>>(&layer, forged, RejectionKind::SignatureMismatch).await;
    for body in [BODY, " {}", "\n[1.5]", "[]", "", " ", "12", "-", "\"1.\"", "\u{feff}{}", "1,.", "a1."] {
        accepted(&layer, request(&SignedDelivery::new(SECRET, body))).await;
    }
    // A layer that does not accept timestamped signatures does not check the body.
    accepted(&KlikitVerifyLayer::new(SECRET), request(&SignedDelivery::new(SECRET, "1.5"))).await;
}

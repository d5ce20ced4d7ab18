//! Rejections: their reasons, statuses and responses. Most happen before the body is read.

use http::{HeaderName, Request, Response, StatusCode, header};
use tower_klikit::{
    EventType, Keyring, KlikitVerifyLayer, Rejection, RejectionKind, WebhookSecret,
    header::{EVENT_ID, EVENT_TYPE, SIGNATURE},
    testing::SignedDelivery,
};

use crate::support::{BODY, SECRET, accepted, body::Script, rejected, send};

fn layer() -> KlikitVerifyLayer {
    KlikitVerifyLayer::new(SECRET)
}

fn delivery() -> SignedDelivery {
    SignedDelivery::new(SECRET, BODY)
}

/// Asserts that a delivery is rejected without a poll of its body.
async fn rejected_unread(
    layer: &KlikitVerifyLayer,
    delivery: &SignedDelivery,
    kind: RejectionKind,
) -> crate::support::Reply {
    let body = Script::frames([delivery.body().clone()]);
    let polls = body.polls();
    let answer = rejected(layer, delivery.request_with(|_| body), kind).await;
    assert_eq!(polls.count(), 0, "the body was read before {kind:?}");
    answer
}

#[tokio::test]
async fn rejects_malformed_signature_unread() {
    let hex = delivery().request::<Whole>().headers()[SIGNATURE].to_str().unwrap().to_owned();
    let malformed = [
        String::new(),
        hex[..63].to_owned(),
        hex[..62].to_owned(),
        format!("{hex}0"),
        format!("{hex}{hex}"),
        format!("{}z", &hex[..63]),
        format!("sha256={hex}"),
        format!("0x{}", &hex[2..]),
        format!("t=1700000000,v1={hex}"),
        format!("{hex}, {hex}"),
    ];
    for value in malformed {
        let delivery = delivery().header(SIGNATURE, &value);
        let answer = rejected_unread(&layer(), &delivery, RejectionKind::MalformedSignature).await;
        assert_eq!((answer.status.as_u16(), &*answer.text), (403, r#"{"error":"invalid signature"}"#), "{value}");
    }
    let not_ascii = delivery().header(SIGNATURE, [0xff; 64]);
    rejected_unread(&layer(), &not_ascii, RejectionKind::MalformedSignature).await;
    let twice = delivery().added_header(SIGNATURE, &hex);
    rejected_unread(&layer(), &twice, RejectionKind::MalformedSignature).await;
}

#[tokio::test]
async fn rejects_missing_signature_unread() {
    let unsigned = delivery().without_header(&SIGNATURE);
    let answer = rejected_unread(&layer(), &unsigned, RejectionKind::MissingSignature).await;
    assert_eq!((answer.status.as_u16(), &*answer.text), (403, r#"{"error":"missing klikit headers"}"#));
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
}

#[tokio::test]
async fn accepts_upper_case_signature() {
    let hex = delivery().request::<Whole>().headers()[SIGNATURE].to_str().unwrap().to_uppercase();
    accepted(&layer(), delivery().header(SIGNATURE, hex).request::<Whole>()).await;
}

type Whole = http_body_util::Full<bytes::Bytes>;

#[tokio::test]
async fn rejects_any_changed_bit() {
    let genuine = SignedDelivery::new(SECRET, "order");
    for bit in 0..8 * genuine.body().len() {
        let mut body = genuine.body().to_vec();
        body[bit / 8] ^= 1 << (bit % 8);
        let request = genuine.request_with(|_| Whole::from(body));
        let answer = rejected(&layer(), request, RejectionKind::SignatureMismatch).await;
        assert_eq!((answer.status.as_u16(), &*answer.text), (403, r#"{"error":"invalid signature"}"#));
    }
    let signature = genuine.request::<Whole>().headers()[SIGNATURE].as_bytes().to_vec();
    for digit in 0..signature.len() {
        let mut other = signature.clone();
        other[digit] = if other[digit] == b'0' { b'1' } else { b'0' };
        let request = genuine.clone().header(SIGNATURE, other).request::<Whole>();
        rejected(&layer(), request, RejectionKind::SignatureMismatch).await;
    }
}

#[tokio::test]
async fn rejects_bad_event_id_unread() {
    let missing = delivery().without_header(&EVENT_ID);
    let answer = rejected_unread(&layer(), &missing, RejectionKind::MissingEventId).await;
    assert_eq!((answer.status.as_u16(), &*answer.text), (400, r#"{"error":"missing klikit headers"}"#));

    let malformed = [
        delivery().event_id(""),
        delivery().event_id("two words"),
        delivery().event_id("tab\tbed"),
        delivery().event_id("é"),
        delivery().event_id([0xff]),
        delivery().event_id("x".repeat(256)),
        delivery().added_header(EVENT_ID, "another"),
    ];
    for delivery in malformed {
        for layer in [layer(), layer().allow_missing_event_id()] {
            let answer = rejected_unread(&layer, &delivery, RejectionKind::MalformedEventId).await;
            assert_eq!((answer.status.as_u16(), &*answer.text), (400, r#"{"error":"invalid event id"}"#));
        }
    }
}

#[tokio::test]
async fn missing_event_id_can_be_allowed() {
    let seen =
        accepted(&layer().allow_missing_event_id(), delivery().without_header(&EVENT_ID).request::<Whole>()).await;
    assert!(seen.event_id.is_none() && seen.delivery.event_id().is_none());

    let mut stale = delivery().without_header(&EVENT_ID).request::<Whole>();
    stale.extensions_mut().insert(delivery().to_delivery().event_id().unwrap().clone());
    let seen = accepted(&layer().allow_missing_event_id(), stale).await;
    assert!(seen.event_id.is_none(), "the id of another layer was kept");
}

#[tokio::test]
async fn checks_signature_before_event_id() {
    let unsigned_without_id = delivery().without_header(&SIGNATURE).without_header(&EVENT_ID);
    rejected_unread(&layer(), &unsigned_without_id, RejectionKind::MissingSignature).await;
}

#[tokio::test]
async fn delivery_has_id_type_tenant_and_time() {
    let delivery = delivery().event_id("evt-1").event_type(EventType::OrderCartUpdated);
    let before = std::time::SystemTime::now();
    let seen = accepted(&layer(), delivery.request::<Whole>()).await;
    assert_eq!(seen.bytes, BODY);
    assert_eq!(seen.event_id.unwrap().as_str(), "evt-1");
    assert_eq!(seen.delivery.event_id().unwrap().as_str(), "evt-1");
    assert_eq!(seen.delivery.event_type(), Some(&EventType::OrderCartUpdated));
    assert_eq!((seen.delivery.tenant(), seen.delivery.secret_id()), ("default", "default"));
    assert!(seen.delivery.received_at() >= before);
}

#[tokio::test]
async fn accepts_any_event_type() {
    let cases = [
        (delivery().header(EVENT_TYPE, "klikit.order.created.v2"), Some("klikit.order.created.v2")),
        (delivery().header(EVENT_TYPE, "klikit.menu.updated"), Some("klikit.menu.updated")),
        (delivery().without_header(&EVENT_TYPE), None),
        (delivery().header(EVENT_TYPE, ""), None),
        (delivery().header(EVENT_TYPE, [0xff]), None),
        (delivery().added_header(EVENT_TYPE, "klikit.menu.updated"), None),
    ];
    for (delivery, name) in cases {
        let seen = accepted(&layer(), delivery.request::<Whole>()).await;
        assert_eq!(seen.delivery.event_type().map(EventType::as_str), name);
    }
}

#[tokio::test]
async fn verified_request_has_length_and_hides_secrets() {
    let delivery = delivery()
        .header(header::TRANSFER_ENCODING, "chunked")
        .header(header::TRAILER, "x-klikit-event-id")
        .header(header::AUTHORIZATION, "Basic c2VjcmV0")
        .header(HeaderName::from_static("x-request-id"), "7");
    let lengths: [&[&str]; 5] = [&[], &["49"], &["49", "49"], &["12"], &["nonsense"]];
    for given in lengths {
        let delivery = given
            .iter()
            .fold(delivery.clone(), |delivery, length| delivery.added_header(header::CONTENT_LENGTH, length));
        let headers = accepted(&layer(), delivery.request_with(Whole::from)).await.headers;
        assert!(!headers.contains_key(header::TRANSFER_ENCODING) && !headers.contains_key(header::TRAILER));
        let lengths: Vec<_> = headers.get_all(header::CONTENT_LENGTH).iter().collect();
        assert_eq!(lengths, [&*BODY.len().to_string()], "announced: {given:?}");
        assert!(headers[SIGNATURE].is_sensitive() && headers[header::AUTHORIZATION].is_sensitive());
        assert_eq!(headers["x-request-id"], "7");
    }
}

#[tokio::test]
async fn checks_basic_credentials_only_if_required() {
    // RFC 7617, section 2.
    let right = delivery().header(header::AUTHORIZATION, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    let wrong = delivery().header(header::AUTHORIZATION, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZR==");
    let twice = right.clone().added_header(header::AUTHORIZATION, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    accepted(&layer(), wrong.request::<Whole>()).await;

    let layer = layer().require_basic_auth("Aladdin", "open sesame");
    accepted(&layer, right.request::<Whole>()).await;
    for delivery in [delivery(), wrong, twice] {
        let answer = rejected_unread(&layer, &delivery, RejectionKind::InvalidCredentials).await;
        assert_eq!((answer.status.as_u16(), &*answer.text), (403, r#"{"error":"invalid credentials"}"#));
    }
    rejected(&layer, right.altered().request::<Whole>(), RejectionKind::SignatureMismatch).await;
    for (partner_key, secret_key) in [("", "secret"), ("partner", ""), ("part:ner", "secret")] {
        let unsafe_setting = || KlikitVerifyLayer::new(SECRET).require_basic_auth(partner_key, secret_key);
        assert!(std::panic::catch_unwind(unsafe_setting).is_err(), "{partner_key}:{secret_key}");
    }
}

#[tokio::test]
async fn resolver_chooses_keyring_by_head() {
    let keyring = |tenant: &str, secret: &str| Keyring::new(tenant, "1", WebhookSecret::new(secret).unwrap());
    let keyrings = [keyring("warung", "warung-secret"), keyring("kedai", "kedai-secret")];
    let layer = KlikitVerifyLayer::with_resolver(move |head| {
        keyrings.iter().find(|keyring| head.uri.path().ends_with(keyring.name())).cloned()
    });
    for tenant in ["warung", "kedai"] {
        let delivery = SignedDelivery::new(format!("{tenant}-secret"), BODY).uri(&format!("/webhooks/{tenant}"));
        let seen = accepted(&layer, delivery.request::<Whole>()).await;
        assert_eq!(seen.delivery.tenant(), tenant);
    }
    let crossed = SignedDelivery::new("warung-secret", BODY).uri("/webhooks/kedai");
    rejected(&layer, crossed.request::<Whole>(), RejectionKind::SignatureMismatch).await;

    let by_partner = KlikitVerifyLayer::with_resolver(move |head| {
        let credentials = head.headers.get(header::AUTHORIZATION)?;
        // The base64 text of `warung:secret`.
        (credentials == "Basic d2FydW5nOnNlY3JldA==").then(|| keyring("warung", "warung-secret"))
    });
    let partner = SignedDelivery::new("warung-secret", BODY);
    rejected(&by_partner, partner.request::<Whole>(), RejectionKind::UnknownTenant).await;
    let partner = partner.header(header::AUTHORIZATION, "Basic d2FydW5nOnNlY3JldA==");
    assert_eq!(accepted(&by_partner, partner.request::<Whole>()).await.delivery.tenant(), "warung");

    let unknown = SignedDelivery::new("warung-secret", BODY).uri("/webhooks/dapur");
    let answer = rejected_unread(&layer, &unknown, RejectionKind::UnknownTenant).await;
    assert_eq!((answer.status.as_u16(), &*answer.text), (403, r#"{"error":"invalid signature"}"#));
}

#[tokio::test]
async fn keyring_can_change_while_serving() {
    let secret = |text: &str| WebhookSecret::new(text).unwrap();
    let keyring = Keyring::new("warung", "old", secret("old secret"));
    let layer = KlikitVerifyLayer::with_keyring(keyring.clone());
    let (old, new) = (SignedDelivery::new("old secret", BODY), SignedDelivery::new("new secret", BODY));
    rejected(&layer, new.request::<Whole>(), RejectionKind::SignatureMismatch).await;

    keyring.add("new", secret("new secret")).unwrap();
    for (delivery, id) in [(&old, "old"), (&new, "new")] {
        assert_eq!(accepted(&layer, delivery.request::<Whole>()).await.delivery.secret_id(), id);
    }
    rejected(&layer, old.clone().altered().request::<Whole>(), RejectionKind::SignatureMismatch).await;

    keyring.retire("old").unwrap();
    rejected(&layer, old.request::<Whole>(), RejectionKind::SignatureMismatch).await;
    let seen = accepted(&layer, new.request::<Whole>()).await;
    assert_eq!((seen.delivery.tenant(), seen.delivery.secret_id()), ("warung", "new"));
}

#[tokio::test]
async fn verifies_with_every_secret_of_full_keyring() {
    let keyring = Keyring::new("warung", "0", WebhookSecret::new("secret 0").unwrap());
    for n in 1..Keyring::MAX_SECRETS {
        keyring.add(n.to_string(), WebhookSecret::new(format!("secret {n}")).unwrap()).unwrap();
    }
    let layer = KlikitVerifyLayer::with_keyring(keyring);
    for n in 0..Keyring::MAX_SECRETS {
        for body in ["", BODY] {
            let delivery = SignedDelivery::new(format!("secret {n}"), body);
            let seen = accepted(&layer, delivery.request_with(|body| Script::chunked(&body, 7))).await;
            assert_eq!(seen.delivery.secret_id(), n.to_string());
        }
    }
}

#[tokio::test]
async fn custom_response_cannot_be_a_success() {
    let custom = layer().on_rejection(|rejection| {
        let mut response = Response::new("no".into());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        assert_eq!(rejection.status(), StatusCode::FORBIDDEN);
        response
    });
    let answer = rejected(&custom, delivery().altered().request::<Whole>(), RejectionKind::SignatureMismatch).await;
    assert_eq!((answer.status.as_u16(), &*answer.text), (401, "no"));

    for status in [200, 204, 299, 100, 302] {
        let lenient = layer().on_rejection(move |_| Response::builder().status(status).body("fine".into()).unwrap());
        let answer =
            rejected(&lenient, delivery().altered().request::<Whole>(), RejectionKind::SignatureMismatch).await;
        assert_eq!((answer.status.as_u16(), &*answer.text), (403, "fine"), "for {status}");
    }
}

#[tokio::test]
async fn each_rejection_kind_has_status_and_json_text() {
    use RejectionKind::{
        BodyTimeout, BodyTooLarge, BodyUnreadable, InvalidCredentials, MalformedEventId, MalformedSignature,
        MissingEventId, MissingSignature, Overloaded, SignatureMismatch, UnknownTenant,
    };
    let statuses = [
        (MissingSignature, 403),
        (MalformedSignature, 403),
        (SignatureMismatch, 403),
        (InvalidCredentials, 403),
        (UnknownTenant, 403),
        (MissingEventId, 400),
        (MalformedEventId, 400),
        (BodyUnreadable, 400),
        (BodyTimeout, 408),
        (BodyTooLarge, 413),
        (Overloaded, 503),
    ];
    for (kind, status) in statuses {
        let rejection = Rejection::from(kind);
        assert_eq!((rejection.kind(), rejection.status().as_u16()), (kind, status));
        let response = rejection.to_response();
        assert_eq!(response.headers().contains_key(header::RETRY_AFTER), status == 503);
        let text: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert!(text["error"].is_string());
    }
}

#[test]
fn empty_or_blank_secret_is_an_error() {
    for blank in ["", " ", "\n", "\0\0"] {
        assert!(KlikitVerifyLayer::try_new(blank).is_err());
        assert!(std::panic::catch_unwind(|| KlikitVerifyLayer::new(blank)).is_err());
    }
}

#[tokio::test]
async fn verifies_samples_of_another_implementation() {
    let (secret, samples) = crate::support::deliveries::all();
    assert_eq!(samples.len(), 10);
    let layer = KlikitVerifyLayer::new(secret);
    for sample in samples {
        let request = Request::post("/webhooks/klikit")
            .header(SIGNATURE, &sample.signature)
            .header(EVENT_ID, &sample.event_id)
            .header(EVENT_TYPE, &sample.event_type);
        let seen = accepted(&layer, request.body(Whole::from(sample.body.clone())).unwrap()).await;
        assert_eq!(seen.bytes, sample.body, "{}", sample.file);
        assert_eq!(seen.event_id.unwrap().as_str(), sample.event_id);
        assert!(!matches!(seen.delivery.event_type(), None | Some(EventType::Other(_))));
    }
}

#[tokio::test]
async fn verifies_test_vector_of_klikit() {
    let request = Request::post("/webhooks/klikit")
        .header(SIGNATURE, "cde212d9854ae482bb476487a187ee88c4b5f93eb2444de34fd7252b5ccb866d")
        .header(EVENT_ID, "evt-1")
        .body(Whole::from(BODY))
        .unwrap();
    let (answer, _) = send(&KlikitVerifyLayer::new("your-webhook-secret"), request).await;
    assert_eq!(answer.status, StatusCode::OK);
}

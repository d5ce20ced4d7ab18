//! Each kind of rejection is in the log once, with its facts and without secrets.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use http::{Request, header};
use tower_klikit::{
    EventType, KlikitVerifyLayer, LoggedRejection, RejectionKind, RejectionLog, dedupe::BodyDigest, header::EVENT_ID,
    header::SIGNATURE, testing::SignedDelivery,
};

use super::{delivery, only};
use crate::support::{
    BODY, SECRET,
    body::{Script, Step},
    rejected,
};

const URI: &str = "/webhooks/klikit?token=in-the-query";

const MINUTE: Duration = Duration::from_secs(60);

/// A request that a layer rejects, and the facts that its entry has.
struct Case {
    kind: RejectionKind,
    layer: KlikitVerifyLayer,
    request: Request<Script>,
    event_id: Option<&'static str>,
    tenant: Option<&'static str>,
    bytes: usize,
    digest: Option<BodyDigest>,
}

fn layer() -> KlikitVerifyLayer {
    KlikitVerifyLayer::new(SECRET)
}

fn timestamps() -> KlikitVerifyLayer {
    layer().accept_timestamped(5 * MINUTE)
}

/// Returns a delivery with a timestamped signature of this age.
fn timestamped(age: Duration) -> SignedDelivery {
    SignedDelivery::timestamped(SECRET, SystemTime::now() - age, "evt-7", EventType::OrderCreated, BODY)
}

/// A rejection before the body is read.
fn unread(kind: RejectionKind, layer: KlikitVerifyLayer, delivery: &SignedDelivery) -> Case {
    let request = delivery.clone().uri(URI).request_with(|body| Script::frames([body]));
    Case { kind, layer, request, event_id: Some("evt-7"), tenant: None, bytes: 0, digest: None }
}

/// A rejection while the body arrives.
fn incomplete(kind: RejectionKind, layer: KlikitVerifyLayer, body: Script, bytes: usize) -> Case {
    let request = delivery().uri(URI).request_with(|_| body);
    Case { kind, layer, request, event_id: Some("evt-7"), tenant: Some("default"), bytes, digest: None }
}

/// A rejection after the whole body was read, in pieces.
fn whole(kind: RejectionKind, layer: KlikitVerifyLayer, delivery: &SignedDelivery) -> Case {
    let request = delivery.clone().uri(URI).request_with(|body| Script::chunked(&body, 20));
    let (bytes, digest) = (delivery.body().len(), Some(BodyDigest::of(delivery.body())));
    Case { kind, layer, request, event_id: Some("evt-7"), tenant: Some("default"), bytes, digest }
}

fn cases() -> Vec<Case> {
    use RejectionKind::{
        BodyTimeout, BodyTooLarge, BodyUnreadable, EventIdMismatch, InvalidCredentials, MalformedEnvelope,
        MalformedEventId, MalformedSignature, MissingEventId, MissingSignature, Overloaded, SignatureMismatch,
        StaleTimestamp, TimestampInBody, UnknownTenant,
    };
    let credentials = delivery().header(header::AUTHORIZATION, "Basic d3Jvbmc6Y3JlZGVudGlhbHM=");
    let first_bytes = Script::frames([BODY[..20].into()]);
    let other_first_bytes = Script::frames([BODY[..20].into()]);
    let envelope = timestamped(Duration::ZERO).request_with(|_| ());
    let time = envelope.headers()[SIGNATURE].to_str().unwrap().split_once(',').unwrap().0.to_owned();
    let signed = tower_klikit::WebhookSecret::new(SECRET).unwrap().sign(format!("{}.[]", &time[2..]).as_bytes());
    let no_envelope = delivery().header(SIGNATURE, format!("{time},v1={signed}"));
    let no_envelope = SignedDelivery::new(SECRET, "[]")
        .event_id("evt-7")
        .header(SIGNATURE, no_envelope.request_with(|_| ()).headers()[SIGNATURE].as_bytes());
    vec![
        unread(MissingSignature, layer(), &delivery().without_header(&SIGNATURE)),
        unread(MalformedSignature, layer(), &delivery().header(SIGNATURE, "secret-looking")),
        unread(InvalidCredentials, layer().require_basic_auth("partner", "password"), &credentials),
        unread(UnknownTenant, KlikitVerifyLayer::with_resolver(|_| None), &delivery()),
        Case { event_id: None, ..unread(MissingEventId, layer(), &delivery().without_header(&EVENT_ID)) },
        Case { event_id: None, ..unread(MalformedEventId, layer(), &delivery().event_id("two words")) },
        unread(StaleTimestamp, timestamps(), &timestamped(10 * MINUTE)),
        unread(BodyTooLarge, layer().body_limit(10), &delivery().header(header::CONTENT_LENGTH, "49")),
        incomplete(BodyTooLarge, layer().body_limit(10), Script::frames([BODY.into()]), BODY.len()),
        incomplete(BodyTimeout, layer(), first_bytes.then(Step::Hang), 20),
        incomplete(BodyUnreadable, layer(), other_first_bytes.then(Step::Fail), 20),
        incomplete(Overloaded, layer().buffer_budget(1), Script::chunked(&BODY.into(), 20), BODY.len()),
        whole(SignatureMismatch, layer(), &delivery().altered()),
        whole(TimestampInBody, timestamps(), &SignedDelivery::new(SECRET, format!("17.{BODY}")).event_id("evt-7")),
        Case {
            event_id: Some("evt-8"),
            ..whole(EventIdMismatch, timestamps(), &timestamped(Duration::ZERO).event_id("evt-8"))
        },
        whole(MalformedEnvelope, timestamps(), &no_envelope),
    ]
}

/// Asserts that no format of an entry or its log shows a secret, a body, a signature, credentials or a query.
fn assert_nothing_secret(entry: &LoggedRejection, log: &RejectionLog, signature: &str) {
    for text in [format!("{entry}"), format!("{entry:?}"), format!("{entry:#?}"), format!("{log:?}")] {
        for hidden in [SECRET, "brand_id", signature, "d3Jvbmc6", "password", "in-the-query", "secret-looking"] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_kind_is_logged_once_with_its_facts() {
    let mut kinds = HashSet::new();
    for case in cases() {
        let Case { kind, layer, request, event_id, tenant, bytes, digest } = case;
        kinds.insert(kind);
        let log = RejectionLog::new();
        let signature = request.headers().get(SIGNATURE).map_or("none", |value| value.to_str().unwrap()).to_owned();
        let before = SystemTime::now();
        let reply = rejected(&layer.rejection_log(log.clone()), request, kind).await;
        let entry = only(&log);
        assert_eq!((entry.number(), entry.kind(), entry.status()), (1, kind, Some(reply.status)));
        assert_eq!(
            (entry.event_id(), entry.tenant(), entry.path()),
            (event_id, tenant, "/webhooks/klikit"),
            "{kind:?}"
        );
        assert_eq!((entry.bytes(), entry.body_digest().map(BodyDigest::from)), (bytes, digest), "{kind:?}");
        assert!((before..=SystemTime::now()).contains(&entry.time()), "{entry:?}");
        assert_nothing_secret(&entry, &log, &signature);
    }
    assert_eq!(kinds.len(), 15, "a kind of rejection has no case: {kinds:?}");
}

//! The rejection log has each rejection once, within its bounds, and holds nothing secret.

mod bounds;
mod digests;
mod kinds;
mod unanswered;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use tower::ServiceExt;
use tower_klikit::{
    KlikitVerifyLayer, LoggedRejection, RejectionKind, RejectionLog, header::SIGNATURE, testing::SignedDelivery,
};

use crate::support::{BODY, SECRET, accepted, rejected};

type Whole = Full<Bytes>;

fn delivery() -> SignedDelivery {
    SignedDelivery::new(SECRET, BODY).event_id("evt-7")
}

fn unsigned() -> Request<Whole> {
    delivery().without_header(&SIGNATURE).request()
}

/// Returns a layer with a log.
fn logging() -> (KlikitVerifyLayer, RejectionLog) {
    let log = RejectionLog::new();
    (KlikitVerifyLayer::new(SECRET).rejection_log(log.clone()), log)
}

/// Returns the only entry of a log.
#[track_caller]
fn only(log: &RejectionLog) -> LoggedRejection {
    let entries = log.entries();
    assert_eq!((entries.len(), log.len(), log.recorded(), log.evicted()), (1, 1, 1, 0), "{entries:?}");
    entries[0].clone()
}

#[tokio::test]
async fn accepted_delivery_is_not_in_the_log() {
    let (layer, log) = logging();
    accepted(&layer, delivery().request::<Whole>()).await;
    assert!(log.is_empty() && log.recorded() == 0, "{log:?}");
}

#[tokio::test]
async fn entry_has_status_of_custom_response() {
    let (layer, log) = logging();
    let custom = layer.on_rejection(|rejection| {
        let mut response = rejection.to_response();
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response
    });
    rejected(&custom, unsigned(), RejectionKind::MissingSignature).await;
    assert_eq!(only(&log).status(), Some(StatusCode::UNAUTHORIZED));

    let lenient = custom.on_rejection(|_| Response::new(Bytes::new()));
    rejected(&lenient, unsigned(), RejectionKind::MissingSignature).await;
    assert_eq!(log.entries()[0].status(), Some(StatusCode::FORBIDDEN), "the layer replaced the status");
}

#[tokio::test]
async fn layers_can_share_a_log() {
    let log = RejectionLog::new();
    let layers = [SECRET, "another"].map(|secret| KlikitVerifyLayer::new(secret).rejection_log(log.clone()));
    for layer in &layers {
        rejected(layer, unsigned(), RejectionKind::MissingSignature).await;
        rejected(&layer.clone(), delivery().altered().request::<Whole>(), RejectionKind::SignatureMismatch).await;
    }
    let facts: Vec<_> = log.entries().iter().map(|entry| (entry.number(), entry.kind())).collect();
    let (missing, mismatch) = (RejectionKind::MissingSignature, RejectionKind::SignatureMismatch);
    assert_eq!(facts, [(4, mismatch), (3, missing), (2, mismatch), (1, missing)], "newest first");

    let other = RejectionLog::new();
    let [layer, _] = layers.map(|layer| layer.rejection_log(other.clone()));
    rejected(&layer, unsigned(), RejectionKind::MissingSignature).await;
    assert_eq!((log.recorded(), other.recorded()), (4, 1));
}

#[tokio::test]
async fn display_is_one_line_of_quoted_texts() {
    let (layer, log) = logging();
    let forged = r#"e"sha256=0"#;
    let uri = "/a\u{85}bytes=7\u{202e}\u{2028}\"b\"?query";
    let delivery = delivery().altered().event_id(forged);
    let mut request = delivery.request::<Whole>();
    *request.uri_mut() = uri.parse().unwrap();
    rejected(&layer, request, RejectionKind::SignatureMismatch).await;
    let entry = only(&log);
    assert_eq!((entry.path(), entry.event_id()), ("/a bytes=7  \"b\"", Some(forged)));
    let digest = hex::encode(entry.body_digest().unwrap());
    assert_eq!(
        entry.to_string(),
        format!(
            r##"#1 403 signature_mismatch event_id="e\"sha256=0" tenant="default" path="/a bytes=7  \"b\"" bytes=49 sha256={digest}"##
        )
    );
    for text in [format!("{entry:?}"), format!("{:?}", log.entries())] {
        assert!(text.chars().all(|char| char.is_ascii_graphic() || char == ' '), "{text}");
    }
}

#[tokio::test]
async fn long_texts_are_cut() {
    let (layer, log) = logging();
    for char in ["p", "é", "\u{202e}"] {
        log.clear();
        let mut request = delivery().altered().event_id("i".repeat(255)).request::<Whole>();
        *request.uri_mut() = format!("/{}", char.repeat(10_000)).parse().unwrap();
        rejected(&layer, request, RejectionKind::SignatureMismatch).await;
        let entries = log.entries();
        assert_eq!((entries[0].path().chars().count(), entries[0].event_id().unwrap().len()), (200, 255));
    }
    log.clear();
    let too_long = delivery().event_id("i".repeat(256)).request::<Whole>();
    rejected(&layer, too_long, RejectionKind::MalformedEventId).await;
    assert_eq!(log.entries()[0].event_id(), None);
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn path_has_prefix_of_nested_router() {
    let (layer, log) = logging();
    let orders = axum::Router::new().route("/orders", axum::routing::post(|| async {}).layer(layer));
    let app = axum::Router::new().nest("/klikit", orders);
    let request = Request::post("/klikit/orders").header(header::CONTENT_LENGTH, 0).body(axum::body::Body::empty());
    let response = app.oneshot(request.unwrap()).await.unwrap();
    assert_eq!((response.status(), only(&log).path()), (StatusCode::FORBIDDEN, "/klikit/orders"));
}

/// No subscriber listens in this program, so only the log asks for causes.
#[cfg(feature = "diagnose")]
#[tokio::test(start_paused = true)]
async fn entry_has_cause_if_layer_explains() {
    use tower_klikit::diagnose::Cause;

    let spaced = || delivery().request_with(|_| Whole::from(BODY.replace(':', ": ")));
    let (silent, log) = logging();
    rejected(&silent, spaced(), RejectionKind::SignatureMismatch).await;
    rejected(&silent, unsigned(), RejectionKind::MissingSignature).await;
    assert!(log.entries().iter().all(|entry| entry.cause().is_none()), "the log started a diagnosis");

    let explaining = silent.explain_mismatches();
    rejected(&explaining, spaced(), RejectionKind::SignatureMismatch).await;
    rejected(&explaining, unsigned(), RejectionKind::MissingSignature).await;
    rejected(&explaining, spaced(), RejectionKind::SignatureMismatch).await;
    let causes: Vec<_> = log.entries().iter().take(3).map(LoggedRejection::cause).collect();
    assert_eq!(causes, [None, Some(Cause::SignatureMissing), Some(Cause::BodyReencoded)], "newest first");
    let explained = &log.entries()[2];
    assert!(explained.to_string().contains(" cause=body_reencoded "), "{explained}");
    assert!(explained.body_digest().is_some(), "the search took the body");
}

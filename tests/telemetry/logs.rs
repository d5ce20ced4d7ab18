//! Tests of log lines: they contain the reason, and never a body, a secret or a whole signature.
#![cfg(feature = "tracing")]

use std::{
    convert::Infallible,
    future::{Future, pending},
    time::Duration,
};

use bytes::Bytes;
#[cfg(feature = "dedupe")]
use futures_util::FutureExt;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
#[cfg(feature = "dedupe")]
use tower::{Layer, ServiceExt, service_fn};
#[cfg(feature = "inbox")]
use tower_klikit::inbox::{Attempt, Inbox, InboxStore, LEASE_EXPIRED, LeaseRequest, Settlement};
use tower_klikit::{
    KlikitVerifyLayer,
    header::{EVENT_ID, SIGNATURE},
    testing::SignedDelivery,
};
#[cfg(feature = "dedupe")]
use tower_klikit::{
    VerifiedBody,
    dedupe::{BodyDigest, Claim, ClaimOutcome, ClaimTerms, EventKey, KlikitDedupeLayer, Ledger, StoreError},
    store::MemoryStore,
};
use tower_klikit_test_support::{log, log::Log};
use tracing_subscriber::{filter::LevelFilter, fmt::format::FmtSpan};

use crate::support::{
    BODY, SECRET,
    body::{Script, Step},
    send,
};

/// Returns what is logged, at all levels, while `run` runs.
fn logged(run: impl FnOnce()) -> String {
    let log = Log::default();
    log.hear(LevelFilter::TRACE, FmtSpan::NONE, run);
    log.text()
}

/// Returns what is logged while `run` runs on a paused clock.
#[cfg(feature = "dedupe")]
fn logged_by(run: impl Future<Output = ()>) -> String {
    logged(|| log::paused(run))
}

/// The fields of each line about [`evt_7`].
#[cfg(feature = "dedupe")]
const OF_EVT_7: &str = r#"event_id="evt-7" tenant="default""#;

#[cfg(feature = "dedupe")]
fn evt_7() -> Request<Full<Bytes>> {
    SignedDelivery::new(SECRET, BODY).event_id("evt-7").request()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Returns what is logged while the layer handles a request. Asserts that no secret is logged.
fn log<B>(layer: &KlikitVerifyLayer, request: Request<B>) -> String
where
    B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let log = logged(|| {
        runtime().block_on(send(layer, request));
    });
    let signature = SignedDelivery::new(SECRET, BODY).request::<Full<Bytes>>().headers()[SIGNATURE].clone();
    for hidden in [SECRET, BODY, signature.to_str().unwrap(), "c2VjcmV0"] {
        assert!(!log.contains(hidden), "{hidden} was logged: {log}");
    }
    log
}

/// Returns the fields of the only line with this level and message, without the fields of its span.
#[cfg(feature = "dedupe")]
fn fields<'a>(log: &'a str, level: &str, message: &str) -> &'a str {
    let mut lines = log.lines().filter(|line| line.contains(level)).filter_map(|line| line.split_once(message));
    let (_, fields) = lines.next().unwrap_or_else(|| panic!("no {level} {message}: {log}"));
    assert_eq!(lines.next(), None, "{log}");
    fields
}

#[test]
fn each_rejection_is_one_warning_with_its_reason() {
    let delivery = || SignedDelivery::new(SECRET, BODY).header(header::AUTHORIZATION, "Basic c2VjcmV0");
    let cases = [
        (delivery().altered(), "does not match the body under any configured secret", "status=403"),
        (delivery().without_header(&SIGNATURE), "no x-klikit-signature header", "status=403"),
        (delivery().header(SIGNATURE, "sha256=00"), "not exactly one x-klikit-signature header", "status=403"),
        (delivery().without_header(&EVENT_ID), "no x-klikit-event-id header", "status=400"),
    ];
    for (delivery, reason, status) in cases {
        let log = log(&KlikitVerifyLayer::new(SECRET), delivery.request::<Full<Bytes>>());
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains("WARN") && log.contains(reason) && log.contains(status), "{log}");
    }
}

#[test]
fn body_error_is_logged_with_its_source() {
    let request = SignedDelivery::new(SECRET, BODY).request_with(|_| Script::new([Step::Fail]));
    assert!(log(&KlikitVerifyLayer::new(SECRET), request).contains("the connection broke"));
}

/// A text that reverses the following text, contains invisible characters, and begins a second line.
const HIDDEN: &str = "paid\u{202e}\u{200b}\u{feff}\u{2028}\nWARN forged";
const ESCAPED: &str = r"paid\u{202e}\u{200b}\u{feff}\u{2028}\nWARN forged";

/// Asserts that the log has this many lines, no hidden character, and each of `texts`, where `…` stands for
/// [`ESCAPED`].
#[track_caller]
fn assert_escaped(log: &str, lines: usize, texts: &[&str]) {
    assert_eq!(log.lines().count(), lines, "{log:?}");
    assert!(!log.contains(['\u{202e}', '\u{200b}', '\u{feff}', '\u{2028}']), "{log:?}");
    for text in texts {
        assert!(log.contains(&text.replace('…', ESCAPED)), "{text}: {log:?}");
    }
}

#[test]
fn hidden_characters_of_body_errors_are_escaped() {
    #[derive(Debug)]
    struct Outer(std::io::Error);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "outer {HIDDEN}")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let body = |_| Script::new([Step::Fail]).map_err(|_| Outer(std::io::Error::other(format!("inner {HIDDEN}"))));
    let log = log(&KlikitVerifyLayer::new(SECRET), SignedDelivery::new(SECRET, BODY).request_with(body));
    assert_escaped(&log, 1, &["source=outer …: inner …"]);
}

#[cfg(feature = "dedupe")]
#[test]
fn store_errors_are_escaped_and_bounded() {
    struct Failing;
    impl Failing {
        async fn fail<T>() -> Result<T, StoreError> {
            Err(StoreError::new(HIDDEN))
        }
    }
    impl Ledger for Failing {
        async fn claim(&self, _: &Claim, _: &ClaimTerms) -> Result<ClaimOutcome, StoreError> {
            Self::fail().await
        }
        async fn complete(&self, _: &Claim, _: Duration) -> Result<bool, StoreError> {
            Self::fail().await
        }
        async fn release(&self, _: &Claim) -> Result<(), StoreError> {
            Self::fail().await
        }
        async fn renew(&self, _: &[Claim], _: &ClaimTerms) -> Result<Vec<bool>, StoreError> {
            Self::fail().await
        }
        async fn forget(&self, _: &EventKey) -> Result<u64, StoreError> {
            Self::fail().await
        }
        async fn forget_claimed(&self, _: std::ops::Range<std::time::SystemTime>) -> Result<u64, StoreError> {
            Self::fail().await
        }
        async fn purge(&self, _: u32) -> Result<u64, StoreError> {
            Self::fail().await
        }
    }
    let log = logged_by(async {
        let stack = KlikitVerifyLayer::new(SECRET)
            .layer(KlikitDedupeLayer::new(Failing).layer(crate::support::Handler::default()));
        assert_eq!(stack.oneshot(evt_7()).await.unwrap().status(), 503);
    });
    assert_escaped(&log, 2, &["cannot claim a delivery: the store call failed", "source=…"]);

    let log = logged_by(async {
        let stack = KlikitVerifyLayer::new(SECRET)
            .layer(KlikitDedupeLayer::new(Failing).layer(crate::support::Handler::default()));
        for _ in 0..1000 {
            assert_eq!(stack.clone().oneshot(evt_7()).await.unwrap().status(), 503);
        }
    });
    assert_eq!((lines_with(&log, "cannot claim").0, log.lines().count()), (10, 20), "{log}");
    assert_eq!(format!("{:?}", StoreError::new(HIDDEN)), format!("StoreError {{ source: {HIDDEN:?} }}"));
}

/// A handler's error may quote the request, and klikit does not sign the path.
#[cfg(feature = "inbox")]
#[test]
fn hidden_characters_of_requests_are_not_logged() {
    let log = logged_by(async {
        let inbox = Inbox::new(MemoryStore::new());
        let request = |id: &'static str| {
            let mut request = SignedDelivery::new(SECRET, id).event_id(id).request::<Full<Bytes>>();
            let path = "/paid\u{202e}\u{200b}\u{feff}\u{2028}".as_bytes();
            *request.uri_mut() = http::Uri::try_from(path).unwrap();
            request
        };
        let acceptor = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
        for id in ["1", "2"] {
            assert_eq!(acceptor.clone().oneshot(request(id)).await.unwrap().status(), 200);
        }
        let handler = service_fn(async |request: Request<VerifiedBody>| {
            if request.extensions().get::<tower_klikit::EventId>().unwrap().as_str() == "1" {
                return Err(HIDDEN);
            }
            let mut response = Response::new(String::new());
            *response.status_mut() = StatusCode::NOT_FOUND;
            Ok(response)
        });
        inbox.worker(handler).max_attempts(1).run_until(tokio::time::sleep(Duration::from_secs(9))).await;
    });
    assert_escaped(&log, 3, &["dead-lettered a delivery: paid", "has no route for POST /paid"]);
}

#[test]
fn hidden_characters_of_tenants_are_escaped() {
    let keyring = tower_klikit::Keyring::new(HIDDEN, "id", tower_klikit::WebhookSecret::new(SECRET).unwrap());
    let altered = SignedDelivery::new(SECRET, BODY).altered().request::<Full<Bytes>>();
    assert_escaped(&log(&KlikitVerifyLayer::with_keyring(keyring), altered), 1, &[r#"tenant="…""#]);
}

/// Sends a request `times` times.
#[cfg(feature = "dedupe")]
async fn flood<B>(layer: &KlikitVerifyLayer, times: usize, request: impl Fn() -> Request<B>)
where
    B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    for _ in 0..times {
        send(layer, request()).await;
    }
}

/// Returns the number of lines with this text, and the sum of their `left_out` fields.
#[cfg(feature = "dedupe")]
fn lines_with(log: &str, text: &str) -> (usize, u64) {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
    let left_out = |line: &&str| {
        let (_, rest) = line.split_once("left_out=")?;
        rest.split(' ').next()?.parse::<u64>().ok()
    };
    (lines.len(), lines.iter().filter_map(left_out).sum())
}

#[cfg(feature = "dedupe")]
#[test]
fn flood_of_rejections_is_logged_at_a_bounded_rate() {
    let forged = || SignedDelivery::new(SECRET, BODY).altered().request::<Full<Bytes>>();
    let unsigned = || SignedDelivery::new(SECRET, BODY).without_header(&SIGNATURE).request::<Full<Bytes>>();
    let log = logged_by(async {
        let layer = KlikitVerifyLayer::new(SECRET);
        flood(&layer, 1000, forged).await;
        // Clones share a limit. Each reason has a limit of its own.
        flood(&layer.clone(), 1000, forged).await;
        flood(&layer, 3, unsigned).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        flood(&layer, 1000, forged).await;
    });
    assert_eq!(lines_with(&log, "under any configured secret"), (11, 1990), "{log}");
    assert_eq!(lines_with(&log, "no x-klikit-signature"), (3, 0), "{log}");
    assert_eq!(log.lines().count(), 14, "{log}");
}

#[cfg(feature = "dedupe")]
#[test]
fn flood_of_slow_bodies_is_logged_at_a_bounded_rate() {
    let hanging = || SignedDelivery::new(SECRET, BODY).request_with(|_| Script::new([Step::Hang]));
    // Sends 100 requests at once and waits for each response, or until `wait` is over.
    let at_once = |layer: KlikitVerifyLayer, wait| async move {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let layer = layer.clone();
            tasks.spawn_local(async move { tokio::time::timeout(wait, send(&layer, hanging())).await.is_ok() });
        }
        tasks.join_all().await
    };
    let log = logged_by(tokio::task::LocalSet::new().run_until(async move {
        let layer = KlikitVerifyLayer::new(SECRET);
        // First the senders hang up before the deadline. Then the deadline rejects the bodies.
        at_once(layer.clone(), Duration::from_secs(9)).await;
        at_once(layer, Duration::from_secs(60)).await;
    }));
    assert_eq!(lines_with(&log, "dropped before its body was complete").0, 10, "{log}");
    assert_eq!(lines_with(&log, "not complete within the deadline").0, 10, "{log}");
    assert_eq!(lines_with(&log, "answered a delivery slowly").0, 10, "{log}");
    assert_eq!(log.lines().count(), 30, "{log}");
}

#[cfg(feature = "dedupe")]
#[test]
fn flood_of_hang_ups_is_logged_at_a_bounded_rate() {
    let too_large = || {
        let steps = [Step::Data(BODY.into()), Step::Hang];
        SignedDelivery::new(SECRET, BODY).request_with(|_| Script::new(steps))
    };
    let log = logged_by(async {
        let layer = KlikitVerifyLayer::new(SECRET).body_limit(BODY.len() - 1);
        let hang_up = || assert!(send(&layer, too_large()).now_or_never().is_none());
        (0..1000).for_each(|_| hang_up());
        tokio::time::advance(Duration::from_secs(1)).await;
        hang_up();
    });
    assert_eq!(lines_with(&log, "dropped before it was answered"), (11, 990), "{log}");
    assert_eq!(log.lines().count(), 11, "{log}");
}

#[cfg(feature = "dedupe")]
#[test]
fn flood_of_replaced_statuses_is_bounded() {
    let layer = KlikitVerifyLayer::new(SECRET).on_rejection(|_| Response::new(Bytes::new()));
    let forged = || SignedDelivery::new(SECRET, BODY).altered().request::<Full<Bytes>>();
    let log = logged_by(async { flood(&layer, 1000, forged).await });
    assert_eq!(lines_with(&log, "on_rejection returned status").0, 10, "{log}");
    assert_eq!(log.lines().count(), 20, "{log}");
}

/// Anybody who has captured a delivery can cause these lines.
#[cfg(feature = "dedupe")]
#[test]
fn flood_of_replays_is_logged_at_a_bounded_rate() {
    let log = logged_by(async {
        let dedupe = KlikitDedupeLayer::new(MemoryStore::new());
        let stack = KlikitVerifyLayer::new(SECRET).layer(dedupe.layer(crate::support::Handler::default()));
        for n in 0..1000 {
            let request = SignedDelivery::new(SECRET, ["1", "2"][n % 2]).event_id("evt-7").request::<Full<Bytes>>();
            stack.clone().oneshot(request).await.unwrap();
        }
    });
    assert_eq!(lines_with(&log, "event id reused").0, 10, "{log}");
    assert_eq!(lines_with(&log, " WARN ").0, 10, "{log}");
}

#[cfg(feature = "inbox")]
#[test]
fn flood_of_a_full_inbox_is_logged_at_a_bounded_rate() {
    for (inbox, text) in [
        (Inbox::new(MemoryStore::new()).max_backlog(0), "inbox backlog is full"),
        (Inbox::new(MemoryStore::new()).max_stored(0), "inbox is full"),
    ] {
        let log = logged_by(async {
            let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
            for _ in 0..1000 {
                assert_eq!(stack.clone().oneshot(evt_7()).await.unwrap().status(), 503);
            }
        });
        assert_eq!(lines_with(&log, text).0, 10, "{log}");
        assert!(log.lines().count() <= 11, "{log}");
    }
}

#[test]
fn rejection_with_a_success_status_is_an_error() {
    let layer = KlikitVerifyLayer::new(SECRET).on_rejection(|_| Response::new(Bytes::new()));
    let log = log(&layer, SignedDelivery::new(SECRET, BODY).altered().request::<Full<Bytes>>());
    assert!(log.contains("ERROR") && log.contains(StatusCode::OK.as_str()), "{log}");
}

#[test]
fn accepted_delivery_is_not_logged() {
    assert_eq!(log(&KlikitVerifyLayer::new(SECRET), SignedDelivery::new(SECRET, BODY).request::<Full<Bytes>>()), "");
}

#[cfg(feature = "dedupe")]
#[test]
fn full_memory_store_is_logged_once() {
    let minute = Duration::from_secs(60);
    let terms = ClaimTerms { lease: minute, grace: minute };
    let claim = |n: usize| {
        let key = *EventKey::of_event("default", &format!("evt-{n}")).as_bytes();
        Claim::new(key, key, BodyDigest::of(BODY.as_bytes()), key)
    };
    let log = logged(|| {
        runtime().block_on(async {
            let store = MemoryStore::new().capacity(1);
            for n in 0..6 {
                let claim = claim(n);
                store.claim(&claim, &terms).await.unwrap();
                assert!(store.complete(&claim, minute).await.unwrap());
            }
            assert_eq!(store.evicted(), 5);
        });
    });
    assert_eq!(log.matches("the memory store is full").count(), 1, "{log}");
}

#[cfg(feature = "dedupe")]
#[test]
fn log_names_missing_verify_layer() {
    let log = logged(|| {
        let service = KlikitDedupeLayer::new(MemoryStore::new()).layer(crate::support::Handler::default());
        let strip = |mut request: Request<_>| {
            request.extensions_mut().clear();
            request
        };
        let misbuilt = KlikitVerifyLayer::new(SECRET).layer(tower::util::MapRequest::new(service, strip));
        let request = SignedDelivery::new(SECRET, BODY).request::<Full<Bytes>>();
        assert_eq!(runtime().block_on(misbuilt.oneshot(request)).unwrap().status(), 500);
    });
    assert!(log.contains("ERROR") && log.contains("put KlikitVerifyLayer outside of it"), "{log}");
}

#[cfg(feature = "dedupe")]
#[test]
fn conflict_is_logged_with_its_id() {
    let stack = KlikitVerifyLayer::new(SECRET)
        .layer(KlikitDedupeLayer::new(MemoryStore::new()).layer(crate::support::Handler::default()));
    let log = logged(|| {
        for body in [BODY, "{}"] {
            let request = SignedDelivery::new(SECRET, body).event_id("evt-7").request::<Full<Bytes>>();
            assert_eq!(runtime().block_on(stack.clone().oneshot(request)).unwrap().status(), 200);
        }
    });
    assert!(fields(&log, "WARN", "event id reused with a different body").contains(OF_EVT_7), "{log}");
    assert!(!log.contains(BODY), "{log}");
}

#[cfg(feature = "dedupe")]
#[test]
fn hanging_handler_is_an_error_in_the_log() {
    let log = logged_by(async {
        let hanging =
            service_fn(async |_: Request<VerifiedBody>| pending::<Result<Response<String>, Infallible>>().await);
        let dedupe = KlikitDedupeLayer::new(MemoryStore::new()).handler_deadline(Duration::from_secs(3));
        let stack = KlikitVerifyLayer::new(SECRET).layer(dedupe.layer(hanging));
        assert_eq!(stack.oneshot(evt_7()).await.unwrap().status(), 503);
    });
    let fields = fields(&log, "ERROR", "dropped a handler");
    assert!(fields.contains(OF_EVT_7) && fields.contains("deadline=3s"), "{log}");
}

#[cfg(feature = "dedupe")]
#[test]
fn claim_lost_under_its_handler_is_a_warning() {
    let log = logged_by(async {
        let dedupe = KlikitDedupeLayer::new(MemoryStore::new());
        let store = dedupe.clone();
        let forgetting = service_fn(move |_: Request<VerifiedBody>| {
            let store = store.clone();
            async move {
                store.forget("default", "evt-7").await.unwrap();
                // Wait until a renewal was attempted.
                tokio::time::sleep(Duration::from_secs(20)).await;
                Ok::<_, Infallible>(Response::new(String::new()))
            }
        });
        let stack = KlikitVerifyLayer::new(SECRET).layer(dedupe.layer(forgetting));
        assert_eq!(stack.oneshot(evt_7()).await.unwrap().status(), 200);
    });
    assert!(fields(&log, "INFO", "cannot renew the claim of a running handler").contains(OF_EVT_7), "{log}");
    assert!(fields(&log, "WARN", "cannot complete the claim of a handled delivery").contains(OF_EVT_7), "{log}");
}

#[cfg(feature = "inbox")]
#[test]
fn failed_attempt_warns_and_dead_letter_is_an_error() {
    let log = logged_by(async {
        let inbox = Inbox::new(MemoryStore::new());
        KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor()).oneshot(evt_7()).await.unwrap();
        let failing = service_fn(async |_: Request<VerifiedBody>| Err::<Response<String>, _>("the printer is on fire"));
        let worker = inbox.worker(failing).max_attempts(2);
        worker.run_until(tokio::time::sleep(Duration::from_secs(60))).await;
    });
    let failed = fields(&log, "WARN", "attempt failed, will retry: the printer is on fire");
    assert!(failed.contains(OF_EVT_7) && failed.contains("delivery_id=1 attempt=1 delay="), "{log}");
    let dead = fields(&log, "ERROR", "dead-lettered a delivery: the printer is on fire");
    assert!(dead.contains(OF_EVT_7) && dead.contains("delivery_id=1 attempts=2"), "{log}");
    assert_eq!(log.lines().count(), 2, "{log}");
}

/// The worker that started the last attempt has crashed, so another worker logs the dead letter.
#[cfg(feature = "inbox")]
#[test]
fn dead_letter_made_by_leasing_is_an_error() {
    let log = logged_by(async {
        let inbox = Inbox::new(MemoryStore::new());
        KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor()).oneshot(evt_7()).await.unwrap();
        let hanging =
            service_fn(async |_: Request<VerifiedBody>| pending::<Result<Response<String>, Infallible>>().await);
        let dies = inbox.worker(hanging).max_attempts(1).run_until(pending::<()>());
        tokio::time::timeout(Duration::from_secs(5), dies).await.unwrap_err();
        let other = inbox.worker(crate::support::Handler::default()).max_attempts(1);
        other.run_until(tokio::time::sleep(Duration::from_secs(60))).await;
        assert_eq!(inbox.counts().await.unwrap().dead, 1);
    });
    let dead = fields(&log, "ERROR", &format!("dead-lettered a delivery: {LEASE_EXPIRED}"));
    assert!(dead.contains(OF_EVT_7) && dead.contains("delivery_id=1 attempts=1"), "{log}");
    assert_eq!(log.lines().count(), 1, "{log}");
}

#[cfg(feature = "inbox")]
#[test]
fn lease_lost_under_its_handler_is_a_warning() {
    let log = logged_by(async {
        let store = MemoryStore::new();
        let inbox = Inbox::new(store.clone());
        KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor()).oneshot(evt_7()).await.unwrap();
        // Another worker leases the delivery before the lease is extended.
        let losing = service_fn(move |request: Request<VerifiedBody>| {
            let store = store.clone();
            async move {
                let attempt = request.extensions().get::<Attempt>().unwrap();
                store.settle(&[(*attempt.lease(), Settlement::Release)]).await.unwrap();
                let duration = Duration::from_secs(600);
                let request = LeaseRequest { limit: 1, free_handlers: 1, duration, max_attempts: 25, held: &[] };
                assert_eq!(store.lease(&request).await.unwrap().leased.len(), 1);
                tokio::time::sleep(Duration::from_secs(30)).await;
                Ok::<_, Infallible>(Response::new(String::new()))
            }
        });
        inbox.worker(losing).run_until(tokio::time::sleep(Duration::from_secs(60))).await;
    });
    assert!(fields(&log, "INFO", "cannot extend the lease of a running handler").contains("delivery_id=1"), "{log}");
    let lost = fields(&log, "WARN", "lost the lease while the handler was running");
    assert!(lost.contains(OF_EVT_7) && lost.contains("delivery_id=1"), "{log}");
}

#[cfg(feature = "inbox")]
#[test]
fn full_backlog_is_a_warning() {
    let log = logged_by(async {
        let stack = KlikitVerifyLayer::new(SECRET).layer(Inbox::new(MemoryStore::new()).max_backlog(1).acceptor());
        assert_eq!(stack.clone().oneshot(evt_7()).await.unwrap().status(), 200);
        let another = SignedDelivery::new(SECRET, "{}").event_id("evt-8").request::<Full<Bytes>>();
        assert_eq!(stack.oneshot(another).await.unwrap().status(), 503);
    });
    assert!(log.contains("WARN") && log.contains("inbox backlog is full") && log.contains("max_backlog=1"), "{log}");
}

#[cfg(feature = "inbox")]
#[test]
fn long_query_and_long_path_are_warnings() {
    let log = logged_by(async {
        let stack = KlikitVerifyLayer::new(SECRET).layer(Inbox::new(MemoryStore::new()).acceptor());
        for (uri, status) in [(format!("/?{}", "q".repeat(3000)), 200), (format!("/{}", "p".repeat(3000)), 414)] {
            let mut request = evt_7();
            *request.uri_mut() = uri.parse().unwrap();
            assert_eq!(stack.clone().oneshot(request).await.unwrap().status(), status);
        }
    });
    let left_out = fields(&log, "WARN", "stored a delivery without its query");
    assert!(left_out.contains(OF_EVT_7) && left_out.contains("bytes=3000"), "{log}");
    let rejected = fields(&log, "WARN", "rejected a delivery: its path or method is too long");
    assert!(rejected.contains(OF_EVT_7) && rejected.contains("status=414"), "{log}");
    assert!(!log.contains("qqq") && !log.contains("ppp"), "{log}");
}

#[cfg(feature = "inbox")]
#[test]
fn acceptor_as_the_handler_is_an_error_in_the_log() {
    let log = logged_by(async {
        let inbox = Inbox::new(MemoryStore::new());
        KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor()).oneshot(evt_7()).await.unwrap();
        inbox.worker(inbox.acceptor()).run_until(tokio::time::sleep(Duration::from_millis(10))).await;
    });
    assert!(log.contains("ERROR") && log.contains("give the worker your handler"), "{log}");
}

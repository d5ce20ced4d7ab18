//! What is counted, as Prometheus would scrape it.
#![cfg(feature = "metrics")]

#[path = "../support/mod.rs"]
mod support;

use std::{fs, future::Future, path::Path, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use support::{
    BODY, SECRET,
    body::{Script, Step},
    send,
};
use tokio::time::{advance, sleep};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_klikit::{
    Keyring, KlikitVerifyLayer, VerifiedBody, WebhookSecret,
    header::{EVENT_ID, SIGNATURE},
    metrics,
    testing::SignedDelivery,
};

/// Runs this on a paused clock, with a recorder of its own.
fn recorded<F: Future<Output = ()>>(run: impl FnOnce(PrometheusHandle) -> F) -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    ::metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(handle.clone()));
    });
    handle
}

/// The value of what is named so, labels and all.
fn value(handle: &PrometheusHandle, name: &str) -> Option<f64> {
    let text = handle.render();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

fn counted(handle: &PrometheusHandle, name: &str) -> u64 {
    value(handle, name).unwrap_or_else(|| panic!("no {name} in\n{}", handle.render())) as u64
}

fn good() -> Request<Full<Bytes>> {
    SignedDelivery::new(SECRET, BODY).request()
}

#[test]
fn each_verdict_is_counted_once_under_its_reason() {
    let cases = [
        (SignedDelivery::new(SECRET, BODY).altered(), r#""signature_mismatch",tenant="default""#),
        (SignedDelivery::new(SECRET, BODY).without_header(&SIGNATURE), r#""missing_signature""#),
        (SignedDelivery::new(SECRET, BODY).header(SIGNATURE, "sha256=00"), r#""malformed_signature""#),
        (SignedDelivery::new(SECRET, BODY).without_header(&EVENT_ID), r#""missing_event_id""#),
        (SignedDelivery::new(SECRET, BODY).event_id(""), r#""malformed_event_id""#),
    ];
    let rejected = cases.len();
    let handle = recorded(async |handle| {
        let layer = KlikitVerifyLayer::new(SECRET);
        for (delivery, reason) in cases {
            send(&layer, delivery.request::<Full<Bytes>>()).await;
            let name = format!(r#"klikit_deliveries_total{{verdict="rejected",reason={reason}}}"#);
            assert_eq!(counted(&handle, &name), 1);
        }
        send(&layer, good()).await;
        send(&layer, good()).await;
    });
    assert_eq!(counted(&handle, r#"klikit_deliveries_total{verdict="verified",tenant="default"}"#), 2);
    let text = handle.render();
    let all: f64 = text
        .lines()
        .filter(|line| line.starts_with("klikit_deliveries_total"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert_eq!(all as usize, rejected + 2, "{text}");
}

#[test]
fn a_verified_delivery_is_counted_under_its_secret() {
    let handle = recorded(async |_| {
        let keyring = Keyring::new("bali-bites", "old", WebhookSecret::new("the old one").unwrap());
        keyring.add("new", WebhookSecret::new("the new one").unwrap()).unwrap();
        let layer = KlikitVerifyLayer::with_keyring(keyring);
        for secret in ["the old one", "the new one", "the new one"] {
            send(&layer, SignedDelivery::new(secret, BODY).request::<Full<Bytes>>()).await;
        }
    });
    assert_eq!(counted(&handle, r#"klikit_verified_total{tenant="bali-bites",secret_id="old"}"#), 1);
    assert_eq!(counted(&handle, r#"klikit_verified_total{tenant="bali-bites",secret_id="new"}"#), 2);
    assert_eq!(counted(&handle, "klikit_body_bytes_count"), 3);
    assert_eq!(counted(&handle, "klikit_body_bytes_sum"), 3 * BODY.len() as u64);
}

#[test]
fn the_last_verified_delivery_has_a_time_and_a_forged_one_has_none() {
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let name = r#"klikit_last_verified_timestamp_seconds{tenant="default"}"#;
    let layer = KlikitVerifyLayer::new(SECRET);
    let forged = || SignedDelivery::new(SECRET, BODY).altered().request::<Full<Bytes>>();
    let handle = recorded(async |handle| {
        send(&layer, forged()).await;
        assert_eq!(value(&handle, name), None);
    });
    assert_eq!(value(&handle, name), None);
    let before = now();
    let handle = recorded(async |_| {
        send(&layer, good()).await;
    });
    let at = value(&handle, name).unwrap();
    assert!(before <= at && at <= now(), "{before} {at}");
}

#[test]
fn what_waits_is_in_the_gauge_until_it_is_gone() {
    let handle = recorded(async |handle| {
        let layer = KlikitVerifyLayer::new(SECRET);
        let half = Bytes::from(vec![b' '; 20_000]);
        let hanging = || {
            let steps = [Step::Data(half.clone()), Step::Yield, Step::Data(half.clone()), Step::Hang];
            SignedDelivery::new(SECRET, BODY).request_with(|_| Script::new(steps))
        };
        {
            let mut waiting = [Box::pin(send(&layer, hanging())), Box::pin(send(&layer, hanging()))];
            for waiting in &mut waiting {
                // Once to its first piece, and once to where it hangs.
                for _ in 0..2 {
                    assert!(futures_util::poll!(&mut *waiting).is_pending());
                }
            }
            assert_eq!(counted(&handle, "klikit_buffered_bytes"), 2 * 80_000);
        }
        assert_eq!(counted(&handle, "klikit_buffered_bytes"), 0);
    });
    assert_eq!(counted(&handle, r#"klikit_deliveries_total{verdict="abandoned"}"#), 2);
}

#[test]
fn the_time_to_an_answer_is_kept_by_its_status() {
    let handle = recorded(async |_| {
        let slow = service_fn(async |_: Request<VerifiedBody>| {
            sleep(Duration::from_millis(2500)).await;
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = StatusCode::ACCEPTED;
            Ok::<_, BoxError>(response)
        });
        let trickled = SignedDelivery::new(SECRET, BODY)
            .request_with(|body| Script::new([Step::Wait(Duration::from_millis(500)), Step::Data(body)]));
        KlikitVerifyLayer::new(SECRET).layer(slow).oneshot(trickled).await.unwrap();

        let failing =
            service_fn(async |_: Request<VerifiedBody>| Err::<Response<Full<Bytes>>, _>(BoxError::from("no")));
        KlikitVerifyLayer::new(SECRET).layer(failing).oneshot(good()).await.unwrap_err();
    });
    assert_eq!(value(&handle, r#"klikit_ack_seconds_sum{status="202"}"#), Some(3.0));
    assert_eq!(counted(&handle, r#"klikit_ack_seconds_count{status="202"}"#), 1);
    assert_eq!(counted(&handle, r#"klikit_ack_seconds_count{status="error"}"#), 1);
}

#[cfg(feature = "dedupe")]
#[test]
fn duplicates_and_conflicts_are_counted() {
    use tower_klikit::{dedupe::KlikitDedupeLayer, store::MemoryStore};

    let handle = recorded(async |_| {
        let dedupe = KlikitDedupeLayer::new(MemoryStore::new());
        let stack = KlikitVerifyLayer::new(SECRET).layer(dedupe.layer(support::Handler::default()));
        for body in [BODY, BODY, BODY, "{}", "{}"] {
            let request = SignedDelivery::new(SECRET, body).event_id("evt-7").request::<Full<Bytes>>();
            assert_eq!(stack.clone().oneshot(request).await.unwrap().status(), 200);
        }
    });
    // The second `{}` is a conflict with the first body, and a duplicate of its own.
    assert_eq!(counted(&handle, r#"klikit_duplicates_total{tenant="default"}"#), 3);
    assert_eq!(counted(&handle, r#"klikit_conflicts_total{tenant="default"}"#), 2);
}

#[cfg(feature = "inbox")]
#[test]
fn the_inbox_is_told_of_by_its_worker() {
    use tower_klikit::{inbox::Inbox, store::MemoryStore};

    recorded(async |handle| {
        let inbox = Inbox::new(MemoryStore::new());
        let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
        for (n, body) in ["{}", "[1]", "[2]", "[3]", "[3]"].into_iter().enumerate() {
            let request =
                SignedDelivery::new(SECRET, body).event_id(format!("evt-{}", n.min(3))).request::<Full<Bytes>>();
            assert_eq!(stack.clone().oneshot(request).await.unwrap().status(), 200);
        }
        assert_eq!(counted(&handle, r#"klikit_duplicates_total{tenant="default"}"#), 1);
        advance(Duration::from_secs(40)).await;

        // One is dead, one is being handled, and two wait behind it.
        let handler = service_fn(async |request: Request<VerifiedBody>| {
            if request.body().as_ref() != b"{}" {
                std::future::pending::<()>().await;
            }
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            Ok::<_, BoxError>(response)
        });
        let worker = inbox.worker(handler).concurrency(1).run_until(std::future::pending::<()>());
        let worker = tokio::spawn(worker);
        sleep(Duration::from_secs(20)).await;
        let state = |state| counted(&handle, &format!(r#"klikit_inbox_deliveries{{state="{state}"}}"#));
        assert_eq!(["ready", "leased", "dead", "done"].map(state), [2, 1, 1, 0]);
        assert_eq!(counted(&handle, "klikit_inbox_oldest_seconds"), 40 + 15);
        worker.abort();
    });
}

#[test]
fn every_metric_is_described_and_in_the_table() {
    let handle = recorded(async |_| metrics::describe());
    let names = [
        metrics::DELIVERIES,
        metrics::VERIFIED,
        metrics::LAST_VERIFIED,
        metrics::BODY_BYTES,
        metrics::BUFFERED,
        metrics::ACK,
        metrics::DUPLICATES,
        metrics::CONFLICTS,
        metrics::INBOX,
        metrics::INBOX_OLDEST,
    ];
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry/metrics.rs");
    let source = fs::read_to_string(source).unwrap();
    assert_eq!(source.matches("pub const").count(), names.len(), "a metric that is not checked here");
    for name in names {
        assert_eq!(source.matches(&format!("//! | [`{name}`]")).count(), 1, "{name} is not in the table");
    }
    assert_eq!(source.matches("    describe_").count(), names.len());
    drop(handle);
}

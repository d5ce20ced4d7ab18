//! What is counted, as Prometheus would scrape it.
#![cfg(feature = "metrics")]

mod support;

use std::{fs, future::Future, path::Path, sync::Mutex, time::Duration};

use ::metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use support::{
    BODY, SECRET,
    body::{Script, Step},
    send,
};
use tokio::time::{advance, sleep, timeout};
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

fn counted(handle: &PrometheusHandle, name: &str) -> f64 {
    value(handle, name).unwrap_or_else(|| panic!("no {name} in\n{}", handle.render()))
}

fn deliveries(verdict: &str, reason: &str, tenant: &str) -> String {
    format!(r#"klikit_deliveries_total{{verdict="{verdict}",reason="{reason}",tenant="{tenant}"}}"#)
}

fn good() -> Request<Full<Bytes>> {
    SignedDelivery::new(SECRET, BODY).request()
}

#[test]
fn each_verdict_is_counted_once_under_its_reason() {
    let good = || SignedDelivery::new(SECRET, BODY);
    let long = " ".repeat(10 * 1024);
    let whole = |delivery: SignedDelivery| delivery.request_with(|body| Script::new([Step::Data(body)]));
    let with = |step| good().request_with(|_| Script::new([step]));
    let cases = [
        (whole(good().altered()), "signature_mismatch", "default"),
        (whole(good().without_header(&SIGNATURE)), "missing_signature", ""),
        (whole(good().header(SIGNATURE, "sha256=00")), "malformed_signature", ""),
        (whole(good().without_header(&EVENT_ID)), "missing_event_id", ""),
        (whole(good().event_id("")), "malformed_event_id", ""),
        (whole(SignedDelivery::new(SECRET, long)), "body_too_large", "default"),
        (with(Step::Fail), "body_unreadable", "default"),
        (with(Step::Hang), "body_timeout", "default"),
    ];
    let rejected = cases.len();
    let handle = recorded(async |handle| {
        let layer = KlikitVerifyLayer::new(SECRET).body_limit(8 * 1024);
        for (request, reason, tenant) in cases {
            send(&layer, request).await;
            assert_eq!(counted(&handle, &deliveries("rejected", reason, tenant)), 1.0);
        }
        for _ in 0..2 {
            send(&layer, good().request::<Full<Bytes>>()).await;
        }
        let nobody = KlikitVerifyLayer::with_resolver(|_| None);
        send(&nobody, good().request::<Full<Bytes>>()).await;
        assert_eq!(counted(&handle, &deliveries("rejected", "unknown_tenant", "")), 1.0);
    });
    assert_eq!(counted(&handle, &deliveries("verified", "", "default")), 2.0);
    let text = handle.render();
    let all = text.lines().filter(|line| line.starts_with("klikit_deliveries_total"));
    let all: f64 = all.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
    assert_eq!(all, (rejected + 2 + 1) as f64, "{text}");
}

#[test]
fn what_a_layer_will_count_begins_at_zero() {
    let handle = recorded(async |_| {
        let keyring = Keyring::new("bali-bites", "old", WebhookSecret::new("the old one").unwrap());
        keyring.add("new", WebhookSecret::new("the new one").unwrap()).unwrap();
        let layer = KlikitVerifyLayer::with_keyring(keyring);
        // As often as a router likes.
        for _ in 0..2 {
            let _ = layer.layer(support::Handler::default());
        }
    });
    for name in [
        deliveries("verified", "", "bali-bites"),
        deliveries("rejected", "signature_mismatch", "bali-bites"),
        r#"klikit_verified_deliveries_total{tenant="bali-bites",secret_id="old"}"#.to_owned(),
        r#"klikit_verified_deliveries_total{tenant="bali-bites",secret_id="new"}"#.to_owned(),
        r#"klikit_last_verified_timestamp_seconds{tenant="bali-bites"}"#.to_owned(),
    ] {
        assert_eq!(counted(&handle, &name), 0.0, "{name}");
    }
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
    assert_eq!(counted(&handle, r#"klikit_verified_deliveries_total{tenant="bali-bites",secret_id="old"}"#), 1.0);
    assert_eq!(counted(&handle, r#"klikit_verified_deliveries_total{tenant="bali-bites",secret_id="new"}"#), 2.0);
    assert_eq!(counted(&handle, "klikit_body_bytes_count"), 3.0);
    assert_eq!(counted(&handle, "klikit_body_bytes_sum"), (3 * BODY.len()) as f64);
}

#[test]
fn the_last_verified_delivery_has_a_time_and_a_forged_one_has_none() {
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let name = r#"klikit_last_verified_timestamp_seconds{tenant="default"}"#;
    recorded(async |handle| {
        let layer = KlikitVerifyLayer::new(SECRET);
        send(&layer, SignedDelivery::new(SECRET, BODY).altered().request::<Full<Bytes>>()).await;
        assert_eq!(value(&handle, name), Some(0.0));
        let before = now();
        send(&layer, good()).await;
        let at = counted(&handle, name);
        assert!(before <= at && at <= now(), "{before} {at}");
        // A service that is made later takes nothing back.
        send(&layer, SignedDelivery::new(SECRET, BODY).altered().request::<Full<Bytes>>()).await;
        assert_eq!(value(&handle, name), Some(at));
    });
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
            assert_eq!(counted(&handle, "klikit_buffered_bytes"), 160_000.0);
        }
        assert_eq!(counted(&handle, "klikit_buffered_bytes"), 0.0);
    });
    assert_eq!(counted(&handle, &deliveries("abandoned", "", "default")), 2.0);
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

        let (unready, handle) = tower_test::mock::pair::<Request<VerifiedBody>, Response<Full<Bytes>>>();
        drop(handle);
        KlikitVerifyLayer::new(SECRET).layer(unready).oneshot(good()).await.unwrap_err();

        let hanging = service_fn(async |_: Request<VerifiedBody>| {
            std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>().await
        });
        let answer = KlikitVerifyLayer::new(SECRET).layer(hanging).oneshot(good());
        timeout(Duration::from_secs(10), answer).await.unwrap_err();
    });
    assert_eq!(value(&handle, r#"klikit_ack_seconds_sum{status="202"}"#), Some(3.0));
    assert_eq!(counted(&handle, r#"klikit_ack_seconds_count{status="202"}"#), 1.0);
    assert_eq!(counted(&handle, r#"klikit_ack_seconds_count{status="error"}"#), 2.0);
    assert_eq!(value(&handle, r#"klikit_ack_seconds_sum{status="none"}"#), Some(10.0));
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
    assert_eq!(counted(&handle, r#"klikit_duplicates_total{tenant="default"}"#), 3.0);
    assert_eq!(counted(&handle, r#"klikit_conflicts_total{tenant="default"}"#), 2.0);
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
        assert_eq!(counted(&handle, r#"klikit_duplicates_total{tenant="default"}"#), 1.0);
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
        assert_eq!(["ready", "leased", "dead", "done"].map(state), [2.0, 1.0, 1.0, 0.0]);
        assert_eq!(counted(&handle, "klikit_inbox_oldest_seconds"), 55.0);
        assert!(counted(&handle, "klikit_inbox_counted_timestamp_seconds") > 0.0);
        worker.abort();
    });
}

#[cfg(feature = "inbox")]
#[test]
fn a_worker_that_is_told_to_counts_nothing() {
    use tower_klikit::{inbox::Inbox, store::MemoryStore};

    let handle = recorded(async |_| {
        let worker = Inbox::new(MemoryStore::new()).worker(support::Handler::default()).metrics_interval(None);
        worker.run_until(sleep(Duration::from_secs(60))).await;
    });
    assert!(!handle.render().contains("klikit_inbox"), "{}", handle.render());
}

/// A recorder that keeps what it is told of metrics, and counts nothing.
#[derive(Default)]
struct Described(Mutex<Vec<String>>);

impl Described {
    fn add(&self, key: &KeyName) {
        self.0.lock().unwrap().push(key.as_str().to_owned());
    }
}

impl Recorder for Described {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.add(&key);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.add(&key);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.add(&key);
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn every_metric_is_described_and_in_the_table() {
    let recorder = Described::default();
    ::metrics::with_local_recorder(&recorder, metrics::describe);
    let mut described = recorder.0.into_inner().unwrap();
    let mut names = [
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
        metrics::INBOX_COUNTED,
    ];
    names.sort();
    described.sort();
    assert_eq!(described, names);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry/metrics.rs");
    let source = fs::read_to_string(source).unwrap();
    assert_eq!(source.matches(": &str = ").count(), names.len(), "a metric that is not checked here");
    for name in names {
        assert_eq!(source.matches(&format!("//! | [`{name}`]")).count(), 1, "{name} is not in the table");
    }
}

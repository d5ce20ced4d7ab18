//! Tests of metrics, as Prometheus would scrape them.
#![cfg(feature = "metrics")]

mod inbox;
mod repeated;
mod table;

use std::{
    future::Future,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::time::{sleep, timeout};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_klikit::{
    Keyring, KlikitVerifyLayer, VerifiedBody, WebhookSecret,
    header::{EVENT_ID, SIGNATURE},
    testing::SignedDelivery,
};

use crate::support::{
    BODY, SECRET,
    body::{Script, Step},
    send,
};

/// Runs a test on a paused clock, with a recorder of its own. Returns the handle of the recorder.
fn recorded<F: Future<Output = ()>>(run: impl FnOnce(PrometheusHandle) -> F) -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    ::metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(handle.clone()));
    });
    handle
}

/// Returns the value of a metric. `name` includes the labels.
fn value(handle: &PrometheusHandle, name: &str) -> Option<f64> {
    let text = handle.render();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

/// Returns the value of a metric that must exist.
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
    let cases = [
        (SignedDelivery::new(SECRET, BODY).altered(), "signature_mismatch", "default"),
        (SignedDelivery::new(SECRET, BODY).without_header(&SIGNATURE), "missing_signature", ""),
        (SignedDelivery::new(SECRET, BODY).header(SIGNATURE, "sha256=00"), "malformed_signature", ""),
        (SignedDelivery::new(SECRET, BODY).without_header(&EVENT_ID), "missing_event_id", ""),
        (SignedDelivery::new(SECRET, BODY).event_id(""), "malformed_event_id", ""),
    ];
    let rejected = cases.len();
    let handle = recorded(async |handle| {
        let layer = KlikitVerifyLayer::new(SECRET);
        for (delivery, reason, tenant) in cases {
            send(&layer, delivery.request::<Full<Bytes>>()).await;
            assert_eq!(counted(&handle, &deliveries("rejected", reason, tenant)), 1.0);
        }
        send(&layer, good()).await;
        send(&layer, good()).await;
    });
    assert_eq!(counted(&handle, &deliveries("verified", "", "default")), 2.0);
    let text = handle.render();
    let all: f64 = text
        .lines()
        .filter(|line| line.starts_with("klikit_deliveries_total"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert_eq!(all, (rejected + 2) as f64, "{text}");
}

#[test]
fn other_rejections_are_counted_under_their_reasons() {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    let delivery = || SignedDelivery::new(SECRET, BODY);
    let layer = || KlikitVerifyLayer::new(SECRET);
    let steps = |steps: Vec<Step>| delivery().request_with(|_| Script::new(steps));
    let whole = |delivery: SignedDelivery| delivery.request_with(|body| Script::frames([body]));
    let stamped = |at| SignedDelivery::timestamped(SECRET, at, "evt-1", "klikit.order.created.v2", BODY);
    let now = SystemTime::now();
    let two = || vec![Step::Data("{".into()), Step::Data("}".into())];
    let cases = [
        (layer().body_limit(9), whole(delivery()), "body_too_large", "default"),
        (layer(), steps(vec![Step::Hang]), "body_timeout", "default"),
        (layer(), steps(vec![Step::Fail]), "body_unreadable", "default"),
        (layer().buffer_budget(1), steps(two()), "overloaded", "default"),
        (layer().require_basic_auth("partner", "key"), whole(delivery()), "invalid_credentials", ""),
        (KlikitVerifyLayer::with_resolver(|_| None), whole(delivery()), "unknown_tenant", ""),
        (layer().accept_timestamped(HOUR), whole(stamped(now - 2 * HOUR)), "stale_timestamp", ""),
        (layer().accept_timestamped(HOUR), whole(stamped(now).event_id("evt-2")), "event_id_mismatch", "default"),
        (layer().accept_timestamped(HOUR), whole(SignedDelivery::new(SECRET, "1.{}")), "timestamp_in_body", "default"),
    ];
    let handle = recorded(async |handle| {
        for (layer, request, reason, tenant) in cases {
            send(&layer, request).await;
            assert_eq!(counted(&handle, &deliveries("rejected", reason, tenant)), 1.0);
        }
    });
    assert!(!handle.render().contains("klikit_ack_seconds"), "a rejected delivery has an ack time");
}

#[test]
fn counters_of_a_layer_begin_at_zero() {
    let handle = recorded(async |_| {
        let keyring = Keyring::new("bali-bites", "old", WebhookSecret::new("the old one").unwrap());
        keyring.add("new", WebhookSecret::new("the new one").unwrap()).unwrap();
        let layer = KlikitVerifyLayer::with_keyring(keyring);
        // A router may call `layer` more than once.
        for _ in 0..2 {
            let _ = layer.layer(crate::support::Handler::default());
        }
    });
    for name in [
        deliveries("verified", "", "bali-bites"),
        deliveries("rejected", "signature_mismatch", "bali-bites"),
        r#"klikit_verified_deliveries_total{tenant="bali-bites",secret_id="old"}"#.to_owned(),
        r#"klikit_verified_deliveries_total{tenant="bali-bites",secret_id="new"}"#.to_owned(),
        r#"klikit_last_verified_timestamp_seconds{tenant="bali-bites"}"#.to_owned(),
        #[cfg(feature = "dedupe")]
        r#"klikit_duplicates_total{tenant="bali-bites"}"#.to_owned(),
        #[cfg(feature = "dedupe")]
        r#"klikit_conflicts_total{tenant="bali-bites"}"#.to_owned(),
        #[cfg(feature = "inbox")]
        r#"klikit_inbox_dead_letters_total{tenant="bali-bites"}"#.to_owned(),
        "klikit_buffered_bytes".to_owned(),
    ] {
        assert_eq!(value(&handle, &name), Some(0.0), "{name}");
    }
}

#[test]
fn known_keyrings_of_a_resolver_begin_at_zero() {
    let keyring = |tenant: &str| Keyring::new(tenant, "2026-11", WebhookSecret::new(SECRET).unwrap());
    let last = |tenant| format!("klikit_last_verified_timestamp_seconds{{tenant=\"{tenant}\"}}");
    let handle = recorded(async |_| {
        let layer = KlikitVerifyLayer::with_resolver(|_| None);
        let _ =
            layer.known_keyrings([keyring("warung"), keyring("bali-bites")]).layer(crate::support::Handler::default());
    });
    assert_eq!([last("warung"), last("bali-bites")].map(|name| value(&handle, &name)), [Some(0.0); 2]);
}

#[test]
fn a_verified_delivery_is_counted_under_its_secret() {
    let handle = recorded(async |_| {
        let keyring = Keyring::new("bali-bites", "old", WebhookSecret::new("the old one").unwrap());
        keyring.add("new", WebhookSecret::new("the new one").unwrap()).unwrap();
        let layer = KlikitVerifyLayer::with_keyring(keyring);
        for secret in ["the old one", "the new one", "the new one", "a forger's own"] {
            send(&layer, SignedDelivery::new(secret, BODY).request::<Full<Bytes>>()).await;
        }
    });
    assert_eq!(counted(&handle, r#"klikit_verified_deliveries_total{tenant="bali-bites",secret_id="old"}"#), 1.0);
    assert_eq!(counted(&handle, r#"klikit_verified_deliveries_total{tenant="bali-bites",secret_id="new"}"#), 2.0);
    assert_eq!(counted(&handle, &deliveries("verified", "", "bali-bites")), 3.0);
    assert!(counted(&handle, r#"klikit_last_verified_timestamp_seconds{tenant="bali-bites"}"#) > 0.0);
    assert_eq!(counted(&handle, &deliveries("rejected", "signature_mismatch", "bali-bites")), 1.0);
    assert_eq!(counted(&handle, "klikit_body_bytes_count"), 3.0);
    assert_eq!(counted(&handle, "klikit_body_bytes_sum"), (3 * BODY.len()) as f64);
}

#[test]
fn only_verified_deliveries_have_a_time() {
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
        // A service that is made later does not reset the time.
        send(&layer, SignedDelivery::new(SECRET, BODY).altered().request::<Full<Bytes>>()).await;
        assert_eq!(value(&handle, name), Some(at));
    });
}

#[test]
fn buffered_bytes_are_counted_until_they_are_freed() {
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
                // The first poll reads the first piece, the second one reads the rest and hangs.
                for _ in 0..2 {
                    assert!(futures_util::poll!(&mut *waiting).is_pending());
                }
            }
            assert_eq!(counted(&handle, "klikit_buffered_bytes"), 2.0 * 60_000.0);
        }
        assert_eq!(counted(&handle, "klikit_buffered_bytes"), 0.0);
    });
    assert_eq!(counted(&handle, &deliveries("abandoned", "", "default")), 2.0);
}

#[test]
fn buffer_gauge_is_right_when_buffers_grow_or_fail() {
    let piece = || Step::Data(vec![b' '; 20_000].into());
    let pieces = |count: usize| (0..count).map(|_| piece()).collect::<Vec<_>>();
    let request = |steps: Vec<Step>| SignedDelivery::new(SECRET, BODY).request_with(|_| Script::new(steps));
    let hanging = |count| request([pieces(count), vec![Step::Hang]].concat());
    recorded(async |handle| {
        let buffered = || counted(&handle, "klikit_buffered_bytes");
        let layer = KlikitVerifyLayer::new(SECRET).buffer_budget(180_000);
        let large = |bytes: usize| request(vec![Step::Data(vec![b' '; bytes].into()), Step::Hang]);
        {
            // 100 kB in two blocks of 64 KiB.
            let mut growing = Box::pin(send(&layer, hanging(5)));
            assert!(futures_util::poll!(&mut growing).is_pending());
            assert_eq!(buffered(), 131_072.0);
            assert_eq!(send(&layer, large(180_001)).await.0.status, 503);
            assert_eq!(buffered(), 131_072.0, "no body is evicted for a body over the budget");

            let mut other = Box::pin(send(&layer, large(150_000)));
            assert!(futures_util::poll!(&mut other).is_pending());
            assert_eq!(buffered(), 150_000.0, "the other body was evicted");
            assert_eq!(growing.await.0.status, 503);
        }
        assert_eq!(buffered(), 0.0);

        // The body grows by a block, for which one of three other bodies is evicted.
        let steps = [pieces(3), vec![Step::Yield], pieces(3)].concat();
        let mut growing = Box::pin(send(&layer, request(steps)));
        assert!(futures_util::poll!(&mut growing).is_pending());
        let mut others = [hanging(1), hanging(1), hanging(1)].map(|request| Box::pin(send(&layer, request)));
        for other in &mut others {
            assert!(futures_util::poll!(other).is_pending());
        }
        assert_eq!(buffered(), 65_536.0 + 60_000.0);
        assert_eq!(growing.await.0.status, 403);
        assert_eq!(buffered(), 40_000.0);
    });
}

#[test]
fn evicted_body_counts_as_rejected_without_sender() {
    let handle = recorded(async |_| {
        let layer = KlikitVerifyLayer::new(SECRET).buffer_budget(40_000);
        let hanging = || {
            let steps = [Step::Data(vec![b' '; 30_000].into()), Step::Hang];
            SignedDelivery::new(SECRET, BODY).request_with(|_| Script::new(steps))
        };
        let mut evicted = Box::pin(send(&layer, hanging()));
        assert!(futures_util::poll!(&mut evicted).is_pending());
        let mut newcomer = Box::pin(send(&layer, hanging()));
        assert!(futures_util::poll!(&mut newcomer).is_pending());
        assert!(futures_util::poll!(&mut evicted).is_pending(), "the layer reads the rest for a second");
    });
    assert_eq!(counted(&handle, &deliveries("rejected", "overloaded", "default")), 1.0);
    assert_eq!(counted(&handle, &deliveries("abandoned", "", "default")), 1.0);
}

#[test]
fn delivery_behind_a_busy_handler_is_counted_once() {
    let handle = recorded(async |_| {
        let slow = service_fn(async |_: Request<VerifiedBody>| {
            sleep(Duration::from_secs(1)).await;
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
        });
        let stack = KlikitVerifyLayer::new(SECRET).layer(tower::limit::ConcurrencyLimit::new(slow, 1));
        let answers = [good(), good(), good()].map(|request| stack.clone().oneshot(request));
        futures_util::future::try_join_all(answers).await.unwrap();
    });
    assert_eq!(counted(&handle, &deliveries("verified", "", "default")), 3.0);
    assert_eq!(counted(&handle, r#"klikit_ack_seconds_count{status="200"}"#), 3.0);
}

#[test]
fn dropped_verified_delivery_is_not_abandoned() {
    let handle = recorded(async |_| {
        let hanging = service_fn(async |_: Request<VerifiedBody>| {
            std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>().await
        });
        let answer = KlikitVerifyLayer::new(SECRET).layer(hanging).oneshot(good());
        timeout(Duration::from_secs(10), answer).await.unwrap_err();
    });
    assert_eq!(counted(&handle, &deliveries("verified", "", "default")), 1.0);
    assert!(!handle.render().contains("abandoned"));
    assert_eq!(value(&handle, r#"klikit_ack_seconds_sum{status="none"}"#), Some(10.0));
}

#[test]
fn ack_time_is_recorded_by_status() {
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

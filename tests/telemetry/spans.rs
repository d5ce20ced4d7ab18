//! Tests of the span of each delivery, and of warnings about slow responses.
#![cfg(feature = "tracing")]

use std::{future::Future, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::{sleep, timeout};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_klikit::{
    EventType, Keyring, KlikitVerifyLayer, VerifiedBody, WebhookSecret, header::SIGNATURE, testing::SignedDelivery,
};
use tower_klikit_test_support::{log, log::Log};
use tracing_subscriber::{filter::LevelFilter, fmt::format::FmtSpan};

use crate::support::{
    BODY, SECRET,
    body::{Script, Step},
    send,
};

/// Returns what is logged at this level while `run` runs on a paused clock. Each closed span is one line.
fn logged<F: Future<Output = ()>>(level: LevelFilter, run: impl FnOnce() -> F) -> String {
    let log = Log::default();
    log.capture_while(level, FmtSpan::CLOSE, || log::paused(run()));
    log.text()
}

/// Returns the line of the only span that has closed.
fn span(log: &str) -> &str {
    let mut closed = log.lines().filter(|line| line.contains("close time.busy"));
    let line = closed.next().unwrap_or_else(|| panic!("no span: {log}"));
    assert_eq!(closed.next(), None, "{log}");
    line
}

fn good() -> SignedDelivery {
    SignedDelivery::new(SECRET, BODY).event_id("evt-7")
}

/// Creates a handler that takes this long.
fn taking(
    time: Duration,
) -> impl tower::Service<Request<VerifiedBody>, Response = Response<Full<Bytes>>, Error = BoxError, Future: Send> + Clone
{
    service_fn(move |_: Request<VerifiedBody>| async move {
        sleep(time).await;
        Ok(Response::new(Full::default()))
    })
}

#[test]
fn span_of_a_verified_delivery_has_its_fields() {
    let log = logged(LevelFilter::TRACE, || async {
        let keyring = Keyring::new("bali-bites", "2026-06", WebhookSecret::new(SECRET).unwrap());
        keyring.add("2026-11", WebhookSecret::new("the new one").unwrap()).unwrap();
        let delivery = good().event_type(EventType::OrderCartUpdated);
        let halves = |body: Bytes| {
            [Step::Data(body.slice(..9)), Step::Wait(Duration::from_millis(250)), Step::Data(body.slice(9..))]
        };
        let request = delivery.request_with(|body| Script::new(halves(body)));
        send(&KlikitVerifyLayer::with_keyring(keyring), request).await;
    });
    let bytes = format!("bytes={}", BODY.len());
    for field in [
        "klikit_delivery{",
        r#"event_id="evt-7""#,
        r#"event_type="klikit.order.cart.updated""#,
        r#"tenant="bali-bites""#,
        r#"secret_id="2026-06""#,
        r#"verdict="verified""#,
        "status=200",
        &bytes,
        "body_wait_ms=250",
        "hash_us=",
    ] {
        assert!(span(&log).contains(field), "{field}: {log}");
    }
    assert_eq!(log.lines().count(), 1, "{log}");
}

#[test]
fn span_of_a_rejected_delivery_has_its_reason() {
    let log = logged(LevelFilter::INFO, || async {
        send(&KlikitVerifyLayer::new(SECRET), good().altered().request::<Full<Bytes>>()).await;
        send(&KlikitVerifyLayer::new(SECRET), good().without_header(&SIGNATURE).request::<Full<Bytes>>()).await;
    });
    let [warning, closed, unsigned, unsigned_closed] = &log.lines().collect::<Vec<_>>()[..] else { panic!("{log}") };
    assert!(warning.contains("WARN") && warning.contains("tower_klikit::verify: rejected a delivery"), "{log}");
    let bytes = format!("bytes={}", BODY.len());
    for field in [
        r#"verdict="rejected""#,
        r#"reason="signature_mismatch""#,
        "status=403",
        r#"tenant="default""#,
        r#"event_id="evt-7""#,
        r#"event_type="klikit.order.created.v2""#,
        &bytes,
    ] {
        assert!(closed.contains(field), "{field}: {log}");
    }
    assert_each_once(unsigned, &[r#"reason="missing_signature""#, "status=403"]);
    for line in [unsigned, unsigned_closed] {
        assert!(line.contains(r#"event_id="evt-7""#) && !line.contains("tenant"), "{log}");
        assert!(line.contains(r#"event_type="klikit.order.created.v2" verdict"#), "{log}");
    }
    assert!(unsigned_closed.contains(r#"verdict="rejected""#), "{log}");
}

#[test]
fn logged_status_is_that_of_the_response() {
    let log = logged(LevelFilter::INFO, || async {
        let layer = KlikitVerifyLayer::new(SECRET).on_rejection(|rejection| {
            let mut response = rejection.to_response();
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            response
        });
        send(&layer, good().altered().request::<Full<Bytes>>()).await;
    });
    assert!(log.lines().count() == 2 && log.lines().all(|line| line.contains("status=401")), "{log}");
}

#[test]
fn span_of_a_rejected_delivery_has_its_wait() {
    let log = logged(LevelFilter::INFO, || async {
        let steps = |body| [Step::Wait(Duration::from_millis(250)), Step::Data(body), Step::Data("\n".into())];
        send(&KlikitVerifyLayer::new(SECRET), good().request_with(|body| Script::new(steps(body)))).await;
    });
    assert!(span(&log).contains(r#"verdict="rejected""#) && span(&log).contains("body_wait_ms=250"), "{log}");
    assert!(span(&log).contains("hash_us="), "{log}");
}

/// Asserts that the line has each of these facts once.
#[track_caller]
fn assert_each_once(line: &str, facts: &[&str]) {
    for fact in facts {
        let name = fact.split('=').next().unwrap();
        assert!(line.contains(fact) && line.matches(&format!("{name}=")).count() == 1, "{fact}: {line}");
    }
}

/// Subscribers print the span's fields in front of the line's own.
#[test]
fn warning_has_each_fact_once() {
    let rejection = logged(LevelFilter::INFO, || async {
        let steps = |body| [Step::Wait(Duration::from_millis(8_250)), Step::Data(body)];
        let request = good().altered().request_with(|body| Script::new(steps(body)));
        send(&KlikitVerifyLayer::new(SECRET), request).await;
    });
    let bytes = format!("bytes={}", BODY.len());
    let ids = [r#"event_id="evt-7""#, r#"tenant="default""#, r#"event_type="klikit.order.created.v2""#];
    let lines: Vec<_> = rejection.lines().collect();
    let [rejected, slow, _closed] = lines[..] else { panic!("{rejection}") };
    for line in [rejected, slow] {
        assert_each_once(line, &ids);
        assert_each_once(line, &["status=403", r#"verdict="rejected""#, &bytes, "body_wait_ms=8250", "hash_us="]);
    }
    assert_each_once(rejected, &[r#"reason="signature_mismatch""#]);
    assert_each_once(slow, &["elapsed=8.25s"]);

    let abandoned = logged(LevelFilter::INFO, || async {
        let part = |body: Bytes| Script::new([Step::Data(body.slice(..20)), Step::Hang]);
        let request = good().request_with(part);
        timeout(Duration::from_secs(9), send(&KlikitVerifyLayer::new(SECRET), request)).await.unwrap_err();
    });
    let line = abandoned.lines().next().unwrap();
    assert_each_once(line, &ids);
    assert_each_once(line, &[r#"verdict="abandoned""#, "bytes=20", "body_wait_ms=9000"]);
}

#[test]
fn warning_about_unsent_rejection_has_each_fact_once() {
    let log = logged(LevelFilter::INFO, || async {
        let layer = KlikitVerifyLayer::new(SECRET).body_limit(BODY.len() - 1);
        let steps = |body| [Step::Data(body), Step::Hang];
        let request = good().request_with(|body| Script::new(steps(body)));
        assert!(send(&layer, request).now_or_never().is_none());
    });
    let lines: Vec<_> = log.lines().collect();
    let [warning, closed] = lines[..] else { panic!("{log}") };
    let facts = [r#"event_id="evt-7""#, r#"tenant="default""#, r#"reason="body_too_large""#, r#"verdict="rejected""#];
    assert_each_once(warning, &facts);
    assert_each_once(closed, &facts);
}

/// Spans are disabled in a program that enables only warnings.
#[test]
fn warning_has_the_fields_of_its_span() {
    let log = logged(LevelFilter::WARN, || async {
        send(&KlikitVerifyLayer::new(SECRET), good().altered().request::<Full<Bytes>>()).await;
    });
    for field in ["status=403", r#"reason="signature_mismatch""#, r#"event_id="evt-7""#, r#"tenant="default""#] {
        assert!(log.contains(field), "{field}: {log}");
    }
}

#[test]
fn hashing_time_covers_all_pieces() {
    // Hashing the whole body takes more than 20 microseconds on any machine. Hashing only the rest takes less.
    let body = Bytes::from(vec![b' '; KlikitVerifyLayer::DEFAULT_BODY_LIMIT]);
    for pieces in [1, 2, 32] {
        let request =
            SignedDelivery::new(SECRET, body.clone()).request_with(|body| Script::chunked(&body, body.len() / pieces));
        let log = Log::default();
        log.capture_while(LevelFilter::INFO, FmtSpan::CLOSE, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(send(&KlikitVerifyLayer::new(SECRET), request));
        });
        let log = log.text();
        let (_, hashed) = span(&log).split_once("hash_us=").unwrap_or_else(|| panic!("{log}"));
        let digits = hashed.split(|char: char| !char.is_ascii_digit()).next().unwrap();
        assert!(digits.parse::<u64>().unwrap() >= 20, "in {pieces} pieces: {log}");
    }
}

#[test]
fn hang_up_before_the_verdict_is_abandoned() {
    let log = logged(LevelFilter::INFO, || async {
        let part = |body: Bytes| Script::new([Step::Data(body.slice(..9)), Step::Data(body.slice(9..20)), Step::Hang]);
        let request = good().request_with(part);
        timeout(Duration::from_secs(9), send(&KlikitVerifyLayer::new(SECRET), request)).await.unwrap_err();
    });
    for field in
        [r#"verdict="abandoned""#, r#"event_id="evt-7""#, r#"tenant="default""#, "bytes=20", "body_wait_ms=9000"]
    {
        assert!(span(&log).contains(field), "{field}: {log}");
    }
    let warning = log.lines().next().unwrap();
    assert!(warning.contains("WARN") && warning.contains(r#"event_id="evt-7""#), "{log}");
    assert!(
        warning.contains("before its body was complete: if klikit sent it") && warning.contains("bytes=20"),
        "{log}"
    );
}

#[test]
fn span_of_a_slow_body_has_its_wait() {
    let log = logged(LevelFilter::INFO, || async {
        let half = |body: Bytes| Script::new([Step::Data(body.slice(..20)), Step::Hang]);
        send(&KlikitVerifyLayer::new(SECRET), good().request_with(half)).await;
    });
    for field in ["status=408", r#"reason="body_timeout""#, "bytes=20", "body_wait_ms=10000"] {
        assert!(span(&log).contains(field), "{field}: {log}");
    }
}

#[test]
fn resolver_logs_within_the_span() {
    let log = logged(LevelFilter::INFO, || async {
        let layer = KlikitVerifyLayer::with_resolver(|_| {
            tracing::info!("looked for a tenant");
            None
        });
        send(&layer, good().request::<Full<Bytes>>()).await;
    });
    let line = log.lines().find(|line| line.contains("looked for a tenant")).unwrap();
    assert!(line.contains("klikit_delivery"), "{log}");
}

#[test]
fn handler_logs_within_the_span() {
    let log = logged(LevelFilter::INFO, || async {
        let handler = service_fn(async |_: Request<VerifiedBody>| {
            tokio::task::yield_now().await;
            tracing::info!("ring the kitchen");
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
        });
        #[cfg(feature = "dedupe")]
        let handler =
            tower_klikit::dedupe::KlikitDedupeLayer::new(tower_klikit::store::MemoryStore::new()).layer(handler);
        KlikitVerifyLayer::new(SECRET).layer(handler).oneshot(good().request::<Full<Bytes>>()).await.unwrap();
    });
    let line = log.lines().find(|line| line.contains("ring the kitchen")).unwrap();
    assert!(line.contains("klikit_delivery{event_id=\"evt-7\""), "{log}");
}

#[test]
fn response_after_eight_seconds_is_a_warning() {
    let answered_after = |millis| {
        logged(LevelFilter::WARN, || async move {
            let stack = KlikitVerifyLayer::new(SECRET).layer(taking(Duration::from_millis(millis)));
            let response = stack.oneshot(good().request::<Full<Bytes>>()).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        })
    };
    assert_eq!(answered_after(7_999), "");
    let log = answered_after(8_000);
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("klikit counts this as a timeout after 10 s"), "{log}");
    assert!(log.contains(r#"event_id="evt-7""#) && log.contains("elapsed=8s"), "{log}");
    assert!(log.contains("status=200") && log.contains(r#"tenant="default""#), "{log}");
}

#[test]
fn rejection_after_eight_seconds_is_a_warning() {
    let rejected_after = |millis| {
        logged(LevelFilter::WARN, || async move {
            let steps = |body| [Step::Wait(Duration::from_millis(millis)), Step::Data(body)];
            let request = good().altered().request_with(|body| Script::new(steps(body)));
            send(&KlikitVerifyLayer::new(SECRET), request).await;
        })
    };
    assert_eq!(rejected_after(7_999).lines().count(), 1);
    let log = rejected_after(8_000);
    let [rejected, slow] = &log.lines().collect::<Vec<_>>()[..] else { panic!("{log}") };
    assert!(rejected.contains(r#"reason="signature_mismatch""#), "{log}");
    assert!(slow.contains("klikit counts this as a timeout after 10 s") && slow.contains("elapsed=8s"), "{log}");
    assert!(slow.contains("status=403") && slow.contains(r#"tenant="default""#), "{log}");
}

#[test]
fn hang_up_after_eight_seconds_is_a_warning() {
    let hung_up_after = |seconds| {
        logged(LevelFilter::WARN, || async move {
            let stack = KlikitVerifyLayer::new(SECRET).layer(taking(Duration::from_secs(60)));
            let answer = stack.oneshot(good().request::<Full<Bytes>>());
            timeout(Duration::from_secs(seconds), answer).await.unwrap_err();
        })
    };
    assert_eq!(hung_up_after(7), "", "an early hang-up is not klikit's timeout");
    let log = hung_up_after(10);
    assert!(log.contains("before it was answered: klikit counts this as a timeout after 10 s"), "{log}");
    assert!(log.contains(r#"event_id="evt-7""#) && log.contains(r#"tenant="default""#), "{log}");
}

#[test]
fn warning_about_a_hang_up_is_within_the_span() {
    let log = logged(LevelFilter::INFO, || async {
        let stack = KlikitVerifyLayer::new(SECRET).layer(taking(Duration::from_secs(60)));
        let answer = stack.oneshot(good().request::<Full<Bytes>>());
        timeout(Duration::from_secs(10), answer).await.unwrap_err();
    });
    let [warning, closed] = &log.lines().collect::<Vec<_>>()[..] else { panic!("{log}") };
    assert!(warning.contains("WARN klikit_delivery{event_id=\"evt-7\""), "{log}");
    assert!(closed.contains(r#"verdict="verified""#) && !closed.contains("status="), "{log}");
}

#[cfg(feature = "inbox")]
#[test]
fn each_attempt_of_a_worker_has_a_span() {
    use tower_klikit::{inbox::Inbox, store::MemoryStore};

    let log = logged(LevelFilter::INFO, || async {
        let inbox = Inbox::new(MemoryStore::new());
        let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
        stack.oneshot(good().request::<Full<Bytes>>()).await.unwrap();
        let handler = service_fn(async |_: Request<VerifiedBody>| {
            tracing::info!("ring the kitchen");
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
        });
        inbox.worker(handler).run_until(sleep(Duration::from_secs(1))).await;
    });
    let line = log.lines().find(|line| line.contains("ring the kitchen")).unwrap();
    assert!(line.contains(r#"klikit_attempt{event_id="evt-7" tenant="default" delivery_id=1 attempt=1}"#), "{log}");
}

#[cfg(feature = "dedupe")]
#[test]
fn duplicate_is_logged_at_debug_level() {
    use tower_klikit::{dedupe::KlikitDedupeLayer, store::MemoryStore};

    let log = logged(LevelFilter::DEBUG, || async {
        let dedupe = KlikitDedupeLayer::new(MemoryStore::new());
        let stack = KlikitVerifyLayer::new(SECRET).layer(dedupe.layer(crate::support::Handler::default()));
        for _ in 0..2 {
            stack.clone().oneshot(good().request::<Full<Bytes>>()).await.unwrap();
        }
    });
    let lines: Vec<_> = log.lines().filter(|line| line.contains("ignored a duplicate")).collect();
    assert!(lines.len() == 1 && lines[0].contains("DEBUG") && lines[0].contains("evt-7"), "{log}");
}

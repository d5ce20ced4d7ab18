//! Tests that the lines that a sender can cause without a secret are logged at a bounded rate.

use std::time::Duration;

use futures_util::FutureExt;
use http::Response;
use tower::{Layer, ServiceExt};
#[cfg(feature = "inbox")]
use tower_klikit::inbox::Inbox;
use tower_klikit::{dedupe::KlikitDedupeLayer, store::MemoryStore};

use super::*;
use crate::support::body::{Script, Step};

/// Sends a request `times` times.
async fn flood<B>(layer: &KlikitVerifyLayer, times: usize, request: impl Fn() -> Request<B>)
where
    B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    for _ in 0..times {
        send(layer, request()).await;
    }
}

#[test]
fn flood_of_rejections_is_logged_at_a_bounded_rate() {
    let forged = || SignedDelivery::new(SECRET, BODY).altered().request::<Full<Bytes>>();
    let unsigned = || SignedDelivery::new(SECRET, BODY).without_header(&SIGNATURE).request::<Full<Bytes>>();
    let log = log_of_task(async {
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
    let log = log_of_task(tokio::task::LocalSet::new().run_until(async move {
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

#[test]
fn flood_of_hang_ups_is_logged_at_a_bounded_rate() {
    let too_large = || {
        let steps = [Step::Data(BODY.into()), Step::Hang];
        SignedDelivery::new(SECRET, BODY).request_with(|_| Script::new(steps))
    };
    let log = log_of_task(async {
        let layer = KlikitVerifyLayer::new(SECRET).body_limit(BODY.len() - 1);
        let hang_up = || assert!(send(&layer, too_large()).now_or_never().is_none());
        (0..1000).for_each(|_| hang_up());
        tokio::time::advance(Duration::from_secs(1)).await;
        hang_up();
    });
    assert_eq!(lines_with(&log, "dropped before it was answered"), (11, 990), "{log}");
    assert_eq!(log.lines().count(), 11, "{log}");
}

#[test]
fn flood_of_replaced_statuses_is_bounded() {
    let layer = KlikitVerifyLayer::new(SECRET).on_rejection(|_| Response::new(Bytes::new()));
    let forged = || SignedDelivery::new(SECRET, BODY).altered().request::<Full<Bytes>>();
    let log = log_of_task(async { flood(&layer, 1000, forged).await });
    assert_eq!(lines_with(&log, "on_rejection returned status").0, 10, "{log}");
    assert_eq!(log.lines().count(), 20, "{log}");
}

/// Anybody who has captured a delivery can cause these lines.
#[test]
fn flood_of_replays_is_logged_at_a_bounded_rate() {
    let log = log_of_task(async {
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
        let log = log_of_task(async {
            let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
            for _ in 0..1000 {
                assert_eq!(stack.clone().oneshot(evt_7()).await.unwrap().status(), 503);
            }
        });
        assert_eq!(lines_with(&log, text).0, 10, "{log}");
        assert!(log.lines().count() <= 11, "{log}");
    }
}

//! Tests of the metrics of duplicates and conflicts.
#![cfg(feature = "dedupe")]

#[cfg(feature = "inbox")]
use tower_klikit::inbox::Inbox;
use tower_klikit::{
    dedupe::{ConflictPolicy, KlikitDedupeLayer},
    store::MemoryStore,
};

use super::*;

#[test]
fn duplicates_and_conflicts_are_counted() {
    let handle = recorded(async |_| {
        let dedupe = KlikitDedupeLayer::new(MemoryStore::new());
        let stack = KlikitVerifyLayer::new(SECRET).layer(dedupe.layer(crate::support::Handler::default()));
        for body in [BODY, BODY, BODY, "{}", "{}"] {
            let request = SignedDelivery::new(SECRET, body).event_id("evt-7").request::<Full<Bytes>>();
            assert_eq!(stack.clone().oneshot(request).await.unwrap().status(), 200);
        }
    });
    // The second `{}` conflicts with the first body, and is a duplicate of the first `{}`.
    assert_eq!(counted(&handle, r#"klikit_duplicates_total{tenant="default"}"#), 3.0);
    assert_eq!(counted(&handle, r#"klikit_conflicts_total{tenant="default"}"#), 2.0);
}

#[cfg(feature = "inbox")]
#[test]
fn duplicates_count_for_the_tenant_under_any_scope() {
    let handle = recorded(async |_| {
        let keyring = Keyring::new("bali-bites", "2026-06", WebhookSecret::new(SECRET).unwrap());
        let verify = KlikitVerifyLayer::with_keyring(keyring);
        let dedupe = KlikitDedupeLayer::new(MemoryStore::new()).scope("all of them");
        let inline = verify.layer(dedupe.layer(crate::support::Handler::default()));
        let stored = verify.layer(Inbox::new(MemoryStore::new()).scope("all of them").acceptor());
        for body in [BODY, BODY, "{}"] {
            let request = || SignedDelivery::new(SECRET, body).event_id("evt-7").request::<Full<Bytes>>();
            assert_eq!(inline.clone().oneshot(request()).await.unwrap().status(), 200);
            assert_eq!(stored.clone().oneshot(request()).await.unwrap().status(), 200);
        }
    });
    assert_eq!(counted(&handle, r#"klikit_duplicates_total{tenant="bali-bites"}"#), 2.0);
    assert_eq!(counted(&handle, r#"klikit_conflicts_total{tenant="bali-bites"}"#), 2.0);
}

#[test]
fn conflict_policies_count_conflicts_or_duplicates() {
    let counts_of = |policy, second: u16| {
        let handle = recorded(async |_| {
            let dedupe = KlikitDedupeLayer::new(MemoryStore::new()).on_conflict(policy);
            let stack = KlikitVerifyLayer::new(SECRET).layer(dedupe.layer(crate::support::Handler::default()));
            for (body, status) in [(BODY, 200), ("{}", second)] {
                let request = SignedDelivery::new(SECRET, body).event_id("evt-7").request::<Full<Bytes>>();
                assert_eq!(stack.clone().oneshot(request).await.unwrap().status(), status);
            }
        });
        ["klikit_conflicts_total", "klikit_duplicates_total"]
            .map(|name| counted(&handle, &format!(r#"{name}{{tenant="default"}}"#)))
    };
    assert_eq!(counts_of(ConflictPolicy::Reject, 409), [1.0, 0.0]);
    assert_eq!(counts_of(ConflictPolicy::TrustEventId, 200), [0.0, 1.0]);
}

#[cfg(feature = "inbox")]
#[test]
fn copy_of_a_running_delivery_is_no_duplicate() {
    let handle = recorded(async |_| {
        let store = MemoryStore::new();
        let hanging = service_fn(async |_: Request<VerifiedBody>| {
            std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>().await
        });
        let verify = KlikitVerifyLayer::new(SECRET);
        let inline = verify.layer(KlikitDedupeLayer::new(store.clone()).layer(hanging));
        let stored = verify.layer(Inbox::new(store).acceptor());
        timeout(Duration::from_secs(1), inline.clone().oneshot(good())).await.unwrap_err();
        assert_eq!(inline.oneshot(good()).await.unwrap().status(), 503);
        assert_eq!(stored.oneshot(good()).await.unwrap().status(), 503);
    });
    assert_eq!(counted(&handle, r#"klikit_duplicates_total{tenant="default"}"#), 0.0);
}

#[test]
fn handler_time_is_recorded_for_the_dedupe_layer() {
    let handle = recorded(async |_| {
        let slow = service_fn(async |_: Request<VerifiedBody>| {
            sleep(Duration::from_millis(2500)).await;
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
        });
        let stack = KlikitVerifyLayer::new(SECRET).layer(KlikitDedupeLayer::new(MemoryStore::new()).layer(slow));
        // The duplicate runs no handler.
        for _ in 0..2 {
            assert_eq!(stack.clone().oneshot(good()).await.unwrap().status(), 200);
        }
    });
    assert_eq!(value(&handle, r#"klikit_handler_seconds_sum{caller="dedupe"}"#), Some(2.5));
    assert_eq!(counted(&handle, r#"klikit_handler_seconds_count{caller="dedupe"}"#), 1.0);
}

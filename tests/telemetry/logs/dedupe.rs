//! Tests of the dedupe layer's and the memory store's log lines.

use std::{convert::Infallible, future::pending, time::Duration};

use http::Response;
use tower::{Layer, ServiceExt, service_fn};
use tower_klikit::{
    VerifiedBody,
    dedupe::{BodyDigest, Claim, ClaimTerms, EventKey, KlikitDedupeLayer, Ledger},
    store::MemoryStore,
};

use super::*;

#[test]
fn logs_full_memory_store_once() {
    let minute = Duration::from_secs(60);
    let terms = ClaimTerms { lease: minute, grace: minute };
    let claim = |n: usize| {
        let key = *EventKey::of_event("default", &format!("evt-{n}")).as_bytes();
        // Any token will do, so use the key.
        let (event, token) = (key, key);
        Claim::new(key, event, BodyDigest::of(BODY.as_bytes()), token)
    };
    let log = log_of(|| {
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

#[test]
fn logs_missing_verify_layer() {
    let log = log_of(|| {
        let service = KlikitDedupeLayer::new(MemoryStore::new()).layer(crate::support::Handler::default());
        // The dedupe layer accepts only a verified body, so keep the verify layer and remove what else it adds.
        let remove_extensions = |mut request: Request<_>| {
            request.extensions_mut().clear();
            request
        };
        let stack = KlikitVerifyLayer::new(SECRET).layer(tower::util::MapRequest::new(service, remove_extensions));
        let request = SignedDelivery::new(SECRET, BODY).request::<Full<Bytes>>();
        assert_eq!(runtime().block_on(stack.oneshot(request)).unwrap().status(), 500);
    });
    assert!(log.contains("ERROR") && log.contains("put KlikitVerifyLayer outside of it"), "{log}");
}

#[test]
fn logs_conflict_with_event_id() {
    let stack = KlikitVerifyLayer::new(SECRET)
        .layer(KlikitDedupeLayer::new(MemoryStore::new()).layer(crate::support::Handler::default()));
    let log = log_of(|| {
        // The default policy handles both bodies.
        for body in [BODY, "{}"] {
            let request = SignedDelivery::new(SECRET, body).event_id("evt-7").request::<Full<Bytes>>();
            assert_eq!(runtime().block_on(stack.clone().oneshot(request)).unwrap().status(), 200);
        }
    });
    assert!(fields(&log, "WARN", "event id reused with a different body").contains(EVT_7_FIELDS), "{log}");
    assert!(!log.contains(BODY), "{log}");
}

#[test]
fn logs_hanging_handler_as_error() {
    let log = log_of_task(async {
        let hanging =
            service_fn(async |_: Request<VerifiedBody>| pending::<Result<Response<String>, Infallible>>().await);
        let dedupe = KlikitDedupeLayer::new(MemoryStore::new()).handler_deadline(Duration::from_secs(3));
        let stack = KlikitVerifyLayer::new(SECRET).layer(dedupe.layer(hanging));
        assert_eq!(stack.oneshot(evt_7()).await.unwrap().status(), 503);
    });
    let fields = fields(&log, "ERROR", "dropped a handler");
    assert!(fields.contains(EVT_7_FIELDS) && fields.contains("deadline=3s"), "{log}");
}

#[test]
fn logs_lost_claim_of_running_handler() {
    let log = log_of_task(async {
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
    assert!(fields(&log, "INFO", "cannot renew the claim of a running handler").contains(EVT_7_FIELDS), "{log}");
    assert!(fields(&log, "WARN", "cannot complete the claim of a handled delivery").contains(EVT_7_FIELDS), "{log}");
}

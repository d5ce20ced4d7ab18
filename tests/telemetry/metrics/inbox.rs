//! Tests of the metrics of an inbox and its worker.
#![cfg(feature = "inbox")]

use tokio::time::advance;
use tower_klikit::{
    inbox::{Attempt, Inbox, InboxStore, LeaseRequest, Settlement},
    store::MemoryStore,
};

use super::*;

/// Returns the attempts by outcome: done, retry, dead, released, and lost.
fn attempts(handle: &PrometheusHandle) -> [f64; 5] {
    let counter = |outcome| format!(r#"klikit_inbox_attempts_total{{outcome="{outcome}"}}"#);
    ["done", "retry", "dead", "released", "lost"].map(|outcome| counted(handle, &counter(outcome)))
}

#[test]
fn worker_does_not_count_deliveries_again() {
    let handle = recorded(async |_| {
        let inbox = Inbox::new(MemoryStore::new());
        let verify = KlikitVerifyLayer::new(SECRET);
        verify.layer(inbox.acceptor()).oneshot(good()).await.unwrap();
        let handler = crate::support::Handler::default();
        inbox.worker(verify.layer(handler.clone())).run_until(sleep(Duration::from_secs(1))).await;
        assert_eq!(handler.seen().len(), 1);
    });
    assert_eq!(counted(&handle, &deliveries("verified", "", "default")), 1.0);
    assert_eq!(counted(&handle, r#"klikit_ack_seconds_count{status="200"}"#), 1.0);
}

#[test]
fn worker_reports_counts_and_age() {
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

        // Leaves one delivery dead, one leased, and two pending.
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
        assert_eq!(counted(&handle, "klikit_inbox_oldest_seconds"), 40.0 + 15.0);
        assert!(counted(&handle, "klikit_inbox_counted_timestamp_seconds") > 0.0);
        worker.abort();
    });
}

#[test]
fn worker_without_an_interval_reports_nothing() {
    let handle = recorded(async |_| {
        let worker = Inbox::new(MemoryStore::new()).worker(crate::support::Handler::default()).metrics_interval(None);
        worker.run_until(sleep(Duration::from_secs(60))).await;
    });
    assert!(!handle.render().contains(" gauge\n"), "{}", handle.render());
}

#[test]
fn oldest_gauge_clears_after_handling() {
    recorded(async |handle| {
        let inbox = Inbox::new(MemoryStore::new()).keep_bodies(Duration::from_secs(600));
        let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
        stack.oneshot(good()).await.unwrap();
        advance(Duration::from_secs(40)).await;
        let handler = service_fn(async |_: Request<VerifiedBody>| {
            sleep(Duration::from_secs(5)).await;
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
        });
        let worker = tokio::spawn(inbox.worker(handler).run_until(sleep(Duration::from_secs(20))));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(counted(&handle, "klikit_inbox_oldest_seconds"), 40.0);
        worker.await.unwrap();
        assert_eq!(counted(&handle, "klikit_inbox_oldest_seconds"), 0.0);
        assert_eq!(counted(&handle, r#"klikit_inbox_deliveries{state="done"}"#), 1.0);
    });
}

#[test]
fn stopped_worker_reports_nothing() {
    recorded(async |handle| {
        let inbox = Inbox::new(MemoryStore::new());
        inbox.worker(crate::support::Handler::default()).run_until(sleep(Duration::from_secs(20))).await;
        let ready = r#"klikit_inbox_deliveries{state="ready"}"#;
        assert_eq!(counted(&handle, ready), 0.0);
        KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor()).oneshot(good()).await.unwrap();
        sleep(Duration::from_secs(60)).await;
        assert_eq!(counted(&handle, ready), 0.0);
    });
}

#[test]
fn counts_dead_letters_of_worker_and_of_lease() {
    let dead_letters = r#"klikit_inbox_dead_letters_total{tenant="default"}"#;
    recorded(async |handle| {
        let inbox = Inbox::new(MemoryStore::new());
        let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
        stack.clone().oneshot(good()).await.unwrap();
        let failing =
            service_fn(async |_: Request<VerifiedBody>| Err::<Response<Full<Bytes>>, _>(BoxError::from("no")));
        inbox.worker(failing).max_attempts(1).run_until(sleep(Duration::from_secs(1))).await;
        assert_eq!(counted(&handle, dead_letters), 1.0);

        // The worker of the next delivery crashes on the last attempt, and leasing dead-letters the delivery.
        stack.oneshot(SignedDelivery::new(SECRET, "{}").event_id("evt-8").request::<Full<Bytes>>()).await.unwrap();
        let hanging = service_fn(async |_: Request<VerifiedBody>| {
            std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>().await
        });
        let dies = inbox.worker(hanging).max_attempts(1).run_until(std::future::pending::<()>());
        timeout(Duration::from_secs(5), dies).await.unwrap_err();
        let handler = crate::support::Handler::default();
        inbox.worker(handler.clone()).max_attempts(1).run_until(sleep(Duration::from_secs(60))).await;
        assert_eq!(counted(&handle, dead_letters), 2.0);
        assert!(handler.seen().is_empty());
        assert_eq!(inbox.counts().await.unwrap().dead, 2);
    });
}

#[test]
fn worker_reports_stored_ratio() {
    recorded(async |handle| {
        let inbox = Inbox::new(MemoryStore::new()).max_stored(4).keep_bodies(Duration::from_secs(600));
        let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
        stack.oneshot(good()).await.unwrap();
        let handler = crate::support::Handler::default();
        inbox.worker(handler).run_until(sleep(Duration::from_secs(20))).await;
        assert_eq!(counted(&handle, "klikit_inbox_stored_ratio"), 0.25);
        // Exceed the limit.
        let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
        stack.oneshot(SignedDelivery::new(SECRET, "{}").event_id("evt-8").request::<Full<Bytes>>()).await.unwrap();
        let handler = crate::support::Handler::default();
        inbox.max_stored(1).worker(handler).run_until(sleep(Duration::from_secs(20))).await;
        assert_eq!(counted(&handle, "klikit_inbox_stored_ratio"), 1.0);
    });
}

#[test]
fn expired_dead_letters_are_counted() {
    let handle = recorded(async |_| {
        let inbox = Inbox::new(MemoryStore::new()).keep_dead_letters(Duration::from_secs(600));
        let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
        for n in 0..3 {
            let request = SignedDelivery::new(SECRET, format!("[{n}]")).event_id(format!("evt-{n}"));
            stack.clone().oneshot(request.request::<Full<Bytes>>()).await.unwrap();
        }
        let failing =
            service_fn(async |_: Request<VerifiedBody>| Err::<Response<Full<Bytes>>, _>(BoxError::from("no")));
        inbox.worker(failing).max_attempts(1).run_until(sleep(Duration::from_secs(700))).await;
    });
    assert_eq!(counted(&handle, "klikit_inbox_dead_letters_expired_total"), 3.0);
}

#[test]
fn lost_lease_is_counted() {
    let handle = recorded(async |_| {
        let store = MemoryStore::new();
        let inbox = Inbox::new(store.clone());
        KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor()).oneshot(good()).await.unwrap();
        // The handler releases its own lease and takes a new one, as if another worker had leased the delivery.
        let losing = service_fn(move |request: Request<VerifiedBody>| {
            let store = store.clone();
            async move {
                let attempt = request.extensions().get::<Attempt>().unwrap();
                store.settle(&[(*attempt.lease(), Settlement::Release)]).await.unwrap();
                let duration = Duration::from_secs(600);
                let request =
                    LeaseRequest { limit: 1, free_handlers: 1, duration, max_attempts: 25, held: &[], worker: "test" };
                assert_eq!(store.lease(&request).await.unwrap().leased.len(), 1);
                Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
            }
        });
        inbox.worker(losing).run_until(sleep(Duration::from_secs(60))).await;
    });
    assert_eq!(counted(&handle, "klikit_inbox_leases_lost_total"), 1.0);
    assert_eq!(attempts(&handle), [0.0, 0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn counters_of_a_worker_begin_at_zero() {
    let handle = recorded(async |_| {
        let worker = Inbox::new(MemoryStore::new()).worker(crate::support::Handler::default());
        worker.run_until(sleep(Duration::from_secs(1))).await;
    });
    assert_eq!(attempts(&handle), [0.0; 5]);
    for name in ["klikit_inbox_leases_lost_total", "klikit_inbox_dead_letters_expired_total"] {
        assert_eq!(value(&handle, name), Some(0.0), "{name}");
    }
}

#[test]
fn attempts_are_counted_by_outcome() {
    let handle = recorded(async |_| {
        let inbox = Inbox::new(MemoryStore::new());
        let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
        for (n, body) in ["200", "200", "400", "500", "null"].into_iter().enumerate() {
            let request = SignedDelivery::new(SECRET, body).event_id(format!("evt-{n}"));
            stack.clone().oneshot(request.request::<Full<Bytes>>()).await.unwrap();
        }
        // Responds with the status in the body, and never without one.
        let handler = service_fn(async |request: Request<VerifiedBody>| {
            let Ok(status) = StatusCode::from_bytes(request.body().as_ref()) else { std::future::pending().await };
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = status;
            Ok::<_, BoxError>(response)
        });
        let worker = inbox.worker(handler).max_attempts(2).drain_deadline(Duration::from_secs(1));
        // Long enough for both attempts at the failing delivery.
        worker.run_until(sleep(Duration::from_secs(200))).await;
    });
    assert_eq!(attempts(&handle), [2.0, 1.0, 2.0, 1.0, 0.0]);
}

#[test]
fn attempt_of_a_handler_that_completes_is_done() {
    let handle = recorded(async |_| {
        let store = MemoryStore::new();
        let inbox = Inbox::new(store.clone());
        KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor()).oneshot(good()).await.unwrap();
        let completing = service_fn(move |request: Request<VerifiedBody>| {
            let (store, lease) = (store.clone(), *request.extensions().get::<Attempt>().unwrap().lease());
            async move {
                store
                    .settle(&[(
                        lease,
                        Settlement::Done { keep: Duration::ZERO, history: Duration::ZERO, status: None },
                    )])
                    .await
                    .unwrap();
                Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
            }
        });
        inbox.worker(completing).run_until(sleep(Duration::from_secs(1))).await;
    });
    assert_eq!(attempts(&handle), [1.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn handler_time_is_recorded_for_the_worker() {
    let handle = recorded(async |_| {
        let inbox = Inbox::new(MemoryStore::new());
        let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
        for n in 0..3 {
            let request = SignedDelivery::new(SECRET, n.to_string()).event_id(format!("evt-{n}"));
            stack.clone().oneshot(request.request::<Full<Bytes>>()).await.unwrap();
        }
        // Returns, panics, or times out.
        let handler = service_fn(async |request: Request<VerifiedBody>| {
            sleep(Duration::from_millis(2500)).await;
            match request.body().as_ref() {
                b"0" => Ok::<_, BoxError>(Response::new(Full::<Bytes>::default())),
                b"1" => panic!("a panic of this test"),
                _ => std::future::pending().await,
            }
        });
        let worker = inbox.worker(handler).max_attempts(1).handler_deadline(Duration::from_secs(20));
        worker.run_until(sleep(Duration::from_secs(60))).await;
    });
    assert_eq!(value(&handle, r#"klikit_handler_seconds_sum{caller="worker"}"#), Some(2.5 + 2.5 + 20.0));
    assert_eq!(counted(&handle, r#"klikit_handler_seconds_count{caller="worker"}"#), 3.0);
    // The layer in front of the acceptor records its own time only.
    assert_eq!(value(&handle, r#"klikit_ack_seconds_sum{status="200"}"#), Some(0.0));
}

#[test]
fn expired_deliveries_are_counted() {
    let handle = recorded(async |_| {
        let inbox = Inbox::new(MemoryStore::new());
        let delivery = SignedDelivery::new(SECRET, "{}").event_id("evt-1").event_type("klikit.order.created.v2");
        let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
        stack.oneshot(delivery.request::<Full<Bytes>>()).await.unwrap();
        sleep(Duration::from_secs(100)).await;
        let worker = inbox.worker(crate::support::Handler::default());
        let worker = worker.expire_after("klikit.order.created.v2", Duration::from_secs(60));
        worker.run_until(sleep(Duration::from_secs(5))).await;
    });
    for counter in [
        r#"klikit_inbox_expired_total{tenant="default"}"#,
        r#"klikit_inbox_dead_letters_total{tenant="default"}"#,
        r#"klikit_inbox_attempts_total{outcome="expired"}"#,
    ] {
        assert_eq!(counted(&handle, counter), 1.0, "{counter}");
    }
    assert_eq!(attempts(&handle), [0.0; 5]);
}

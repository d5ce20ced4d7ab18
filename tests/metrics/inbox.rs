//! What an inbox and its worker count.
#![cfg(feature = "inbox")]

use tokio::time::advance;
use tower_klikit::{inbox::Inbox, store::MemoryStore};

use super::*;

#[test]
fn what_a_worker_hands_on_is_not_counted_again() {
    let handle = recorded(async |_| {
        let inbox = Inbox::new(MemoryStore::new());
        let verify = KlikitVerifyLayer::new(SECRET);
        verify.layer(inbox.acceptor()).oneshot(good()).await.unwrap();
        let handler = support::Handler::default();
        inbox.worker(verify.layer(handler.clone())).run_until(sleep(Duration::from_secs(1))).await;
        assert_eq!(handler.seen().len(), 1);
    });
    assert_eq!(counted(&handle, &deliveries("verified", "", "default")), 1.0);
    assert_eq!(counted(&handle, r#"klikit_ack_seconds_count{status="200"}"#), 1.0);
}

#[test]
fn the_inbox_is_told_of_by_its_worker() {
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
        assert_eq!(counted(&handle, "klikit_inbox_oldest_seconds"), 40.0 + 15.0);
        assert!(counted(&handle, "klikit_inbox_counted_timestamp_seconds") > 0.0);
        worker.abort();
    });
}

#[test]
fn a_worker_that_is_told_to_counts_nothing() {
    let handle = recorded(async |_| {
        let worker = Inbox::new(MemoryStore::new()).worker(support::Handler::default()).metrics_interval(None);
        worker.run_until(sleep(Duration::from_secs(60))).await;
    });
    assert!(!handle.render().contains("klikit_inbox"), "{}", handle.render());
}

#[test]
fn the_oldest_is_gone_when_it_is_handled_and_a_worker_that_ended_tells_nothing() {
    recorded(async |handle| {
        let inbox = Inbox::new(MemoryStore::new()).keep_bodies(Duration::from_secs(600));
        let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
        stack.clone().oneshot(good()).await.unwrap();
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

        stack.oneshot(SignedDelivery::new(SECRET, "{}").event_id("evt-8").request::<Full<Bytes>>()).await.unwrap();
        sleep(Duration::from_secs(60)).await;
        assert_eq!(counted(&handle, r#"klikit_inbox_deliveries{state="ready"}"#), 0.0);
    });
}

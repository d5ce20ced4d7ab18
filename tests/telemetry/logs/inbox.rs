//! Tests of the inbox's and its worker's log lines.

use std::{
    convert::Infallible,
    future::{pending, ready},
    time::{Duration, SystemTime},
};

use http::Response;
use tower::{Layer, ServiceExt, service_fn};
use tower_klikit::{
    VerifiedBody,
    inbox::{
        Attempt, DeliveryId, DeliveryState, Filter, Inbox, InboxStore, LEASE_EXPIRED, LeaseRequest, Pause, Settlement,
    },
    store::MemoryStore,
};

use super::*;

#[test]
fn failed_attempt_warns_and_dead_letter_is_an_error() {
    let log = log_of_task(async {
        let inbox = Inbox::new(MemoryStore::new());
        KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor()).oneshot(evt_7()).await.unwrap();
        let failing = service_fn(async |_: Request<VerifiedBody>| Err::<Response<String>, _>("the printer is on fire"));
        let worker = inbox.worker(failing).max_attempts(2);
        worker.run_until(tokio::time::sleep(Duration::from_secs(60))).await;
    });
    let failed = fields(&log, "WARN", "attempt failed, will retry: the printer is on fire");
    assert!(failed.contains(EVT_7_FIELDS) && failed.contains("delivery_id=1 attempt=1 delay="), "{log}");
    let dead = fields(&log, "ERROR", "dead-lettered a delivery: the printer is on fire");
    assert!(dead.contains(EVT_7_FIELDS) && dead.contains("delivery_id=1 attempts=2"), "{log}");
    assert_eq!(worker_lines(&log), ["inbox: 1 pending, 0 leased, 0 dead letters", "draining 0 deliveries", "stopped"]);
    assert_eq!(log.lines().count(), 2 + 3, "{log}");
}

/// The worker that started the last attempt has crashed, so another worker logs the dead letter.
#[test]
fn dead_letter_made_by_leasing_is_an_error() {
    let log = log_of_task(async {
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
    assert!(dead.contains(EVT_7_FIELDS) && dead.contains("delivery_id=1 attempts=1"), "{log}");
    // The first worker logs only its start.
    assert_eq!(worker_lines(&log).len(), 1 + 3, "{log}");
    assert_eq!(log.lines().count(), 1 + 4, "{log}");
}

/// Returns the texts of the lines at level `info`, in which a worker reports its start and its stop.
fn worker_lines(log: &str) -> Vec<&str> {
    log.lines().filter_map(|line| line.split_once(" INFO tower_klikit::inbox: ").map(|(_, text)| text)).collect()
}

/// After a crash, an operator sees how many deliveries are leased, and until when.
#[test]
fn start_after_crash_is_logged_with_leases() {
    let lease = Duration::from_secs(30);
    let before = SystemTime::now() + lease;
    let log = log_of_task(async {
        let inbox = Inbox::new(MemoryStore::new());
        let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
        for id in ["evt-1", "evt-2", "evt-3", "evt-4"] {
            let request = SignedDelivery::new(SECRET, id).event_id(id).request::<Full<Bytes>>();
            assert_eq!(stack.clone().oneshot(request).await.unwrap().status(), 200);
        }
        let first = Filter::new().states([DeliveryState::Ready]).event_id("evt-1");
        assert_eq!(inbox.operator("ana").dead_letter(first, "a test").run().await.unwrap(), 1);
        let hanging =
            service_fn(async |_: Request<VerifiedBody>| pending::<Result<Response<String>, Infallible>>().await);
        let crashing = inbox.worker(hanging).concurrency(2).lease(lease).run_until(pending::<()>());
        tokio::time::timeout(Duration::from_secs(5), crashing).await.unwrap_err();
        inbox.worker(crate::support::Handler::default()).lease(lease).run_until(ready(())).await;
    });
    let starts: Vec<_> = worker_lines(&log).into_iter().filter(|line| line.starts_with("inbox: ")).collect();
    let [_, restart] = starts[..] else { panic!("{log}") };
    let until = restart.split(' ').find(|word| word.ends_with('Z')).unwrap_or_else(|| panic!("{restart}"));
    assert_eq!(restart.replace(until, "TIME"), "inbox: 1 pending, 2 leased until TIME at the latest, 1 dead letter");
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut possible = (seconds(before)..=seconds(SystemTime::now() + lease))
        .map(|time| format!("{:02}:{:02}:{:02}Z", time / 3600 % 24, time / 60 % 60, time % 60));
    assert!(possible.any(|time| time == until), "{until} is not 30 s ahead");
}

#[test]
fn stop_is_logged_with_running_handlers() {
    let log = log_of_task(async {
        let inbox = Inbox::new(MemoryStore::new());
        let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
        for id in ["evt-1", "evt-2"] {
            let request = SignedDelivery::new(SECRET, id).event_id(id).request::<Full<Bytes>>();
            assert_eq!(stack.clone().oneshot(request).await.unwrap().status(), 200);
        }
        let slow = service_fn(async |request: Request<VerifiedBody>| {
            let is_first = request.extensions().get::<tower_klikit::EventId>().unwrap().as_str() == "evt-1";
            tokio::time::sleep(Duration::from_secs(if is_first { 10 } else { 100 })).await;
            Ok::<_, Infallible>(Response::new(String::new()))
        });
        let worker = inbox.worker(slow).drain_deadline(Duration::from_secs(25));
        worker.run_until(tokio::time::sleep(Duration::from_secs(5))).await;
    });
    let interrupted = "stopped: interrupted 1 handler that did not end within 25s";
    assert_eq!(worker_lines(&log)[1..], ["draining 2 deliveries", interrupted], "{log}");
}

#[test]
fn lease_lost_under_its_handler_is_a_warning() {
    let log = log_of_task(async {
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
                let request =
                    LeaseRequest { limit: 1, free_handlers: 1, duration, max_attempts: 25, held: &[], worker: "test" };
                assert_eq!(store.lease(&request).await.unwrap().leased.len(), 1);
                tokio::time::sleep(Duration::from_secs(30)).await;
                Ok::<_, Infallible>(Response::new(String::new()))
            }
        });
        inbox.worker(losing).run_until(tokio::time::sleep(Duration::from_secs(60))).await;
    });
    assert!(fields(&log, "INFO", "cannot extend a lease").contains("delivery_id=1"), "{log}");
    let lost = fields(&log, "WARN", "lost the lease while the handler was running");
    assert!(lost.contains(EVT_7_FIELDS) && lost.contains("delivery_id=1"), "{log}");
}

#[test]
fn full_backlog_is_a_warning() {
    let log = log_of_task(async {
        let stack = KlikitVerifyLayer::new(SECRET).layer(Inbox::new(MemoryStore::new()).max_backlog(1).acceptor());
        assert_eq!(stack.clone().oneshot(evt_7()).await.unwrap().status(), 200);
        let another = SignedDelivery::new(SECRET, "{}").event_id("evt-8").request::<Full<Bytes>>();
        assert_eq!(stack.oneshot(another).await.unwrap().status(), 503);
    });
    assert!(log.contains("WARN") && log.contains("inbox backlog is full") && log.contains("max_backlog=1"), "{log}");
}

#[test]
fn long_query_and_long_path_are_warnings() {
    let log = log_of_task(async {
        let stack = KlikitVerifyLayer::new(SECRET).layer(Inbox::new(MemoryStore::new()).acceptor());
        for (uri, status) in [(format!("/?{}", "q".repeat(3000)), 200), (format!("/{}", "p".repeat(3000)), 414)] {
            let mut request = evt_7();
            *request.uri_mut() = uri.parse().unwrap();
            assert_eq!(stack.clone().oneshot(request).await.unwrap().status(), status);
        }
    });
    let left_out = fields(&log, "WARN", "stored a delivery without its query");
    assert!(left_out.contains(EVT_7_FIELDS) && left_out.contains("bytes=3000"), "{log}");
    let rejected = fields(&log, "WARN", "rejected a delivery: its path or method is too long");
    assert!(rejected.contains(EVT_7_FIELDS) && rejected.contains("status=414"), "{log}");
    assert!(!log.contains("qqq") && !log.contains("ppp"), "{log}");
}

#[test]
fn acceptor_as_the_handler_is_an_error_in_the_log() {
    let log = log_of_task(async {
        let inbox = Inbox::new(MemoryStore::new());
        KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor()).oneshot(evt_7()).await.unwrap();
        inbox.worker(inbox.acceptor()).run_until(tokio::time::sleep(Duration::from_millis(10))).await;
    });
    assert!(log.contains("ERROR") && log.contains("give the worker your handler"), "{log}");
}

/// Returns an inbox with the delivery `evt-7`, which is pending.
async fn inbox_with_evt_7() -> Inbox {
    let inbox = Inbox::new(MemoryStore::new()).keep_bodies(Duration::from_secs(1000));
    KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor()).oneshot(evt_7()).await.unwrap();
    inbox
}

#[test]
fn each_action_of_an_operator_is_logged() {
    let log = log_of_task(async {
        let inbox = inbox_with_evt_7().await;
        let ana = inbox.operator("ana");
        let id = DeliveryId::new(1);
        let pause = Pause::everything().tenant("default");
        ana.pause(&pause).await.unwrap();
        ana.resume(&pause).await.unwrap();
        assert_eq!(ana.dead_letter(id, "a test").preview().await.unwrap(), 1);
        assert_eq!(ana.dead_letter(id, "a test").run().await.unwrap(), 1);
        assert_eq!(ana.retry(Filter::new().event_id("evt-7")).rate(10).run().await.unwrap(), 1);
        let worker = inbox.worker(crate::support::Handler::default());
        worker.run_until(tokio::time::sleep(Duration::from_secs(5))).await;
        assert_eq!(ana.replay(id).run().await.unwrap(), 1);
        assert_eq!(ana.purge(Filter::new()).run().await.unwrap(), 0);
        assert_eq!(ana.erase(id).run().await.unwrap(), 1);
        assert_eq!(ana.forget(Filter::new().order(42)).run().await.unwrap(), 0);
        assert_eq!(ana.forget_event("default", "evt-7").preview().await.unwrap(), 1);
        assert_eq!(ana.forget_event("default", "evt-7").run().await.unwrap(), 1);
        assert_eq!(ana.forget_body("default", BODY).run().await.unwrap(), 0);
        ana.forget_accepted(SystemTime::UNIX_EPOCH..SystemTime::UNIX_EPOCH).run().await.unwrap();
    });
    let audit: Vec<_> = log
        .lines()
        .filter_map(|line| {
            line.split_once(" INFO tower_klikit::inbox::audit: operator acted on deliveries operator=ana ")
        })
        .map(|(_, fields)| fields)
        .collect();
    let expected = [
        r#"action="pause" filter="tenant=default" deliveries=0"#,
        r#"action="resume" filter="tenant=default" deliveries=0"#,
        r#"action="dead_letter" filter="id=1 state=ready,leased" deliveries=1"#,
        r#"action="retry" filter="state=dead event_id=evt-7" deliveries=1"#,
        r#"action="replay" filter="id=1 state=done" deliveries=1"#,
        r#"action="purge" filter="state=dead,done" deliveries=0"#,
        r#"action="erase" filter="id=1 state=ready,leased,dead,done" deliveries=1"#,
        r#"action="forget" filter="state=dead,done order=42" deliveries=0"#,
        r#"action="forget" filter="tenant=default event_id=evt-7" deliveries=1"#,
    ];
    assert_eq!(audit[..9], expected, "{log}");
    assert!(audit[9].starts_with(r#"action="forget" filter="tenant=default body="#), "{log}");
    assert_eq!(
        audit[10..],
        [r#"action="forget" filter="accepted=1970-01-01T00:00:00Z..1970-01-01T00:00:00Z" deliveries=0"#],
        "{log}"
    );
}

/// An operator's name and a filter must not forge a log line.
#[test]
fn names_in_actions_are_escaped() {
    let log = log_of_task(async {
        let inbox = inbox_with_evt_7().await;
        let filter = Filter::new().tenant("a\nb").order("c\u{202e}d").reason("e\nf");
        inbox.operator("ana\nERROR forged").purge(filter).run().await.unwrap();
    });
    let [line] = log.lines().collect::<Vec<_>>()[..] else { panic!("{log}") };
    for escaped in [r"operator=ana\nERROR forged", r"tenant=a\nb", r"order=c\u{202e}d"] {
        let shown_twice_escaped = escaped.replace('\\', r"\\");
        assert!(line.contains(escaped) || line.contains(&shown_twice_escaped), "{escaped}: {line}");
    }
}

/// The future is dropped after the first of two deliveries was retried.
#[test]
fn dropped_action_is_logged_with_what_it_did() {
    let log = log_of_task(async {
        let inbox = inbox_with_evt_7().await;
        let other = SignedDelivery::new(SECRET, "{}").event_id("evt-8").request::<Full<Bytes>>();
        KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor()).oneshot(other).await.unwrap();
        let ana = inbox.operator("ana");
        let pending = Filter::new().states([DeliveryState::Ready]);
        assert_eq!(ana.dead_letter(pending, "a test").run().await.unwrap(), 2);
        let retry = ana.retry(Filter::new()).rate(1).run();
        tokio::time::timeout(Duration::from_millis(500), retry).await.unwrap_err();
    });
    assert!(log.contains(r#"action="retry" filter="state=dead" deliveries=1"#), "{log}");
}

#[test]
fn expired_delivery_warns() {
    let log = log_of_task(async {
        let inbox = Inbox::new(MemoryStore::new());
        let request = SignedDelivery::new(SECRET, BODY).event_id("evt-7").event_type("klikit.order.created.v2");
        KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor()).oneshot(request.request::<Full<Bytes>>()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(100)).await;
        let worker = inbox.worker(crate::support::Handler::default());
        let worker = worker.expire_after("klikit.order.created.v2", Duration::from_secs(60));
        worker.run_until(tokio::time::sleep(Duration::from_secs(5))).await;
    });
    let expired = fields(&log, "WARN", "dead-lettered a delivery that has expired");
    let fields = "delivery_id=1 event_type=klikit.order.created.v2 age=100";
    assert!(expired.contains(EVT_7_FIELDS) && expired.contains(fields), "{log}");
}

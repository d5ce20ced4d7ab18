//! The incidents.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use tokio::time::sleep;
use tower_klikit::{
    dedupe::BodyDigest,
    inbox::{DeliveryState, Filter, Pause},
    testing::SignedDelivery,
};

use crate::{
    guide,
    service::{CREATED, HANGS, NEW_SECRET, Service, open, order, signed},
};

const OK: StatusCode = StatusCode::OK;
const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;
const UNPROCESSABLE: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

#[tokio::test]
async fn dead_letters() {
    let service = Service::new();
    service.answers(UNPROCESSABLE, "the printer is out of paper");
    let worker = service.work();
    for number in 1..=3 {
        assert_eq!(service.send(&order(number, number)).await, OK);
    }
    service.until("three are dead", |counts| counts.dead == 3).await;
    service.answers(UNPROCESSABLE, "table 7 is closed");
    assert_eq!(service.send(&order(4, 4)).await, OK);
    service.until("four are dead", |counts| counts.dead == 4).await;
    let reasons = guide::reasons_of_dead_letters(&service.inbox).await.unwrap();
    let expected = [("table 7 is closed".to_owned(), 1), ("the printer is out of paper".to_owned(), 3)];
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), expected);

    service.answers(OK, "");
    assert_eq!(guide::retry_recent(&service.inbox, "out of paper").await.unwrap(), 3);
    service.until("three are handled", |counts| counts.done == 3 && counts.dead == 1).await;
    worker.stop().await;
}

#[tokio::test]
async fn klikit_says_failed() {
    let service = Service::new();
    assert_eq!(service.send(&signed(NEW_SECRET, 1, 1)).await, FORBIDDEN);
    service.answers(StatusCode::SERVICE_UNAVAILABLE, "the printer is offline");
    let worker = service.work_as(|worker| worker.name("kitchen-1").max_attempts(2));
    assert_eq!(service.send(&order(1, 1)).await, OK);
    service.until("it is dead", |counts| counts.dead == 1).await;
    let lines = guide::trace_event(&service.inbox, &service.rejections, "evt-1").await.unwrap();
    let expected = [
        "delivery 1 is dead",
        "attempt 1 on kitchen-1: the printer is offline",
        "attempt 2 on kitchen-1: the printer is offline",
    ];
    assert_eq!(lines[..3], expected);
    assert!(
        lines.len() == 4 && lines[3].starts_with("rejected: ") && lines[3].ends_with("cause Some(Unknown)"),
        "{lines:?}"
    );
    assert!(guide::trace_event(&service.inbox, &service.rejections, "evt-2").await.unwrap().is_empty());
    worker.stop().await;
}

#[tokio::test]
async fn secret_rotated() {
    let service = Service::new();
    assert_eq!(service.send(&order(1, 1)).await, OK);
    assert_eq!(service.send(&signed(NEW_SECRET, 2, 1)).await, FORBIDDEN);
    assert_eq!(guide::unexplained_mismatches(&service.rejections), 1);
    guide::accept_both(&service.keyring, NEW_SECRET).unwrap();
    assert_eq!(service.send(&signed(NEW_SECRET, 2, 1)).await, OK);
    // A retry that is signed anew, and one with the old secret.
    assert_eq!(service.send(&signed(NEW_SECRET, 1, 1)).await, OK);
    assert_eq!(service.send(&order(3, 1)).await, OK);
    assert_eq!(service.inbox.counts().await.unwrap().ready, 3);
}

#[tokio::test]
async fn disk_full() {
    let service = Service::new();
    let worker = service.work();
    for number in 1..=3 {
        assert_eq!(service.send(&order(number, number)).await, OK);
    }
    service.until("all are handled", |counts| counts.done == 3).await;
    worker.stop().await;
    assert_eq!(service.send(&order(4, 4)).await, OK);
    assert_eq!(guide::make_space(&service.inbox, Duration::from_secs(3600)).await.unwrap(), (0, 0));
    assert_eq!(guide::make_space(&service.inbox, Duration::ZERO).await.unwrap(), (3, 3));
    let counts = service.inbox.counts().await.unwrap();
    assert_eq!((counts.ready, counts.stored()), (1, 1));
    // Still a duplicate.
    assert_eq!(service.send(&order(1, 1)).await, OK);
    assert_eq!(service.inbox.counts().await.unwrap().ready, 1);
}

#[tokio::test]
async fn database_moved() {
    let service = Service::new();
    let before = SystemTime::now() - Duration::from_secs(60);
    let worker = service.work();
    assert_eq!(service.send(&order(1, 1)).await, OK);
    service.until("it is handled", |counts| counts.done == 1).await;
    worker.stop().await;
    assert_eq!(service.send(&order(2, 2)).await, OK);
    let store = tower_klikit_sqlite::SqliteStore::open(service.folder.path().join("klikit.db")).unwrap();
    store.backup(service.folder.path().join("moved.db")).await.unwrap();
    let moved = open(&service.folder, "moved.db");
    assert!(guide::is_complete(&service.inbox, &moved).await.unwrap());
    assert_eq!(service.send(&order(3, 3)).await, OK);
    assert!(!guide::is_complete(&service.inbox, &moved).await.unwrap());

    let moved = Service::on(moved);
    let lost = before..SystemTime::now() + Duration::from_secs(60);
    assert_eq!(guide::handle_again(&moved.inbox, lost).await.unwrap(), 1);
    assert_eq!(moved.send(&order(1, 1)).await, OK);
    assert_eq!(moved.inbox.counts().await.unwrap().ready, 2);
}

#[tokio::test]
async fn poison_order() {
    let service = Service::new();
    let short = |worker: tower_klikit::inbox::Worker<_>| worker.lease(Duration::from_millis(100));
    // Two deliveries share a branch: the second one waits for the first.
    assert_eq!(service.send(&order(1, 1)).await, OK);
    assert_eq!(service.send(&order(2, 1)).await, OK);
    service.answers(HANGS, "");
    for attempts in 1..=3 {
        let worker = service.work_as(short);
        let running = Filter::new().states([DeliveryState::Leased]).attempts(attempts..=attempts);
        for _ in 0..500 {
            if !service.inbox.find(&running, None, 1).await.unwrap().entries.is_empty() {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        worker.crash().await;
        sleep(Duration::from_millis(150)).await;
    }
    let suspects = guide::suspects(&service.inbox).await.unwrap();
    assert_eq!(suspects.len(), 1);
    assert_eq!(service.inbox.show(suspects[0]).await.unwrap().unwrap().event_id(), Some("evt-1"));
    assert_eq!(guide::set_aside(&service.inbox, suspects[0]).await.unwrap(), 1);
    service.answers(OK, "");
    let worker = service.work();
    service.until("the other is handled", |counts| (counts.dead, counts.done) == (1, 1)).await;
    worker.stop().await;
    assert_eq!(service.handled(), ["evt-2"]);
}

#[tokio::test]
async fn wrong_clock() {
    let service = Service::new();
    assert_eq!(guide::rejected_for_their_time(&service.rejections), 0);
    assert_eq!(service.send(&order(1, 1)).await, OK);
    sleep(Duration::from_millis(200)).await;
    let limit = Duration::from_millis(100);
    let worker = service.work_as(|worker| worker.expire_after(CREATED, limit));
    service.until("it has expired", |counts| counts.dead == 1).await;
    assert_eq!(guide::retry_expired(&service.inbox).await.unwrap(), 1);
    service.until("it is handled", |counts| counts.done == 1).await;
    worker.stop().await;
}

#[tokio::test]
async fn replay_attack() {
    let service = Service::new();
    let genuine = order(1, 1);
    assert_eq!(service.send(&genuine).await, OK);
    for number in 0..3 {
        assert_eq!(service.send(&genuine.clone().event_id(format!("copy-{number}"))).await, OK);
    }
    let copies = guide::copies_of(&service.inbox, BodyDigest::of(genuine.body())).await.unwrap();
    assert_eq!(copies.len(), 3);
    assert_eq!(guide::stop_copies(&service.inbox, &copies).await.unwrap(), 3);
    let worker = service.work();
    service.until("the genuine one is handled", |counts| (counts.dead, counts.done) == (3, 1)).await;
    worker.stop().await;
    assert_eq!(service.handled(), ["evt-1"]);
}

#[tokio::test]
async fn branch_without_orders() {
    let service = Service::new();
    let pause = Pause::everything().tenant("default");
    service.inbox.operator("budi").pause(&pause).await.unwrap();
    let worker = service.work();
    assert_eq!(service.send(&order(1, 7)).await, OK);
    assert_eq!(service.send(&order(2, 8)).await, OK);
    let lines = guide::state_of_branch(&service.inbox, "7").await.unwrap();
    assert_eq!(lines, ["budi has paused tenant=default", "1 is ready for 0 s: no failure"]);
    guide::lift_pauses(&service.inbox).await.unwrap();
    service.until("all are handled", |counts| counts.done == 2).await;
    let lines = guide::state_of_branch(&service.inbox, "7").await.unwrap();
    assert_eq!(lines, ["1 is done for 0 s: no failure"]);
    worker.stop().await;
}

#[tokio::test]
async fn rolled_back() {
    let service = Service::new();
    let started = SystemTime::now() - Duration::from_secs(1);
    service.answers(UNPROCESSABLE, "a bug");
    let worker = service.work();
    assert_eq!(service.send(&order(1, 1)).await, OK);
    service.until("it is dead", |counts| counts.dead == 1).await;
    assert_eq!(guide::hold(&service.inbox).await.unwrap(), 0);
    assert_eq!(service.send(&order(2, 2)).await, OK);
    worker.stop().await;

    service.answers(OK, "");
    let worker = service.work();
    sleep(Duration::from_millis(200)).await;
    assert!(service.handled().is_empty());
    assert_eq!(guide::release(&service.inbox, started).await.unwrap(), 1);
    service.until("both are handled", |counts| counts.done == 2).await;
    assert_eq!(guide::handle_again_since(&service.inbox, started).await.unwrap(), 2);
    service.until("both are handled again", |counts| counts.done == 2).await;
    worker.stop().await;
    let mut handled = service.handled();
    handled.sort_unstable();
    assert_eq!(handled, ["evt-1", "evt-1", "evt-2", "evt-2"]);
}

/// A timestamp that is ten minutes old, as on a machine whose clock is ten minutes ahead.
#[tokio::test]
async fn stale_timestamps_are_counted() {
    use bytes::Bytes;
    use http_body_util::Full;
    use tower::{Layer, ServiceExt};

    let service = Service::new();
    let signed_at = SystemTime::now() - Duration::from_secs(600);
    let delivery = SignedDelivery::timestamped(NEW_SECRET, signed_at, "evt-1", CREATED, "{}");
    let verify = tower_klikit::KlikitVerifyLayer::new(NEW_SECRET).accept_timestamped(Duration::from_secs(300));
    let stack = verify.rejection_log(service.rejections.clone()).layer(service.inbox.acceptor());
    assert_eq!(stack.oneshot(delivery.request::<Full<Bytes>>()).await.unwrap().status(), FORBIDDEN);
    assert_eq!(guide::rejected_for_their_time(&service.rejections), 1);
}

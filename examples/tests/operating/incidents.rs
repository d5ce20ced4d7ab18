//! The incidents.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use tower_klikit::{dedupe::BodyDigest, inbox::Pause, testing::SignedDelivery};
use tower_klikit_test_support::service::{CREATED, NEW_SECRET, Service, open, order, signed};

use crate::guide;

const OK: StatusCode = StatusCode::OK;
const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;

#[tokio::test]
async fn dead_letters() {
    let service = Service::in_file();
    let worker = service.dead_letter_four().await;
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
    let service = Service::in_file();
    assert_eq!(service.send(&signed(NEW_SECRET, 1, 1)).await, FORBIDDEN);
    service.fail_twice().await;
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
}

#[tokio::test]
async fn secret_rotated() {
    let service = Service::in_file();
    service.accept([1]).await;
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
    let service = Service::in_file();
    let worker = service.work();
    service.accept(1..=3).await;
    service.until("all are handled", |counts| counts.done == 3).await;
    worker.stop().await;
    service.accept([4]).await;
    assert_eq!(guide::make_space(&service.inbox, Duration::from_secs(3600)).await.unwrap(), (0, 0));
    assert_eq!(guide::make_space(&service.inbox, Duration::ZERO).await.unwrap(), (3, 3));
    let counts = service.inbox.counts().await.unwrap();
    assert_eq!((counts.ready, counts.stored()), (1, 1));
    // Still a duplicate.
    service.accept([1]).await;
    assert_eq!(service.inbox.counts().await.unwrap().ready, 1);
}

#[tokio::test]
async fn database_moved() {
    let service = Service::in_file();
    let before = SystemTime::now() - Duration::from_secs(60);
    let worker = service.work();
    service.accept([1]).await;
    service.until("it is handled", |counts| counts.done == 1).await;
    worker.stop().await;
    service.accept([2]).await;
    let store = tower_klikit_sqlite::SqliteStore::open(service.folder.path().join("klikit.db")).unwrap();
    store.backup(service.folder.path().join("moved.db")).await.unwrap();
    let moved = open(&service.folder, "moved.db");
    assert!(guide::is_complete(&service.inbox, &moved).await.unwrap());
    service.accept([3]).await;
    assert!(!guide::is_complete(&service.inbox, &moved).await.unwrap());

    let moved = Service::on(moved);
    let lost = before..SystemTime::now() + Duration::from_secs(60);
    assert_eq!(guide::handle_again(&moved.inbox, lost).await.unwrap(), 1);
    moved.accept([1]).await;
    assert_eq!(moved.inbox.counts().await.unwrap().ready, 2);
}

#[tokio::test]
async fn poison_order() {
    let service = Service::in_file();
    service.crash_three_workers().await;
    let suspects = guide::suspects(&service.inbox).await.unwrap();
    assert_eq!(suspects.len(), 1);
    assert_eq!(service.inbox.show(suspects[0]).await.unwrap().unwrap().event_id(), Some("evt-1"));
    assert_eq!(guide::set_aside(&service.inbox, suspects[0]).await.unwrap(), 1);
    let worker = service.work();
    service.until("the other is handled", |counts| (counts.dead, counts.done) == (1, 1)).await;
    worker.stop().await;
    assert_eq!(service.handled(), ["evt-2"]);
}

#[tokio::test]
async fn wrong_clock() {
    let service = Service::in_file();
    assert_eq!(guide::rejected_for_their_time(&service.rejections), 0);
    let worker = service.expire_first().await;
    assert_eq!(guide::retry_expired(&service.inbox).await.unwrap(), 1);
    service.until("it is handled", |counts| counts.done == 1).await;
    worker.stop().await;
}

#[tokio::test]
async fn replay_attack() {
    let service = Service::in_file();
    let genuine = service.accept_copies().await;
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
    let service = Service::in_file();
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
    let service = Service::in_file();
    let started = SystemTime::now() - Duration::from_secs(1);
    let worker = service.release_bug().await;
    assert_eq!(guide::hold(&service.inbox).await.unwrap(), 0);
    service.accept([2]).await;
    worker.stop().await;

    service.answers(OK, "");
    let worker = service.work();
    service.stays_idle().await;
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

    let service = Service::in_file();
    let signed_at = SystemTime::now() - Duration::from_secs(600);
    let delivery = SignedDelivery::timestamped(NEW_SECRET, signed_at, "evt-1", CREATED, "{}");
    let verify = tower_klikit::KlikitVerifyLayer::new(NEW_SECRET).accept_timestamped(Duration::from_secs(300));
    let stack = verify.rejection_log(service.rejections.clone()).layer(service.inbox.acceptor());
    assert_eq!(stack.oneshot(delivery.request::<Full<Bytes>>()).await.unwrap().status(), FORBIDDEN);
    assert_eq!(guide::rejected_for_their_time(&service.rejections), 1);
}

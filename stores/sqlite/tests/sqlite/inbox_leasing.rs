//! Tests of leasing deliveries.

use std::time::Duration;

use tower_klikit::inbox::{DeliveryId, InboxStore, LEASE_EXPIRED, Leased, SettleOutcome, Settlement};
use tower_klikit_sqlite::SqliteStore;

use crate::{
    deliveries::{
        self, accept, dead_letter, dead_letters, delivery, done, extend, ids, keep_for, lease_batch, reschedule,
        settle, settled,
    },
    support::{Folder, LEASE, RETENTION, TestClock},
};

const SECOND: Duration = Duration::from_secs(1);

async fn lease(store: &SqliteStore, limit: u32) -> Vec<Leased> {
    deliveries::lease(store, limit, 3).await
}

#[tokio::test]
async fn leases_longest_due_first() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    assert!(lease(&store, 10).await.is_empty());
    for event in ["evt-1", "evt-2", "evt-3"] {
        accept(&store, event, &[]).await;
        clock.advance(SECOND);
    }
    assert!(lease(&store, 0).await.is_empty());
    let first = lease(&store, 1).await;
    assert_eq!(ids(&first), [1]);
    assert_eq!(first[0].body(), "body of evt-1");
    assert!(first[0].head().contains("evt-1"));
    settled(&store, &first[0], reschedule(SECOND * 5)).await;
    assert_eq!(ids(&lease(&store, 10).await), [2, 3]);
    clock.advance(SECOND * 5 - Duration::from_millis(1));
    assert!(lease(&store, 10).await.is_empty());
    accept(&store, "evt-4", &[]).await;
    clock.advance(Duration::from_millis(1));
    assert_eq!(ids(&lease(&store, 10).await), [4, 1]);
}

#[tokio::test]
async fn next_lease_supersedes_an_expired_one() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    accept(&store, "evt-1", &[]).await;
    let first = *lease(&store, 1).await[0].lease();
    clock.advance(LEASE - Duration::from_millis(1));
    assert!(lease(&store, 1).await.is_empty());
    assert!(extend(&store, &first, LEASE).await);
    clock.advance(LEASE);
    // The lease has expired, but no other worker has leased the delivery yet.
    assert!(extend(&store, &first, LEASE).await);
    assert!(lease(&store, 1).await.is_empty());
    clock.advance(LEASE);
    let second = *lease(&store, 1).await[0].lease();
    assert_eq!((second.attempt(), second.token() > first.token()), (2, true));
    assert!(!extend(&store, &first, LEASE).await);
    for late in [done(), keep_for(LEASE), reschedule(LEASE), dead_letter("400"), Settlement::Release] {
        assert_eq!(settle(&store, &first, late).await, SettleOutcome::Superseded);
    }
    assert_eq!(settle(&store, &second, Settlement::Release).await, SettleOutcome::Settled);
    let third = *lease(&store, 1).await[0].lease();
    assert_eq!((third.attempt(), third.token() > second.token()), (2, true));
    assert_eq!(settle(&store, &third, done()).await, SettleOutcome::Settled);
    assert_eq!(settle(&store, &third, done()).await, SettleOutcome::Gone);
    assert_eq!((folder.count("klikit_inbox"), folder.count("klikit_inbox_body")), (0, 0));
}

#[tokio::test]
async fn dead_letters_when_the_last_lease_expires() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    accept(&store, "evt-1", &["key"]).await;
    accept(&store, "evt-2", &["key"]).await;
    for attempt in 1..=3 {
        let leased = lease(&store, 10).await;
        assert_eq!((ids(&leased), leased[0].lease().attempt()), (vec![1], attempt));
        clock.advance(LEASE);
    }
    let batch = lease_batch(&store, 10, 3).await;
    assert_eq!(ids(&batch.leased), [2], "the same call leases the next delivery");
    let [reported] = &batch.dead_lettered[..] else { panic!("{:?}", batch.dead_lettered) };
    assert_eq!((reported.id, reported.attempts, &*reported.reason), (DeliveryId::new(1), 3, LEASE_EXPIRED));
    assert!(reported.head.as_ref().unwrap().contains("evt-1"));
    let dead = dead_letters(&store, None, 10).await;
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].attempts, dead[0].reason.as_deref()), (3, Some(LEASE_EXPIRED)));
    assert_eq!((dead[0].event_id(), &dead[0].body), (Some("evt-1"), &None));
    assert!(dead_letters(&store, Some(dead[0].id), 10).await.is_empty());

    // A pending delivery is leased after any number of attempts.
    accept(&store, "evt-3", &[]).await;
    let third = lease(&store, 10).await;
    settled(&store, &third[0], reschedule(Duration::ZERO)).await;
    assert_eq!(ids(&deliveries::lease(&store, 10, 1).await), [3]);
}

#[tokio::test]
async fn lease_that_finds_nothing_writes_nothing() {
    let folder = Folder::new();
    let store = folder.open();
    accept(&store, "evt-1", &[]).await;
    assert_eq!(lease(&store, 1).await.len(), 1);
    let other = folder.connect();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(lease(&store, 10).await.is_empty());
    store.counts().await.unwrap();
    let new = delivery("evt-2", "body", &[]);
    assert!(store.accept(&new, RETENTION).await.is_err(), "the lock has no effect");
}

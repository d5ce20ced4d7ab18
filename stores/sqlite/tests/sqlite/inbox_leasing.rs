//! Tests of leasing, ordering and purging deliveries.

use std::{collections::HashMap, time::Duration};

use tower_klikit::inbox::{
    DeliveryId, DeliveryState, Filter, InboxAdmin, InboxStore, LEASE_EXPIRED, LeaseRequest, Leased, SettleOutcome,
    Settlement,
};
use tower_klikit_sqlite::SqliteStore;

use crate::{
    deliveries::{
        self, accept, dead_letter, dead_letters, delivery, done, extend, ids, keep_for, lease_batch, request,
        reschedule, settle, settled,
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
async fn leases_one_delivery_per_ordering_key() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for (event, keys) in
        [("1", &["a"][..]), ("2", &["a", "b"]), ("3", &["b"]), ("4", &["c"]), ("5", &[]), ("6", &["b", "c"])]
    {
        accept(&store, event, keys).await;
    }
    let leased = lease(&store, 10).await;
    assert_eq!(ids(&leased), [1, 4, 5]);
    settled(&store, &leased[0], reschedule(SECOND)).await;
    assert!(lease(&store, 10).await.is_empty(), "a delivery that is not due blocks its ordering key");
    clock.advance(SECOND);
    let first = lease(&store, 10).await;
    assert_eq!(ids(&first), [1]);
    settled(&store, &first[0], dead_letter("400")).await;
    let second = lease(&store, 10).await;
    assert_eq!(ids(&second), [2]);
    assert!(store.retry(DeliveryId::new(1)).await.unwrap());
    assert!(!store.retry(DeliveryId::new(1)).await.unwrap());
    assert!(lease(&store, 10).await.is_empty(), "a leased delivery blocks its ordering key");
    settled(&store, &second[0], Settlement::Release).await;
    let first = lease(&store, 10).await;
    assert_eq!(ids(&first), [1], "a retried delivery takes its old place");
    settled(&store, &first[0], keep_for(LEASE)).await;
    let second = lease(&store, 10).await;
    assert_eq!(ids(&second), [2]);
    settled(&store, &second[0], done()).await;
    assert_eq!(ids(&lease(&store, 10).await), [3]);
    settled(&store, &leased[1], done()).await;
    assert!(lease(&store, 10).await.is_empty());

    // When the lease of delivery 3's former worker expires, delivery 3 is leased again.
    clock.advance(LEASE);
    assert!(ids(&lease(&store, 10).await).contains(&3));
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.ready, counts.leased, counts.dead, counts.done), (1, 2, 0, 1));
    assert_eq!(counts.oldest, Some(SECOND + LEASE));
    assert_eq!((store.backlog(10).await.unwrap(), store.backlog(2).await.unwrap()), (3, 2));
}

#[tokio::test]
async fn retried_delivery_precedes_an_expired_lease() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    accept(&store, "evt-1", &["key"]).await;
    accept(&store, "evt-2", &["key"]).await;
    settled(&store, &lease(&store, 1).await[0], dead_letter("400")).await;
    assert_eq!(ids(&lease(&store, 1).await), [2]);
    assert!(store.retry(DeliveryId::new(1)).await.unwrap());
    assert!(lease(&store, 1).await.is_empty());
    clock.advance(LEASE);
    assert_eq!(ids(&lease(&store, 2).await), [1]);
}

#[tokio::test]
async fn finds_deliveries_behind_50_000_blocked_ones() {
    const BLOCKED: i64 = 50_000;

    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    accept(&store, "evt-1", &["key"]).await;
    let first = lease(&store, 1).await;
    copy_first(&folder, BLOCKED);
    accept(&store, "evt-2", &["other key"]).await;
    accept(&store, "evt-3", &[]).await;
    assert_eq!(ids(&lease(&store, 10).await), [BLOCKED + 1, BLOCKED + 2]);
    settled(&store, &first[0], done()).await;
    assert_eq!(ids(&lease(&store, 10).await), [2]);
    assert_eq!(store.counts().await.unwrap().ready, BLOCKED.unsigned_abs() - 2);
}

#[tokio::test]
async fn leases_only_free_deliveries_behind_blocked_ones() {
    const BLOCKED: i64 = 1000;
    const LONGER: Duration = Duration::from_secs(3600);

    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    accept(&store, "evt-1", &["key"]).await;
    let first = lease(&store, 1).await;
    assert!(extend(&store, first[0].lease(), LONGER).await);
    copy_first(&folder, BLOCKED);
    for (event, keys) in [
        ("2", &["a"][..]),
        ("3", &["a"]),
        ("4", &[]),
        ("5", &["b", "key"]),
        ("6", &["c", "d"]),
        ("7", &["b"]),
        ("8", &["e"]),
    ] {
        accept(&store, event, keys).await;
    }
    let numbers = |leased: &[Leased]| ids(leased).iter().map(|id| id - BLOCKED + 1).collect::<Vec<_>>();
    assert_eq!(numbers(&lease(&store, 3).await), [2, 4, 6], "the longest due");
    let last = lease(&store, 10).await;
    assert_eq!(numbers(&last), [8]);
    settled(&store, &last[0], reschedule(LEASE + SECOND)).await;
    assert!(lease(&store, 10).await.is_empty());

    // If a worker dies, its delivery is leased again. After the last attempt, it is dead-lettered.
    clock.advance(LEASE);
    let again = lease(&store, 10).await;
    assert_eq!((numbers(&again), again[0].lease().attempt()), (vec![2, 4, 6], 2));
    settled(&store, &again[1], done()).await;
    clock.advance(LEASE);
    let behind = deliveries::lease(&store, 10, 2).await;
    assert_eq!(numbers(&behind), [8, 3]);
    assert_eq!(dead_letters(&store, None, 10).await.len(), 2);
    settled(&store, &first[0], done()).await;
    assert_eq!(ids(&lease(&store, 10).await), [2]);
}

/// Copies the first delivery until there are this many deliveries. The first delivery blocks the copies.
fn copy_first(folder: &Folder, all: i64) {
    let ids = "
        CREATE TEMP TABLE n AS
        WITH RECURSIVE n (n) AS (
            SELECT 2
            UNION ALL
            SELECT n + 1 FROM n WHERE n < ?1
        )
        SELECT n FROM n
        ";
    let copy = "
        BEGIN;

        INSERT INTO klikit_inbox (id, key, state, due, attempts, token, accepted_at, since, tenant, ordering_keys)
        SELECT n, randomblob(16), 0, accepted_at, 0, 0, accepted_at, since, tenant, ordering_keys
        FROM n, klikit_inbox
        ORDER BY n;

        INSERT INTO klikit_inbox_body (id, digest, head, body)
        SELECT n, digest, head, body
        FROM n, klikit_inbox_body
        ORDER BY n;

        INSERT INTO klikit_inbox_key (ordering_key, id)
        SELECT ordering_key, n
        FROM n, klikit_inbox_key;

        COMMIT
        ";
    let connection = folder.connect();
    connection.execute(ids, [all]).unwrap();
    connection.execute_batch(copy).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_keep_the_order_of_each_key() {
    const DELIVERIES: usize = 240;

    let folder = Folder::new();
    let (one, other) = (folder.open(), folder.open());
    for n in 0..DELIVERIES {
        accept(&one, &format!("evt-{n}"), &[&format!("key {}", n % 8)]).await;
    }
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let workers: Vec<_> = (0..8)
        .map(|n| {
            let store = if n % 2 == 0 { one.clone() } else { other.clone() };
            let sender = sender.clone();
            tokio::spawn(async move {
                while store.backlog(1).await.unwrap() > 0 {
                    // Without the lock, the store returns an error and leases nothing.
                    let request = LeaseRequest { duration: LEASE * 10, ..request(3, 3) };
                    for leased in store.lease(&request).await.unwrap_or_default().leased {
                        let key = leased.lease().id().get() % 8;
                        sender.send((key, leased.lease().id().get(), true)).unwrap();
                        tokio::task::yield_now().await;
                        sender.send((key, leased.lease().id().get(), false)).unwrap();
                        let outcome = [(*leased.lease(), done())];
                        while store.settle(&outcome).await.map_err(drop) != Ok(vec![SettleOutcome::Settled]) {}
                    }
                }
            })
        })
        .collect();
    drop(sender);
    let (mut busy, mut last, mut leased) = (HashMap::new(), HashMap::new(), 0);
    let limit = Duration::from_secs(120);
    while let Some((key, id, begins)) =
        tokio::time::timeout(limit, receiver.recv()).await.expect("the workers make progress")
    {
        if begins {
            assert_eq!(busy.insert(key, id), None, "two deliveries of key {key} are leased at once");
            assert!(
                last.insert(key, id).is_none_or(|last| last < id),
                "key {key} is out of order, or {id} was leased twice"
            );
            leased += 1;
        } else {
            assert_eq!(busy.remove(&key), Some(id));
        }
    }
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(leased, DELIVERIES);
}

#[tokio::test]
async fn purges_kept_deliveries() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for n in 0..300 {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    for (n, leased) in lease(&store, 300).await.iter().enumerate() {
        settled(&store, leased, keep_for(if n < 290 { SECOND } else { SECOND * 2 })).await;
    }
    assert_eq!(store.purge_done(1000).await.unwrap(), 0);
    clock.advance(SECOND);
    assert_eq!(store.purge_done(5).await.unwrap(), 5);
    assert_eq!(store.purge_done(1000).await.unwrap(), 285);
    let kept = store.show(DeliveryId::new(300)).await.unwrap().unwrap();
    assert_eq!((kept.state, kept.reason), (DeliveryState::Done, None));
    assert_eq!((folder.count("klikit_inbox"), folder.count("klikit_inbox_body")), (10, 10));
}

#[tokio::test]
async fn evicts_kept_deliveries_that_end_soonest() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for n in 0..300 {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    for (n, leased) in (0..300).zip(&lease(&store, 300).await) {
        settled(&store, leased, if n < 290 { keep_for(SECOND * (1000 - n)) } else { dead_letter("400") }).await;
    }
    clock.advance(SECOND * 800);
    assert_eq!(store.stored(1000).await.unwrap(), 300);
    assert_eq!(store.evict_done(0).await.unwrap(), 0);
    assert_eq!(store.evict_done(200).await.unwrap(), 200);
    let left = [90, 91, 290, 291].map(DeliveryId::new);
    for (id, is_left) in left.into_iter().zip([true, false, false, true]) {
        assert_eq!(store.show(id).await.unwrap().is_some(), is_left, "{id}");
    }
    assert_eq!(store.evict_done(1000).await.unwrap(), 90);
    assert_eq!(store.evict_done(1000).await.unwrap(), 0);
    assert_eq!(store.stored(1000).await.unwrap(), 10);
    assert_eq!((folder.count("klikit_inbox"), folder.count("klikit_inbox_body")), (10, 10));
    assert_eq!(folder.rows(), 300);
}

#[tokio::test]
async fn page_examines_a_bounded_number() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for n in 0..2500 {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    let last = Filter::new().event_id("evt-2499");
    let (mut pages, mut after) = (0, None);
    let found = loop {
        pages += 1;
        let page = store.find(&last, after, 10).await.unwrap();
        match page.next {
            Some(_) => assert!(page.entries.is_empty()),
            None => break page.entries,
        }
        after = page.next;
    };
    assert_eq!((pages, found.len(), found[0].id), (3, 1, DeliveryId::new(2500)));
}

#[tokio::test]
async fn purges_old_dead_letters() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for n in 0..400 {
        if n == 300 {
            clock.advance(SECOND);
        }
        accept(&store, &format!("evt-{n}"), &["key"][..usize::from(n == 0)]).await;
    }
    for leased in &lease(&store, 400).await {
        settled(&store, leased, dead_letter("400")).await;
    }
    assert_eq!(store.purge_dead(SECOND * 2, 1000).await.unwrap(), 0);
    clock.advance(SECOND);
    // Stored times are rounded, so the deliveries are purged only a millisecond later.
    assert_eq!(store.purge_dead(SECOND * 2, 1000).await.unwrap(), 0);
    clock.advance(Duration::from_millis(1));
    assert_eq!(store.purge_dead(SECOND * 2, 0).await.unwrap(), 0);
    assert_eq!(store.purge_dead(SECOND * 2, 130).await.unwrap(), 130);
    assert_eq!(dead_letters(&store, None, 1).await[0].id, DeliveryId::new(131));
    assert_eq!(store.purge_dead(SECOND * 2, 1000).await.unwrap(), 170);
    assert_eq!(store.purge_dead(SECOND * 2, 1000).await.unwrap(), 0);
    assert_eq!((folder.count("klikit_inbox"), folder.count("klikit_inbox_body")), (100, 100));
    assert_eq!(folder.rows(), 400);
    assert_eq!(store.purge_dead(Duration::MAX, 1000).await.unwrap(), 0);
    assert_eq!(store.purge_dead(Duration::ZERO, 1000).await.unwrap(), 100);
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

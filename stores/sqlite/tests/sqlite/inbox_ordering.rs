//! Tests of ordering keys.

use std::{collections::HashMap, time::Duration};

use tower_klikit::inbox::{InboxStore, LeaseRequest, Leased, SettleOutcome, Settlement};
use tower_klikit_sqlite::SqliteStore;

use crate::{
    deliveries::{
        self, accept, dead_letter, dead_letters, done, extend, ids, keep_for, request, reschedule, retry, settled,
    },
    support::{Folder, LEASE, TestClock},
};

const SECOND: Duration = Duration::from_secs(1);

async fn lease(store: &SqliteStore, limit: u32) -> Vec<Leased> {
    deliveries::lease(store, limit, 3).await
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
    assert!(retry(&store, 1).await);
    assert!(!retry(&store, 1).await);
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
    assert!(retry(&store, 1).await);
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
        -- The ids of the copies.
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

        -- The copies, all of them ready. Each has a key of its own.
        INSERT INTO klikit_inbox (id, key, state, due, attempts, token, accepted_at, since, tenant, ordering_keys)
        SELECT n, randomblob(16), 0, accepted_at, 0, 0, accepted_at, since, tenant, ordering_keys
        FROM n, klikit_inbox
        ORDER BY n;

        -- Their bodies.
        INSERT INTO klikit_inbox_body (id, digest, head, body)
        SELECT n, digest, head, body
        FROM n, klikit_inbox_body
        ORDER BY n;

        -- Their places in the queues.
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

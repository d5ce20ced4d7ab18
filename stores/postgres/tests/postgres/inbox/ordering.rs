//! Tests of ordering keys: deliveries that share a key are leased one after the other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tower_klikit::inbox::{
    Acceptance, DeliveryId, DeliveryState, InboxAdmin, InboxStore, LEASE_EXPIRED, SettleOutcome, Settlement, ShowBody,
};

use super::{
    TIME, accept, accept_all, bodies, dead, dead_letter, dead_letters, delivery, done, failed, finish, lease,
    lease_last, lease_one, ordered, pass, release, reschedule, retry, settle,
};
use crate::{RETENTION, client, count, open, servers::postgres::PostgresServer};

#[tokio::test]
async fn deliveries_that_share_a_key_wait() {
    let Some(server) = PostgresServer::start("deliveries that share a key wait") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let deliveries = [
        ordered("1", &["a"]).await,
        ordered("2", &["a", "b"]).await,
        ordered("3", &["b"]).await,
        ordered("4", &["c"]).await,
        delivery("5", "5").await,
    ];
    accept_all(&store, &deliveries).await;
    let first = lease(&store, 8).await;
    assert_eq!(bodies(&first), ["1", "4", "5"]);
    reschedule(&store, first[0].lease(), TIME, "500").await;
    for others in &first[1..] {
        finish(&store, others.lease(), Duration::ZERO).await;
    }
    assert_eq!(lease(&store, 8).await.len(), 0, "a rescheduled delivery blocks the others");
    client.execute("UPDATE klikit_inbox SET due = now() WHERE state = 0", &[]).await.unwrap();
    let again = lease_one(&store).await;
    assert_eq!(bodies(std::slice::from_ref(&again)), ["1"]);
    pass(&client).await;
    let again = lease(&store, 8).await;
    assert_eq!(bodies(&again), ["1"], "a delivery with an expired lease blocks the others");
    finish(&store, again[0].lease(), TIME).await;
    let second = lease(&store, 8).await;
    assert_eq!(bodies(&second), ["2"]);
    dead_letter(&store, second[0].lease(), "400").await;
    assert_eq!(bodies(&lease(&store, 8).await), ["3"], "a dead delivery blocks no others");
    pass(&client).await;
    lease_last(&store, 8).await;
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_inbox_key").await, 0, "all are dead");
}

#[tokio::test]
async fn many_blocked_deliveries_hide_no_others() {
    let Some(server) = PostgresServer::start("many blocked deliveries hide no others") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    accept(&store, &ordered("head", &["a"]).await).await;
    // More deliveries than are examined one by one.
    for number in 0..1000 {
        accept(&store, &ordered(&format!("waits-{number}"), &["a"]).await).await;
    }
    assert_eq!(lease_one(&store).await.body(), "head");
    accept_all(&store, &[ordered("b1", &["b"]).await, ordered("b2", &["b"]).await, ordered("ab", &["a", "c"]).await])
        .await;
    accept_all(&store, &[delivery("loose", "loose").await, ordered("d", &["d", "e"]).await]).await;
    assert_eq!(bodies(&lease(&store, 8).await), ["b1", "loose", "d"]);
    assert_eq!(lease(&store, 8).await.len(), 0);
    pass(&client).await;
    assert_eq!(bodies(&lease(&store, 8).await), ["head", "b1", "loose", "d"], "the leases have expired");
}

#[tokio::test]
async fn retried_delivery_keeps_its_place_in_the_queue() {
    let Some(server) = PostgresServer::start("retried delivery keeps its place in the queue") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    accept_all(&store, &[ordered("1", &["a"]).await, ordered("2", &["a"]).await, ordered("3", &["a"]).await]).await;
    for revive in [false, true] {
        let first = lease_one(&store).await;
        dead_letter(&store, first.lease(), "500").await;
        let second = lease_one(&store).await;
        assert_eq!(bodies(std::slice::from_ref(&second)), ["2"]);
        if revive {
            assert_eq!(accept(&store, &ordered("1", &["a"]).await).await, Acceptance::Revived);
        } else {
            assert!(retry(&store, first.lease().id()).await.unwrap());
        }
        assert_eq!(lease(&store, 8).await.len(), 0, "no two that share a key are leased at once");
        release(&store, second.lease()).await;
        assert_eq!(bodies(&lease(&store, 8).await), ["1"]);
        pass(&client).await;
    }
    // An expired lease on a later delivery does not block a retried one.
    let first = lease_one(&store).await;
    dead_letter(&store, first.lease(), "500").await;
    lease_one(&store).await;
    assert!(retry(&store, first.lease().id()).await.unwrap());
    pass(&client).await;
    assert_eq!(bodies(&lease(&store, 8).await), ["1"]);
}

/// The dead-lettered delivery's handler was still running, so the delivery returns to its old place in the queue.
#[tokio::test]
async fn late_outcome_restores_ordering_keys() {
    let Some(server) = PostgresServer::start("late outcome restores ordering keys") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let keys = "SELECT count(*) FROM klikit_inbox_key";
    for settlement in [failed(Duration::ZERO, "500"), Settlement::Release] {
        accept_all(&store, &[ordered("1", &["a", "b"]).await, ordered("2", &["a"]).await]).await;
        let first = *lease_one(&store).await.lease();
        pass(&client).await;
        let batch = lease_last(&store, 1).await;
        assert_eq!((batch.dead_lettered.len(), bodies(&batch.leased)), (1, vec!["2".to_owned()]));
        assert_eq!(count(&client, keys).await, 1);
        assert_eq!(settle(&store, &first, settlement.clone()).await, SettleOutcome::Settled);
        assert_eq!(count(&client, keys).await, 3);
        let entry = store.show(first.id(), ShowBody::Include).await.unwrap().unwrap();
        let (attempts, reason) = match settlement {
            Settlement::Release => (0, LEASE_EXPIRED),
            _ => (1, "500"),
        };
        assert_eq!((entry.state, entry.attempts), (DeliveryState::Ready, attempts));
        assert_eq!(entry.reason.as_deref(), Some(reason));
        assert_eq!(lease(&store, 8).await.len(), 0, "the second is leased");
        release(&store, batch.leased[0].lease()).await;
        let again = lease(&store, 8).await;
        assert_eq!(bodies(&again), ["1"]);
        finish(&store, again[0].lease(), Duration::ZERO).await;
        let second = lease(&store, 8).await;
        assert_eq!(bodies(&second), ["2"]);
        finish(&store, second[0].lease(), Duration::ZERO).await;
        client.execute("DELETE FROM klikit_ledger", &[]).await.unwrap();
    }
}

/// An id is drawn only after the key is locked, so that a later delivery never gets the smaller id.
#[tokio::test]
async fn ids_follow_the_order_of_commits() {
    let Some(server) = PostgresServer::start("ids follow the order of commits") else { return };
    let store = open(server.url()).await;
    let mut blocker = client(server.url()).await;
    let client = client(server.url()).await;
    let holding = blocker.transaction().await.unwrap();
    let locks = "
        SELECT pg_advisory_xact_lock(1802267503, lock)
        FROM generate_series(0, 1023) AS lock";
    holding.query(locks, &[]).await.unwrap();
    let waiting = tokio::spawn({
        let (store, new) = (store.clone(), ordered("first", &["a"]).await);
        async move { store.accept(&new, RETENTION).await }
    });
    assert!(waits(&client, &waiting).await, "accepting does not lock the ordering key");
    accept(&store, &delivery("second", "second").await).await;
    holding.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Acceptance::Accepted);
    let leased = lease(&store, 8).await;
    assert_eq!(bodies(&leased), ["second", "first"]);
    assert!(leased[0].lease().id() < leased[1].lease().id(), "the id was drawn before the key was locked");
}

/// Returns whether the call waits for an advisory lock, before it ends.
async fn waits<T>(client: &tokio_postgres::Client, call: &JoinHandle<T>) -> bool {
    let waiting = "
        SELECT count(*)
        FROM pg_locks
        WHERE locktype = 'advisory' AND NOT granted";
    while !call.is_finished() {
        if count(client, waiting).await > 0 {
            return true;
        }
    }
    false
}

/// Leasing sees the tables as they were when it began, so no delivery may come back from DEAD meanwhile.
#[tokio::test]
async fn nothing_is_leased_while_one_comes_back() {
    let Some(server) = PostgresServer::start("nothing is leased while one comes back") else { return };
    let store = open(server.url()).await;
    let mut blocker = client(server.url()).await;
    let client = client(server.url()).await;
    accept(&store, &ordered("evt-1", &["a"]).await).await;
    let mut dead = lease_one(&store).await;
    dead_letter(&store, dead.lease(), LEASE_EXPIRED).await;
    let lock = |how: &str| format!("SELECT {how}(1802267500, 'klikit_inbox'::regclass::oid::integer)");

    let bringing_back = blocker.transaction().await.unwrap();
    bringing_back.query(&lock("pg_advisory_xact_lock"), &[]).await.unwrap();
    let leasing = tokio::spawn({
        let store = store.clone();
        async move { lease(&store, 1).await }
    });
    assert!(waits(&client, &leasing).await, "leasing does not wait");
    bringing_back.rollback().await.unwrap();
    assert_eq!(leasing.await.unwrap().len(), 0);

    for how in ["retry", "revive", "settle"] {
        let leasing = blocker.transaction().await.unwrap();
        leasing.query(&lock("pg_advisory_xact_lock_shared"), &[]).await.unwrap();
        assert_eq!(lease(&store, 1).await.len(), 0, "leasing must not wait for leasing");
        let bringing_back = tokio::spawn({
            let (store, lease, new) = (store.clone(), *dead.lease(), ordered("evt-1", &["a"]).await);
            async move {
                match how {
                    "retry" => assert!(retry(&store, lease.id()).await.unwrap()),
                    "revive" => assert_eq!(accept(&store, &new).await, Acceptance::Revived),
                    _ => reschedule(&store, &lease, Duration::ZERO, "500").await,
                }
            }
        });
        assert!(waits(&client, &bringing_back).await, "bringing back does not wait");
        leasing.rollback().await.unwrap();
        bringing_back.await.unwrap();
        dead = lease_one(&store).await;
        dead_letter(&store, dead.lease(), LEASE_EXPIRED).await;
    }
}

#[tokio::test]
async fn accepts_a_delivery_with_thousands_of_keys() {
    let Some(server) = PostgresServer::start("accepts a delivery with thousands of keys") else { return };
    let store = open(server.url()).await;
    let keys: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    accept_all(&store, &[ordered("1", &keys).await, ordered("2", &["19999"]).await]).await;
    let first = lease(&store, 8).await;
    assert_eq!(bodies(&first), ["1"]);
    finish(&store, first[0].lease(), Duration::ZERO).await;
    assert_eq!(bodies(&lease(&store, 8).await), ["2"]);
}

/// A record of the leased deliveries of each key, by all workers.
#[derive(Default)]
struct Seen {
    holders: HashMap<String, DeliveryId>,
    last: HashMap<String, DeliveryId>,
    handled: usize,
}

/// Two nodes accept, lease, release, reschedule, dead-letter, retry and finish deliveries at the same time. Between its lease
/// and its settlement, each delivery is compared with those of all other workers.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_never_overlap_within_a_key() {
    let Some(server) = PostgresServer::start("two nodes never overlap within a key") else { return };
    let nodes = [open(server.url()).await, open(server.url()).await];
    for round in 0..6 {
        const DELIVERIES: usize = 120;
        let disturbed = round % 2 == 1;
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let keys_of = |n: usize| vec![format!("k{}", n % 3), format!("k{}", 3 + n % 2)];
        let senders = (0..4).map(|sender| {
            let store = nodes[sender % 2].clone();
            tokio::spawn(async move {
                for n in (sender..DELIVERIES).step_by(4) {
                    let keys = keys_of(n);
                    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
                    accept(&store, &ordered(&format!("{round}-{n}"), &keys).await).await;
                }
            })
        });
        let workers = (0..8).map(|worker| {
            let (store, seen) = (nodes[worker % 2].clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let mut turn = worker;
                while seen.lock().unwrap().handled < DELIVERIES {
                    for leased in lease(&store, 3).await {
                        turn += 1;
                        let id = leased.lease().id();
                        let body = String::from_utf8(leased.body().to_vec()).unwrap();
                        let keys = keys_of(body.rsplit('-').next().unwrap().parse().unwrap());
                        {
                            let mut seen = seen.lock().unwrap();
                            for key in &keys {
                                let other = seen.holders.insert(key.clone(), id);
                                assert_eq!(other, None, "{id} and another delivery with {key} are leased");
                                let last = seen.last.get(key).copied();
                                assert!(disturbed || last.is_none_or(|last| last <= id), "{id} after {last:?}");
                            }
                        }
                        tokio::task::yield_now().await;
                        let finishes = !disturbed || turn % 3 == 0;
                        {
                            let mut seen = seen.lock().unwrap();
                            for key in keys {
                                seen.holders.remove(&key);
                                seen.last.insert(key, id);
                            }
                            seen.handled += usize::from(finishes);
                        }
                        let lease = leased.lease();
                        let settlement = match turn % 3 {
                            _ if finishes => done(Duration::ZERO),
                            1 => Settlement::Release,
                            _ => dead("500"),
                        };
                        assert_eq!(settle(&store, lease, settlement).await, SettleOutcome::Settled);
                        if disturbed {
                            for dead in dead_letters(&store, None, 100).await {
                                retry(&store, dead.id).await.unwrap();
                            }
                        }
                    }
                }
            })
        });
        let tasks: Vec<_> = senders.chain(workers).collect();
        let all = tokio::time::timeout(Duration::from_secs(240), join_all(tasks))
            .await
            .expect("the tasks end within four minutes");
        all.into_iter().for_each(|task| task.unwrap());
        assert_eq!(nodes[0].backlog(u64::MAX).await.unwrap(), 0);
    }
}

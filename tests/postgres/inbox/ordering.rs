//! One after the other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tower_klikit::inbox::{Acceptance, DeliveryId, InboxStore};

use super::{TIME, accept, accept_all, bodies, delivery, lease, lease_one, ordered, pass};
use crate::{RETENTION, client, count, open, servers::postgres::PostgresServer};

#[tokio::test]
async fn those_that_share_a_key_wait_for_each_other() {
    let Some(server) = PostgresServer::start("those that share a key wait") else { return };
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
    assert!(store.postpone(first[0].lease(), TIME, "500").await.unwrap());
    for others in &first[1..] {
        assert!(store.finish(others.lease(), Duration::ZERO).await.unwrap());
    }
    assert_eq!(lease(&store, 8).await.len(), 0, "one that is postponed holds the others");
    client.execute("UPDATE klikit_deliveries_inbox SET due = now() WHERE state = 0", &[]).await.unwrap();
    let again = lease_one(&store).await;
    assert_eq!(bodies(std::slice::from_ref(&again)), ["1"]);
    pass(&client).await;
    let again = lease(&store, 8).await;
    assert_eq!(bodies(&again), ["1"], "one whose lease has run out, too");
    assert!(store.finish(again[0].lease(), TIME).await.unwrap());
    let second = lease(&store, 8).await;
    assert_eq!(bodies(&second), ["2"]);
    assert!(store.bury(second[0].lease(), "400").await.unwrap());
    assert_eq!(bodies(&lease(&store, 8).await), ["3"], "what is dead holds nobody");
    pass(&client).await;
    store.lease(8, TIME, 1).await.unwrap();
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_deliveries_inbox_ordering").await, 0, "all are buried");
}

#[tokio::test]
async fn many_that_wait_hide_nobody_behind_them() {
    let Some(server) = PostgresServer::start("many that wait hide nobody") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    accept(&store, &ordered("head", &["a"]).await).await;
    // More than are looked at one by one.
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
    assert_eq!(bodies(&lease(&store, 8).await), ["head", "b1", "loose", "d"], "those whose leases have run out");
}

#[tokio::test]
async fn one_that_is_brought_back_takes_its_old_place_and_waits_for_whoever_is_leased() {
    let Some(server) = PostgresServer::start("one that is brought back takes its old place") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    accept_all(&store, &[ordered("1", &["a"]).await, ordered("2", &["a"]).await, ordered("3", &["a"]).await]).await;
    for revive in [false, true] {
        let first = lease_one(&store).await;
        assert!(store.bury(first.lease(), "500").await.unwrap());
        let second = lease_one(&store).await;
        assert_eq!(bodies(std::slice::from_ref(&second)), ["2"]);
        if revive {
            assert_eq!(accept(&store, &ordered("1", &["a"]).await).await, Acceptance::Revived);
        } else {
            assert!(store.retry(first.lease().id()).await.unwrap());
        }
        assert_eq!(lease(&store, 8).await.len(), 0, "no two that share a key are leased at once");
        assert!(store.give_back(second.lease()).await.unwrap());
        assert_eq!(bodies(&lease(&store, 8).await), ["1"]);
        pass(&client).await;
    }
    // One that has died while another was brought back holds nobody for ever.
    let first = lease_one(&store).await;
    assert!(store.bury(first.lease(), "500").await.unwrap());
    lease_one(&store).await;
    assert!(store.retry(first.lease().id()).await.unwrap());
    pass(&client).await;
    assert_eq!(bodies(&lease(&store, 8).await), ["1"]);
}

/// An id is drawn only once the key is one's own, so that who comes later never has the smaller one.
#[tokio::test]
async fn ids_are_given_in_the_order_of_the_commits() {
    let Some(server) = PostgresServer::start("ids are given in the order of the commits") else { return };
    let store = open(server.url()).await;
    let mut blocker = client(server.url()).await;
    let client = client(server.url()).await;
    let holding = blocker.transaction().await.unwrap();
    let locks = "SELECT pg_advisory_xact_lock(1802267503, lock) FROM generate_series(0, 1023) AS lock";
    holding.query(locks, &[]).await.unwrap();
    let waiting = tokio::spawn({
        let (store, new) = (store.clone(), ordered("first", &["a"]).await);
        async move { store.accept(&new, RETENTION).await }
    });
    assert!(waits(&client, &waiting).await, "it takes no lock on its key");
    accept(&store, &delivery("second", "second").await).await;
    holding.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Acceptance::Accepted);
    let leased = lease(&store, 8).await;
    assert_eq!(bodies(&leased), ["second", "first"]);
    assert!(leased[0].lease().id() < leased[1].lease().id(), "the id was drawn before the lock was had");
}

/// Whether the call waits for an advisory lock, and does not end.
async fn waits<T>(client: &tokio_postgres::Client, call: &JoinHandle<T>) -> bool {
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    while !call.is_finished() {
        if count(client, waiting).await > 0 {
            return true;
        }
    }
    false
}

/// Who leases sees what was there when it began, and so must not overlap with what brings a delivery back.
#[tokio::test]
async fn nothing_is_leased_while_a_delivery_is_brought_back() {
    let Some(server) = PostgresServer::start("nothing is leased meanwhile") else { return };
    let store = open(server.url()).await;
    let mut blocker = client(server.url()).await;
    let client = client(server.url()).await;
    accept(&store, &ordered("evt-1", &["a"]).await).await;
    let dead = lease_one(&store).await;
    assert!(store.bury(dead.lease(), "500").await.unwrap());
    let lock = |how: &str| format!("SELECT {how}(1802267500, 'klikit_deliveries_inbox'::regclass::oid::integer)");

    let bringing_back = blocker.transaction().await.unwrap();
    bringing_back.query(&lock("pg_advisory_xact_lock"), &[]).await.unwrap();
    let leasing = tokio::spawn({
        let store = store.clone();
        async move { lease(&store, 1).await }
    });
    assert!(waits(&client, &leasing).await, "it leases meanwhile");
    bringing_back.rollback().await.unwrap();
    assert_eq!(leasing.await.unwrap().len(), 0);

    for revive in [false, true] {
        let leasing = blocker.transaction().await.unwrap();
        leasing.query(&lock("pg_advisory_xact_lock_shared"), &[]).await.unwrap();
        assert_eq!(lease(&store, 1).await.len(), 0, "another may lease at the same time");
        let bringing_back = tokio::spawn({
            let (store, id, new) = (store.clone(), dead.lease().id(), ordered("evt-1", &["a"]).await);
            async move { if revive { _ = accept(&store, &new).await } else { assert!(store.retry(id).await.unwrap()) } }
        });
        assert!(waits(&client, &bringing_back).await, "it is brought back meanwhile");
        leasing.rollback().await.unwrap();
        bringing_back.await.unwrap();
        let again = lease_one(&store).await;
        assert!(store.bury(again.lease(), "500").await.unwrap());
    }
}

#[tokio::test]
async fn a_delivery_of_thousands_of_keys_is_accepted() {
    let Some(server) = PostgresServer::start("a delivery of thousands of keys") else { return };
    let store = open(server.url()).await;
    let keys: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    accept_all(&store, &[ordered("1", &keys).await, ordered("2", &["19999"]).await]).await;
    let first = lease(&store, 8).await;
    assert_eq!(bodies(&first), ["1"]);
    assert!(store.finish(first[0].lease(), Duration::ZERO).await.unwrap());
    assert_eq!(bodies(&lease(&store, 8).await), ["2"]);
}

/// Whoever has which key, as the workers see it.
#[derive(Default)]
struct Seen {
    holders: HashMap<String, DeliveryId>,
    last: HashMap<String, DeliveryId>,
    handled: usize,
}

/// Deliveries are accepted, leased, given back, postponed, buried, retried and finished by two nodes at once. What a worker
/// has is checked between its lease and its end against what all others have.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_keep_the_order_and_never_overlap_within_a_key() {
    let Some(server) = PostgresServer::start("two nodes keep the order") else { return };
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
                                assert_eq!(other, None, "{id} and another have {key} at once");
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
                        let held = match turn % 3 {
                            _ if finishes => store.finish(lease, Duration::ZERO).await,
                            1 => store.give_back(lease).await,
                            _ => store.bury(lease, "500").await,
                        };
                        assert!(held.unwrap());
                        if disturbed {
                            for dead in store.dead(None, 100).await.unwrap() {
                                store.retry(dead.id).await.unwrap();
                            }
                        }
                    }
                }
            })
        });
        let tasks: Vec<_> = senders.chain(workers).collect();
        let all = tokio::time::timeout(Duration::from_secs(240), join_all(tasks)).await.expect("it ends");
        all.into_iter().for_each(|task| task.unwrap());
        assert_eq!(nodes[0].backlog(u64::MAX).await.unwrap(), 0);
    }
}

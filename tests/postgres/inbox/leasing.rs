//! Leases, by one node and by two at once.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use tower_klikit::inbox::{DeliveryState, InboxStore};

use super::{ATTEMPTS, TIME, accept, bodies, delivery, lease, lease_one, ordered, pass};
use crate::{client, count, open, servers::postgres::PostgresServer};

#[tokio::test]
async fn the_longest_due_are_leased_first_and_once() {
    let Some(server) = PostgresServer::start("the longest due are leased first") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for n in 0..5 {
        accept(&store, &delivery(&format!("evt-{n}"), &n.to_string()).await).await;
    }
    client
        .execute("UPDATE klikit_deliveries_inbox SET due = now() - interval '1 s' WHERE id = (SELECT max(id) FROM klikit_deliveries_inbox)", &[])
        .await
        .unwrap();
    assert_eq!(lease(&store, 0).await.len(), 0);
    let first = lease(&store, 2).await;
    assert_eq!(bodies(&first), ["4", "0"]);
    assert_eq!(bodies(&lease(&store, 16).await), ["1", "2", "3"]);
    assert_eq!(lease(&store, 16).await.len(), 0);
    pass(&client).await;
    let again = lease(&store, 16).await;
    assert_eq!(again.len(), 5);
    let same = again.iter().find(|leased| leased.lease().id() == first[0].lease().id()).unwrap().lease();
    assert!(same.token() > first[0].lease().token());
    assert_eq!((first[0].lease().attempt(), same.attempt()), (1, 2));
}

#[tokio::test]
async fn a_lease_is_held_until_another_has_it() {
    let Some(server) = PostgresServer::start("a lease is held until another has it") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    accept(&store, &delivery("evt-1", "one").await).await;
    let first = *lease_one(&store).await.lease();
    assert!(store.extend(&first, 2 * TIME).await.unwrap());
    client.execute("UPDATE klikit_deliveries_inbox SET due = due - interval '90 s'", &[]).await.unwrap();
    assert_eq!(lease(&store, 1).await.len(), 0, "it lasts longer than it did");
    pass(&client).await;
    assert!(!store.extend(&first, TIME).await.unwrap(), "its time is up");
    let second = *lease_one(&store).await.lease();
    assert!(!store.extend(&first, TIME).await.unwrap());
    for keep in [Duration::ZERO, TIME] {
        assert!(!store.finish(&first, keep).await.unwrap());
    }
    assert!(!store.postpone(&first, TIME, "lost").await.unwrap());
    assert!(!store.bury(&first, "lost").await.unwrap());
    assert!(!store.give_back(&first).await.unwrap());
    let entry = store.show(first.id()).await.unwrap().unwrap();
    assert_eq!((entry.state, entry.attempts, entry.reason), (DeliveryState::Leased, 2, None));
    assert!(store.give_back(&second).await.unwrap());
    let third = *lease_one(&store).await.lease();
    assert_eq!(third.attempt(), 2);
    assert!(store.postpone(&third, TIME, "500").await.unwrap());
    assert_eq!(lease(&store, 1).await.len(), 0, "it is not due");
    pass(&client).await;
    let last = *lease_one(&store).await.lease();
    assert!(store.finish(&last, Duration::ZERO).await.unwrap());
    assert!(!store.finish(&last, Duration::ZERO).await.unwrap());
    assert!(store.show(first.id()).await.unwrap().is_none());
}

#[tokio::test]
async fn who_died_of_its_last_attempt_is_buried_and_takes_nobodys_place() {
    let Some(server) = PostgresServer::start("who died of its last attempt is buried") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for n in 0..2 {
        accept(&store, &delivery(&format!("evt-{n}"), &n.to_string()).await).await;
    }
    let died = store.lease(2, TIME, 1).await.unwrap();
    pass(&client).await;
    accept(&store, &delivery("evt-2", "2").await).await;
    assert_eq!(bodies(&store.lease(1, TIME, 1).await.unwrap()), ["2"]);
    for dead in &died {
        let entry = store.show(dead.lease().id()).await.unwrap().unwrap();
        assert_eq!((entry.state, entry.attempts), (DeliveryState::Dead, 1));
        assert_eq!(entry.reason.as_deref(), Some("its lease ran out on its last attempt"));
        assert!(!store.finish(dead.lease(), Duration::ZERO).await.unwrap());
    }
    assert!(store.retry(died[0].lease().id()).await.unwrap());
    let retried = lease_one(&store).await;
    assert!(store.postpone(retried.lease(), Duration::ZERO, "500").await.unwrap());
    assert_eq!(store.lease(1, TIME, 1).await.unwrap()[0].lease().attempt(), 2, "what is ready is leased all the same");
}

/// Somebody may finish a delivery in a transaction that stays open for long.
#[tokio::test]
async fn leasing_waits_for_nobody() {
    let Some(server) = PostgresServer::start("leasing waits for nobody") else { return };
    let store = open(server.url()).await;
    let mut client = client(server.url()).await;
    for n in 0..3 {
        accept(&store, &delivery(&format!("evt-{n}"), &n.to_string()).await).await;
    }
    let first = store.lease(1, TIME, 1).await.unwrap();
    pass(&client).await;
    let transaction = client.transaction().await.unwrap();
    assert!(store.finish_in(&transaction, first[0].lease()).await.unwrap());
    assert_eq!(bodies(&store.lease(8, TIME, 1).await.unwrap()), ["1", "2"]);
    transaction.rollback().await.unwrap();
    store.lease(8, TIME, 1).await.unwrap();
    assert_eq!(store.show(first[0].lease().id()).await.unwrap().unwrap().state, DeliveryState::Dead);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_lease_at_once_never_get_the_same() {
    let Some(server) = PostgresServer::start("two nodes that lease at once") else { return };
    let nodes = [open(server.url()).await, open(server.url()).await];
    let client = client(server.url()).await;
    for round in 0..15 {
        for n in 0..40 {
            accept(&nodes[n % 2], &delivery(&format!("evt-{round}-{n}"), "x").await).await;
        }
        if round % 2 == 1 {
            // Leases that have run out are taken as what is ready.
            lease(&nodes[0], 40).await;
            pass(&client).await;
        }
        let tasks = (0..16).map(|task| {
            let store = nodes[task % 2].clone();
            tokio::spawn(async move {
                let mut all = Vec::new();
                loop {
                    let some = store.lease(3, TIME, ATTEMPTS).await.unwrap();
                    if some.is_empty() {
                        return all;
                    }
                    all.extend(some.iter().map(|leased| *leased.lease()));
                }
            })
        });
        let leased: Vec<_> = join_all(tasks).await.into_iter().flat_map(Result::unwrap).collect();
        assert!(leased.len() <= 40, "{} leases on 40 deliveries", leased.len());
        let mut all: HashSet<_> = leased.iter().map(|lease| lease.id()).collect();
        assert_eq!(all.len(), leased.len(), "leased twice");
        // What one node had locked when the other looked is found by the next look.
        let rest = lease(&nodes[0], 40).await;
        all.extend(rest.iter().map(|leased| leased.lease().id()));
        assert_eq!(all.len(), 40);
        let rest = rest.iter().map(|leased| *leased.lease());
        for lease in leased.into_iter().chain(rest) {
            assert!(nodes[1].finish(&lease, Duration::ZERO).await.unwrap());
        }
    }
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_deliveries_inbox_delivery").await, 0);
}

/// A transaction that is open for long stands for the other node, caught between its choice and its end.
#[tokio::test]
async fn two_nodes_find_different_parts_of_one_backlog() {
    let Some(server) = PostgresServer::start("two nodes find different parts") else { return };
    let store = open(server.url()).await;
    let mut other = client(server.url()).await;
    for keyed in [false, true] {
        for n in 0..32 {
            let (id, key) = (format!("{keyed}-{n}"), format!("k{n}"));
            let keys: &[&str] = if keyed { &[&key] } else { &[] };
            accept(&store, &ordered(&id, keys).await).await;
        }
        let transaction = other.transaction().await.unwrap();
        let first = "SELECT id FROM klikit_deliveries_inbox WHERE state = 0 ORDER BY due, id LIMIT 16 FOR UPDATE";
        let held = transaction.query(first, &[]).await.unwrap();
        let mut all: HashSet<i64> = held.iter().map(|row| row.get(0)).collect();
        let mine = lease(&store, 16).await;
        assert_eq!((held.len(), mine.len()), (16, 16), "with keys: {keyed}");
        all.extend(mine.iter().map(|leased| leased.lease().id().get()));
        transaction.rollback().await.unwrap();
        let rest = lease(&store, 32).await;
        assert_eq!((all.len(), rest.len()), (32, 16), "with keys: {keyed}");
    }
}

/// As many are looked at first as wait in front here, and what is free among them the other node has.
#[tokio::test]
async fn behind_many_that_wait_another_part_is_found_too() {
    let Some(server) = PostgresServer::start("behind many that wait") else { return };
    let store = open(server.url()).await;
    let mut other = client(server.url()).await;
    for n in 0..600 {
        accept(&store, &ordered(&n.to_string(), &["a"]).await).await;
    }
    for n in 600..604 {
        accept(&store, &ordered(&n.to_string(), &[&n.to_string()]).await).await;
    }
    let transaction = other.transaction().await.unwrap();
    let first = "SELECT id FROM klikit_deliveries_inbox ORDER BY id LIMIT 1 FOR UPDATE";
    transaction.query(first, &[]).await.unwrap();
    assert_eq!(bodies(&lease(&store, 1).await), ["600"]);
    assert_eq!(bodies(&lease(&store, 8).await), ["601", "602", "603"]);
}

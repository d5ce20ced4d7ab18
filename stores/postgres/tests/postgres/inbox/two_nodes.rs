//! Tests of leasing by two nodes at the same time.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;

use super::{accept, bodies, delivery, finish, lease, ordered, pass};
use crate::{client, count, open, servers::postgres::PostgresServer};

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_never_lease_the_same_delivery() {
    let Some(server) = PostgresServer::start("two nodes never lease the same delivery") else { return };
    let nodes = [open(server.url()).await, open(server.url()).await];
    let client = client(server.url()).await;
    for round in 0..15 {
        for n in 0..40 {
            accept(&nodes[n % 2], &delivery(&format!("evt-{round}-{n}"), "x").await).await;
        }
        if round % 2 == 1 {
            // Expired leases are candidates like ready deliveries.
            lease(&nodes[0], 40).await;
            pass(&client).await;
        }
        let tasks = (0..16).map(|task| {
            let store = nodes[task % 2].clone();
            tokio::spawn(async move {
                let mut all = Vec::new();
                loop {
                    let some = lease(&store, 3).await;
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
        // A later call leases the deliveries that the other node had locked.
        let rest = lease(&nodes[0], 40).await;
        all.extend(rest.iter().map(|leased| leased.lease().id()));
        assert_eq!(all.len(), 40);
        let rest = rest.iter().map(|leased| *leased.lease());
        for lease in leased.into_iter().chain(rest) {
            finish(&nodes[1], &lease, Duration::ZERO).await;
        }
    }
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_inbox_body").await, 0);
}

/// A long transaction imitates another node that has selected deliveries and not yet committed.
#[tokio::test]
async fn two_nodes_lease_different_parts_of_a_backlog() {
    let Some(server) = PostgresServer::start("two nodes lease different parts of a backlog") else { return };
    let store = open(server.url()).await;
    let mut other = client(server.url()).await;
    for has_keys in [false, true] {
        for n in 0..32 {
            let (id, key) = (format!("{has_keys}-{n}"), format!("k{n}"));
            let keys: &[&str] = if has_keys { &[&key] } else { &[] };
            accept(&store, &ordered(&id, keys).await).await;
        }
        let transaction = other.transaction().await.unwrap();
        let lock_first = "
            SELECT id
            FROM klikit_inbox
            WHERE state = 0
            ORDER BY due, id
            LIMIT 16
            FOR UPDATE";
        let locked = transaction.query(lock_first, &[]).await.unwrap();
        let mut all: HashSet<i64> = locked.iter().map(|row| row.get(0)).collect();
        let leased = lease(&store, 16).await;
        assert_eq!((locked.len(), leased.len()), (16, 16), "with keys: {has_keys}");
        all.extend(leased.iter().map(|leased| leased.lease().id().get()));
        transaction.rollback().await.unwrap();
        let rest = lease(&store, 32).await;
        assert_eq!((all.len(), rest.len()), (32, 16), "with keys: {has_keys}");
    }
}

/// The first examined deliveries are blocked, except one that the other node has locked.
#[tokio::test]
async fn many_blocked_deliveries_hide_no_others() {
    let Some(server) = PostgresServer::start("many blocked deliveries hide no others") else { return };
    let store = open(server.url()).await;
    let mut other = client(server.url()).await;
    for n in 0..600 {
        accept(&store, &ordered(&n.to_string(), &["a"]).await).await;
    }
    for n in 600..604 {
        accept(&store, &ordered(&n.to_string(), &[&n.to_string()]).await).await;
    }
    let transaction = other.transaction().await.unwrap();
    let lock_first = "
        SELECT id
        FROM klikit_inbox
        ORDER BY id
        LIMIT 1
        FOR UPDATE";
    transaction.query(lock_first, &[]).await.unwrap();
    assert_eq!(bodies(&lease(&store, 1).await), ["600"]);
    assert_eq!(bodies(&lease(&store, 8).await), ["601", "602", "603"]);
}

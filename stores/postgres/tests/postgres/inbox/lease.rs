//! Tests of leasing, by one node and by two at the same time.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use tower_klikit::inbox::{
    DeadLettered, DeliveryId, DeliveryState, InboxAdmin, InboxStore, LEASE_EXPIRED, Lease, LeaseRequest, SettleOutcome,
    Settlement,
};

use super::{
    ATTEMPTS, TIME, accept, accept_all, bodies, dead, dead_letter, delivery, done, extend, failed, finish, lease,
    lease_last, lease_one, lease_with, ordered, pass, release, request, reschedule, settle,
};
use crate::{client, count, ends, open, patient, proxy::Proxy, servers::postgres::PostgresServer};

#[tokio::test]
async fn longest_due_are_leased_first_and_once() {
    let Some(server) = PostgresServer::start("longest due are leased first and once") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for n in 0..5 {
        accept(&store, &delivery(&format!("evt-{n}"), &n.to_string()).await).await;
    }
    client
        .execute(
            "
                UPDATE klikit_inbox
                SET due = now() - interval '1 s'
                WHERE id = (SELECT max(id) FROM klikit_inbox)",
            &[],
        )
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
async fn lease_is_held_until_another_worker_has_it() {
    let Some(server) = PostgresServer::start("lease is held until another worker has it") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    accept(&store, &delivery("evt-1", "one").await).await;
    let first = *lease_one(&store).await.lease();
    assert_eq!(store.extend(&[first], 2 * TIME).await.unwrap(), [true]);
    client.execute("UPDATE klikit_inbox SET due = due - interval '90 s'", &[]).await.unwrap();
    assert_eq!(lease(&store, 1).await.len(), 0, "the lease was extended");
    pass(&client).await;
    assert!(extend(&store, &first).await, "the lease has expired, and no other worker has the delivery");
    assert_eq!(lease(&store, 1).await.len(), 0);
    pass(&client).await;
    let second = *lease_one(&store).await.lease();
    assert!(!extend(&store, &first).await);
    for late in [done(Duration::ZERO), done(TIME), failed(TIME, "lost"), dead("lost"), Settlement::Release] {
        assert_eq!(settle(&store, &first, late).await, SettleOutcome::Superseded);
    }
    let entry = store.show(first.id()).await.unwrap().unwrap();
    assert_eq!((entry.state, entry.attempts, entry.reason), (DeliveryState::Leased, 2, None));
    release(&store, &second).await;
    let third = *lease_one(&store).await.lease();
    assert_eq!(third.attempt(), 2);
    reschedule(&store, &third, TIME, "500").await;
    assert_eq!(lease(&store, 1).await.len(), 0, "the delivery is not due");
    pass(&client).await;
    let last = *lease_one(&store).await.lease();
    finish(&store, &last, Duration::ZERO).await;
    assert_eq!(settle(&store, &last, done(Duration::ZERO)).await, SettleOutcome::Gone);
    assert!(store.show(first.id()).await.unwrap().is_none());
}

#[tokio::test]
async fn expired_last_attempt_is_dead_lettered_and_reported() {
    let Some(server) = PostgresServer::start("expired last attempt is dead lettered and reported") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let mut deliveries = Vec::new();
    for n in 0..3 {
        deliveries.push(delivery(&format!("evt-{n}"), &n.to_string()).await);
    }
    for delivery in &deliveries[..2] {
        accept(&store, delivery).await;
    }
    let died = lease_last(&store, 2).await.leased;
    pass(&client).await;
    accept(&store, &deliveries[2]).await;
    let batch = lease_last(&store, 1).await;
    assert_eq!(bodies(&batch.leased), ["2"], "dead letters do not count towards the limit");
    let expected: Vec<_> = died
        .iter()
        .map(|died| {
            let head = Some(died.head().to_owned());
            DeadLettered { id: died.lease().id(), attempts: 1, head, reason: LEASE_EXPIRED.into() }
        })
        .collect();
    assert_eq!(batch.dead_lettered, expected);
    for dead in &died {
        let entry = store.show(dead.lease().id()).await.unwrap().unwrap();
        assert_eq!((entry.state, entry.attempts), (DeliveryState::Dead, 1));
        assert_eq!(entry.reason.as_deref(), Some(LEASE_EXPIRED));
        assert!(!extend(&store, dead.lease()).await);
    }
    assert!(store.retry(died[0].lease().id()).await.unwrap());
    let retried = lease_one(&store).await;
    reschedule(&store, retried.lease(), Duration::ZERO, "500").await;
    let again = lease_last(&store, 1).await;
    assert_eq!(again.leased[0].lease().attempt(), 2, "a ready delivery is leased even without attempts left");
    assert!(again.dead_lettered.is_empty());
}

#[tokio::test]
async fn extends_many_leases_in_order() {
    let Some(server) = PostgresServer::start_own("extends many leases in order", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = patient().max_connections(1).open(&proxy.url()).await.unwrap();
    let client = client(server.url()).await;
    for n in 0..4 {
        accept(&store, &delivery(&format!("evt-{n}"), "x").await).await;
    }
    let leased: Vec<_> = lease(&store, 4).await.iter().map(|leased| *leased.lease()).collect();
    let [held, ready, kept, dead_one] = leased[..] else { panic!("four are leased") };
    reschedule(&store, &ready, TIME, "500").await;
    finish(&store, &kept, TIME).await;
    dead_letter(&store, &dead_one, "500").await;
    pass(&client).await;
    let (others, gone) = (Lease::new(held.id(), held.token() + 1, 1), Lease::new(DeliveryId::new(1_000_000), 1, 1));
    let asked = [gone, held, ready, others, kept, dead_one, held];
    for _ in 0..2 {
        let extended = store.extend(&asked, TIME).await.unwrap();
        assert_eq!(extended, [false, true, false, false, false, false, true]);
    }
    let before = proxy.round_trips();
    store.extend(&asked, TIME).await.unwrap();
    // Everything is sent at once, but the driver may write it in two pieces.
    assert!(proxy.round_trips() - before <= 2);
    let extended = "
        SELECT count(*)
        FROM klikit_inbox
        WHERE due BETWEEN now() AND now() + interval '60 s'";
    assert_eq!(count(&client, extended).await, 1);
    assert!(store.extend(&[], TIME).await.unwrap().is_empty());
}

/// A handler that finishes its delivery in its own transaction may commit late. Other leases must not expire meanwhile.
#[tokio::test]
async fn extending_waits_for_no_lock() {
    let Some(server) = PostgresServer::start("extending waits for no lock") else { return };
    let store = open(server.url()).await;
    let mut other = client(server.url()).await;
    let client = client(server.url()).await;
    for n in 0..2 {
        accept(&store, &delivery(&format!("evt-{n}"), "x").await).await;
    }
    let leased: Vec<_> = lease(&store, 2).await.iter().map(|leased| *leased.lease()).collect();
    pass(&client).await;
    let transaction = other.transaction().await.unwrap();
    assert!(store.finish_in(&transaction, &leased[0]).await.unwrap());
    assert_eq!(ends(store.extend(&leased, TIME)).await.unwrap(), [true, true]);
    let held = LeaseRequest { held: &leased, ..request(8) };
    assert_eq!(ends(lease_with(&store, held)).await.leased.len(), 0);
    transaction.commit().await.unwrap();
    assert_eq!(store.extend(&leased, TIME).await.unwrap(), [false, true]);
}

#[tokio::test]
async fn held_leases_do_not_expire() {
    let Some(server) = PostgresServer::start("held leases do not expire") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    accept_all(&store, &[ordered("1", &["a"]).await, ordered("2", &["a"]).await, delivery("3", "3").await]).await;
    let held: Vec<_> = lease(&store, 1).await.iter().map(|leased| *leased.lease()).collect();
    let before = due(&client, &held[0]).await;
    for max_attempts in [ATTEMPTS, 1] {
        let request = LeaseRequest { max_attempts, held: &held, ..request(8) };
        let batch = lease_with(&store, request).await;
        assert_eq!(bodies(&batch.leased), if max_attempts == 1 { vec![] } else { vec!["3"] });
        assert_eq!(due(&client, &held[0]).await, before, "a lease that has not expired is not extended");
    }
    for max_attempts in [ATTEMPTS, 1] {
        client
            .execute("UPDATE klikit_inbox SET due = now() - interval '1 s' WHERE id = $1", &[&held[0].id().get()])
            .await
            .unwrap();
        let request = LeaseRequest { max_attempts, held: &held, ..request(8) };
        let batch = lease_with(&store, request).await;
        assert!(batch.leased.is_empty() && batch.dead_lettered.is_empty(), "{batch:?}");
        let extended = "
            SELECT count(*)
            FROM klikit_inbox
            WHERE id = $1 AND due > now() + interval '50 s'";
        let extended: i64 = client.query_one(extended, &[&held[0].id().get()]).await.unwrap().get(0);
        assert_eq!(extended, 1);
    }
    // A lease with another token protects nothing.
    pass(&client).await;
    let others = [Lease::new(held[0].id(), held[0].token() + 1, 1)];
    let again = lease_with(&store, LeaseRequest { held: &others, ..request(8) }).await;
    assert!(again.leased.iter().any(|leased| leased.lease().id() == held[0].id()));
}

/// Between the extension and the statement that leases, a lease may expire again, or another transaction may unlock one.
#[tokio::test]
async fn held_lease_is_no_candidate_even_if_it_expires() {
    let Some(server) = PostgresServer::start("held lease is no candidate even if it expires") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for (n, keys) in [&[][..], &["a"]].into_iter().enumerate() {
        accept(&store, &ordered(&format!("evt-{n}"), keys).await).await;
    }
    let held: Vec<_> = lease(&store, 8).await.iter().map(|leased| *leased.lease()).collect();
    pass(&client).await;
    for max_attempts in [ATTEMPTS, 1] {
        let request = LeaseRequest { duration: Duration::ZERO, max_attempts, held: &held, ..request(8) };
        let batch = lease_with(&store, request).await;
        assert!(batch.leased.is_empty() && batch.dead_lettered.is_empty(), "{batch:?}");
    }
    assert_eq!(store.extend(&held, TIME).await.unwrap(), [true, true]);
}

/// Returns the end of a lease, in microseconds since 1970.
async fn due(client: &tokio_postgres::Client, lease: &Lease) -> i64 {
    let due = "SELECT (extract(epoch FROM due) * 1000000)::bigint FROM klikit_inbox WHERE id = $1";
    client.query_one(due, &[&lease.id().get()]).await.unwrap().get(0)
}

/// Another node has leased the delivery meanwhile. The handler that still runs here continues with the new lease.
#[tokio::test]
async fn held_delivery_is_leased_without_an_attempt() {
    let Some(server) = PostgresServer::start("held delivery is leased without an attempt") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for n in 0..2 {
        accept(&store, &delivery(&format!("evt-{n}"), "x").await).await;
    }
    let own: Vec<_> = lease(&store, 2).await.iter().map(|leased| *leased.lease()).collect();
    pass(&client).await;
    assert_eq!(lease(&store, 2).await.len(), 2, "another node leases both");
    pass(&client).await;
    let batch = lease_with(&store, LeaseRequest { held: &own[..1], ..request(8) }).await;
    let attempt = |lease: &Lease| {
        let leased = batch.leased.iter().find(|leased| leased.lease().id() == lease.id()).unwrap();
        assert!(leased.is_after_expired_lease());
        assert_eq!(leased.lease().token(), lease.token() + 2);
        leased.lease().attempt()
    };
    assert_eq!((attempt(&own[0]), attempt(&own[1])), (2, 3));
    pass(&client).await;
    let request = LeaseRequest { held: &own[..1], max_attempts: 2, ..request(8) };
    assert_eq!(
        lease_with(&store, request).await.dead_lettered.len(),
        2,
        "the other node's leases have expired on the last attempt"
    );
}

/// The extension of the held leases is sent together with the statement that leases.
#[tokio::test]
async fn holding_leases_costs_no_round_trip() {
    let Some(server) = PostgresServer::start_own("holding leases costs no round trip", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = patient().max_connections(1).open(&proxy.url()).await.unwrap();
    let client = client(server.url()).await;
    for n in 0..10 {
        accept(&store, &delivery(&format!("evt-{n}"), "x").await).await;
    }
    let mut held: Vec<Lease> = Vec::new();
    for n in 0..10 {
        pass(&client).await;
        let before = proxy.round_trips();
        let leased = lease_with(&store, LeaseRequest { held: &held, ..request(1) }).await.leased;
        // The first calls take more round trips to prepare the statements. Everything is sent at once, but the driver may write
        // it in two pieces.
        assert!(n < 2 || proxy.round_trips() - before <= 2);
        held.push(*leased[0].lease());
        let before = proxy.round_trips();
        release(&store, &held[n]).await;
        assert!(n < 1 || proxy.round_trips() - before == 1);
        held[n] = *lease_with(&store, LeaseRequest { held: &held[..n], ..request(1) }).await.leased[0].lease();
    }
}

#[tokio::test]
async fn ordering_keys_come_back_with_the_delivery() {
    let Some(server) = PostgresServer::start("ordering keys come back with the delivery") else { return };
    let store = open(server.url()).await;
    for keys in [&[][..], &["a"], &["b", "c", "d"]] {
        let new = ordered("evt-1", keys).await;
        accept(&store, &new).await;
        let leased = lease_one(&store).await;
        assert_eq!(leased.ordering_keys().len(), keys.len());
        assert_eq!(leased.ordering_keys(), new.ordering_keys());
        finish(&store, leased.lease(), Duration::ZERO).await;
        store.forget_event(new.claim().event()).await.unwrap();
    }
}

/// A handler may finish its delivery in a transaction that stays open for a long time.
#[tokio::test]
async fn leasing_waits_for_no_lock() {
    let Some(server) = PostgresServer::start("leasing waits for no lock") else { return };
    let store = open(server.url()).await;
    let mut client = client(server.url()).await;
    for n in 0..3 {
        accept(&store, &delivery(&format!("evt-{n}"), &n.to_string()).await).await;
    }
    let first = lease_last(&store, 1).await.leased;
    pass(&client).await;
    let transaction = client.transaction().await.unwrap();
    assert!(store.finish_in(&transaction, first[0].lease()).await.unwrap());
    assert_eq!(bodies(&lease_last(&store, 8).await.leased), ["1", "2"]);
    transaction.rollback().await.unwrap();
    lease_last(&store, 8).await;
    assert_eq!(store.show(first[0].lease().id()).await.unwrap().unwrap().state, DeliveryState::Dead);
}

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
    for keyed in [false, true] {
        for n in 0..32 {
            let (id, key) = (format!("{keyed}-{n}"), format!("k{n}"));
            let keys: &[&str] = if keyed { &[&key] } else { &[] };
            accept(&store, &ordered(&id, keys).await).await;
        }
        let transaction = other.transaction().await.unwrap();
        let first = "SELECT id FROM klikit_inbox WHERE state = 0 ORDER BY due, id LIMIT 16 FOR UPDATE";
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
    let first = "SELECT id FROM klikit_inbox ORDER BY id LIMIT 1 FOR UPDATE";
    transaction.query(first, &[]).await.unwrap();
    assert_eq!(bodies(&lease(&store, 1).await), ["600"]);
    assert_eq!(bodies(&lease(&store, 8).await), ["601", "602", "603"]);
}

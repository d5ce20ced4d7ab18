//! Tests of extending leases, and of lease requests with held leases.

use std::time::Duration;

use tower_klikit::inbox::{DeliveryId, InboxStore, Lease, LeaseRequest};

use super::{
    ATTEMPTS, TIME, accept, accept_all, bodies, dead_letter, delivery, finish, lease, lease_with, ordered, pass,
    release, request, reschedule,
};
use crate::{client, count, ends, open, patient, proxy::Proxy, servers::postgres::PostgresServer};

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
    let [held, ready, kept, dead] = leased[..] else { panic!("four are leased") };
    reschedule(&store, &ready, TIME, "500").await;
    finish(&store, &kept, TIME).await;
    dead_letter(&store, &dead, "500").await;
    pass(&client).await;
    let foreign = Lease::new(held.id(), held.token() + 1, 1);
    let missing = Lease::new(DeliveryId::new(1_000_000), 1, 1);
    let leases = [missing, held, ready, foreign, kept, dead, held];
    for _ in 0..2 {
        let extended = store.extend(&leases, TIME).await.unwrap();
        assert_eq!(extended, [false, true, false, false, false, false, true]);
    }
    let before = proxy.round_trips();
    store.extend(&leases, TIME).await.unwrap();
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
        let expire = "
            UPDATE klikit_inbox
            SET due = now() - interval '1 s'
            WHERE id = $1";
        client.execute(expire, &[&held[0].id().get()]).await.unwrap();
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
    let foreign = [Lease::new(held[0].id(), held[0].token() + 1, 1)];
    let again = lease_with(&store, LeaseRequest { held: &foreign, ..request(8) }).await;
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

/// Returns the end of a lease, in microseconds since 1970.
async fn due(client: &tokio_postgres::Client, lease: &Lease) -> i64 {
    let due = "
        SELECT (extract(epoch FROM due) * 1000000)::bigint
        FROM klikit_inbox
        WHERE id = $1";
    client.query_one(due, &[&lease.id().get()]).await.unwrap().get(0)
}

//! Tests of leasing by one node.

use std::time::Duration;

use tower_klikit::inbox::{
    DeadLettered, DeliveryState, InboxAdmin, InboxStore, LEASE_EXPIRED, SettleOutcome, Settlement, ShowBody,
};

use super::{
    TIME, accept, bodies, dead, delivery, done, extend, failed, finish, lease, lease_last, lease_one, ordered, pass,
    release, reschedule, retry, settle,
};
use crate::{client, open, servers::postgres::PostgresServer};

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
    let entry = store.show(first.id(), ShowBody::Include).await.unwrap().unwrap();
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
    assert!(store.show(first.id(), ShowBody::Include).await.unwrap().is_none());
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
        let entry = store.show(dead.lease().id(), ShowBody::Include).await.unwrap().unwrap();
        assert_eq!((entry.state, entry.attempts), (DeliveryState::Dead, 1));
        assert_eq!(entry.reason.as_deref(), Some(LEASE_EXPIRED));
        assert!(!extend(&store, dead.lease()).await);
    }
    assert!(retry(&store, died[0].lease().id()).await.unwrap());
    let retried = lease_one(&store).await;
    reschedule(&store, retried.lease(), Duration::ZERO, "500").await;
    let again = lease_last(&store, 1).await;
    assert_eq!(again.leased[0].lease().attempt(), 2, "a ready delivery is leased even without attempts left");
    assert!(again.dead_lettered.is_empty());
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
        store.forget_keys(&new.claim().event().into()).await.unwrap();
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
    assert_eq!(store.show(first[0].lease().id(), ShowBody::Include).await.unwrap().unwrap().state, DeliveryState::Dead);
}

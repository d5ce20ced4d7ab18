//! What an operator sees and does.

use std::time::{Duration, SystemTime};

use tower_klikit::{
    dedupe::{ClaimOutcome, Ledger},
    inbox::{Acceptance, DeliveryState, InboxStore},
};

use super::{TIME, accept, accept_all, bodies, conflicting, delivery, known, lease, lease_one, ordered, pass};
use crate::{LEASE, RETENTION, client, open, servers::postgres::PostgresServer};

#[tokio::test]
async fn deliveries_are_counted_by_state() {
    let Some(server) = PostgresServer::start("deliveries are counted by state") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let none = store.counts().await.unwrap();
    assert_eq!((none.ready, none.leased, none.dead, none.done, none.oldest), (0, 0, 0, 0, None));
    for n in 0..10 {
        accept(&store, &delivery(&format!("evt-{n}"), &n.to_string()).await).await;
    }
    let leased = lease(&store, 6).await;
    assert!(store.bury(leased[0].lease(), "500").await.unwrap());
    for done in &leased[1..3] {
        assert!(store.finish(done.lease(), TIME).await.unwrap());
    }
    client
        .execute(
            "UPDATE klikit_deliveries_inbox SET accepted = accepted - CASE WHEN state < 2 THEN interval '1 hour' \
             ELSE interval '2 hours' END",
            &[],
        )
        .await
        .unwrap();
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.ready, counts.leased, counts.dead, counts.done), (4, 3, 1, 2));
    let oldest = counts.oldest.unwrap();
    assert!(oldest >= Duration::from_secs(3600) && oldest < Duration::from_secs(7200), "{oldest:?}");
    for (limit, backlog) in [(0, 0), (5, 5), (7, 7), (u64::MAX, 7)] {
        assert_eq!(store.backlog(limit).await.unwrap(), backlog);
    }
}

#[tokio::test]
async fn the_dead_are_listed_page_by_page_and_retried() {
    let Some(server) = PostgresServer::start("the dead are listed page by page") else { return };
    let store = open(server.url()).await;
    for n in 0..6 {
        accept(&store, &ordered(&n.to_string(), &[&n.to_string()]).await).await;
    }
    let leased = lease(&store, 5).await;
    for leased in &leased {
        assert!(store.bury(leased.lease(), "422 Unprocessable Entity").await.unwrap());
    }
    let first = store.dead(None, 2).await.unwrap();
    let rest = store.dead(Some(first[1].id), 100).await.unwrap();
    let all: Vec<_> = first.iter().chain(&rest).collect();
    assert_eq!((first.len(), rest.len()), (2, 3));
    for (entry, leased) in all.iter().zip(&leased) {
        assert_eq!((entry.id, entry.state, entry.attempts), (leased.lease().id(), DeliveryState::Dead, 1));
        assert_eq!(entry.reason.as_deref(), Some("422 Unprocessable Entity"));
        assert_eq!(entry.event_id().unwrap().as_bytes(), &leased.body()[..]);
        assert_eq!(entry.tenant(), Some("default"));
        assert!(entry.body.is_none());
        assert!(entry.accepted_at <= SystemTime::now() + Duration::from_secs(300));
    }
    let shown = store.show(first[0].id).await.unwrap().unwrap();
    assert_eq!(shown.body.as_ref(), Some(leased[0].body()));
    assert!(store.retry(first[0].id).await.unwrap());
    assert!(!store.retry(first[0].id).await.unwrap(), "it is not dead any more");
    assert_eq!(store.dead(None, 100).await.unwrap().len(), 4);
    let again = lease(&store, 8).await;
    assert_eq!(bodies(&again), ["5", "0"]);
    assert_eq!(again[1].lease().attempt(), 1);
    assert!(again[1].lease().token() > leased[0].lease().token());
}

#[tokio::test]
async fn an_event_is_forgotten_with_its_conflicts_but_for_what_waits() {
    let Some(server) = PostgresServer::start("an event is forgotten with its conflicts") else { return };
    let store = open(server.url()).await;
    let event = *delivery("evt-1", "").await.claim().event();
    // Dead, kept, handled, waiting, leased, and known to the layer alone, all of one event; and one of another.
    let dead = delivery("evt-1", "dead").await;
    let (kept, gone) = (conflicting("evt-1", "kept").await, conflicting("evt-1", "gone").await);
    let (leased, ready) = (conflicting("evt-1", "leased").await, conflicting("evt-1", "ready").await);
    let layer = conflicting("evt-1", "layer").await;
    let another = delivery("evt-2", "another").await;
    accept_all(&store, &[dead.clone(), kept.clone(), gone.clone(), another.clone(), leased.clone()]).await;
    let some = lease(&store, 8).await;
    assert!(store.bury(some[0].lease(), "500").await.unwrap());
    assert!(store.finish(some[1].lease(), TIME).await.unwrap());
    assert!(store.finish(some[2].lease(), Duration::ZERO).await.unwrap());
    assert!(store.bury(some[3].lease(), "500").await.unwrap());
    accept_all(&store, std::slice::from_ref(&ready)).await;
    store.claim(layer.claim(), LEASE).await.unwrap();

    assert_eq!(store.forget_event(&event).await.unwrap(), 4);
    assert_eq!(store.forget_event(&event).await.unwrap(), 0);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.ready, counts.leased, counts.dead, counts.done), (1, 1, 1, 0));
    for (held, body) in [(&leased, "leased"), (&ready, "ready"), (&another, "another")] {
        let outcome = store.claim(held.claim(), LEASE).await.unwrap();
        assert_eq!(outcome, ClaimOutcome::Done { digest: *held.claim().digest() }, "{body}");
    }
    for forgotten in [&dead, &kept, &gone, &layer] {
        assert_eq!(accept(&store, forgotten).await, Acceptance::Accepted);
    }
    assert_eq!(accept(&store, &leased).await, known("leased"));
}

#[tokio::test]
async fn what_was_accepted_or_claimed_in_a_window_is_forgotten() {
    let Some(server) = PostgresServer::start("what was accepted in a window is forgotten") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let mut all = Vec::new();
    for n in 0..6 {
        all.push(delivery(&format!("evt-{n}"), &n.to_string()).await);
    }
    accept_all(&store, &all).await;
    let leased = lease(&store, 5).await;
    for dead in &leased[..4] {
        assert!(store.bury(dead.lease(), "500").await.unwrap());
    }
    // Of 0 both the delivery and its entry, of 1 the delivery, of 2 the entry, of 3 neither; 4 is leased, 5 ready.
    client
        .batch_execute(
            "UPDATE klikit_deliveries_inbox SET accepted = accepted - interval '1 day' \
             WHERE id NOT IN (SELECT id FROM klikit_deliveries_inbox_delivery WHERE body IN ('2', '3')); \
             UPDATE klikit_deliveries SET claimed = claimed - interval '1 day' \
             WHERE digest NOT IN (sha256('1'), sha256('3'))",
        )
        .await
        .unwrap();
    let now: SystemTime = client.query_one("SELECT now()", &[]).await.unwrap().get(0);
    let ago = |hours: u64| now - Duration::from_secs(hours * 3600);
    assert_eq!(store.forget_accepted(ago(100)..ago(30)).await.unwrap(), 0);
    assert_eq!(store.forget_accepted(ago(30)..ago(12)).await.unwrap(), 3);
    for (n, delivery) in all.iter().enumerate() {
        let expected = if n < 3 { Acceptance::Accepted } else { Acceptance::Revived };
        let outcome = accept(&store, delivery).await;
        assert_eq!(outcome, if n < 4 { expected } else { known(&n.to_string()) }, "{n}");
    }
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
    assert_eq!(store.forget_accepted(far..far).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_kept_is_purged_when_its_time_is_up() {
    let Some(server) = PostgresServer::start("what is kept is purged") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for n in 0..7 {
        accept(&store, &delivery(&format!("evt-{n}"), "x").await).await;
    }
    let leased = lease(&store, 6).await;
    for (n, leased) in leased.iter().enumerate() {
        let keep = if n == 5 { RETENTION } else { TIME };
        assert!(store.finish(leased.lease(), keep).await.unwrap());
    }
    assert_eq!(store.purge_done(100).await.unwrap(), 0);
    pass(&client).await;
    assert_eq!(store.purge_done(0).await.unwrap(), 0);
    assert_eq!(store.purge_done(2).await.unwrap(), 2);
    assert_eq!(store.purge_done(100).await.unwrap(), 3);
    assert_eq!(store.purge_done(100).await.unwrap(), 0);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.ready, counts.done), (1, 1));
    assert!(store.show(leased[0].lease().id()).await.unwrap().is_none());
}

/// An operator forgets while klikit replays: what is accepted meanwhile must not lose its row in the ledger.
#[tokio::test(flavor = "multi_thread")]
async fn forgetting_meets_accepting_and_leaves_nothing_half_done() {
    let Some(server) = PostgresServer::start("forgetting meets accepting") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let new = delivery("evt-1", "x").await;
    let event = *new.claim().event();
    for round in 0..150 {
        // New over an entry that has run out, or a dead one that is revived, or one that is retried.
        if round % 3 > 0 {
            accept(&store, &new).await;
            let dead = lease_one(&store).await;
            assert!(store.bury(dead.lease(), "500").await.unwrap());
        } else {
            store.claim(new.claim(), Duration::ZERO).await.unwrap();
        }
        let dead = store.dead(None, 1).await.unwrap().first().map(|dead| dead.id);
        let forget = tokio::spawn({
            let store = store.clone();
            async move { store.forget_event(&event).await.unwrap() }
        });
        let (other, accepted) = (store.clone(), delivery("evt-1", "x").await);
        let accept = tokio::spawn(async move {
            match dead {
                Some(dead) if round % 3 == 2 => _ = other.retry(dead).await.unwrap(),
                _ => _ = accept(&other, &accepted).await,
            }
        });
        forget.await.unwrap();
        accept.await.unwrap();
        let half = "SELECT count(*) FROM klikit_deliveries_inbox LEFT JOIN klikit_deliveries USING (key) \
                    WHERE state < 2 AND NOT coalesce(done AND until > now(), false)";
        assert_eq!(crate::count(&client, half).await, 0, "{round}: one waits without its row in the ledger");
        client
            .batch_execute(
                "TRUNCATE klikit_deliveries, klikit_deliveries_inbox, klikit_deliveries_inbox_delivery, \
                 klikit_deliveries_inbox_ordering",
            )
            .await
            .unwrap();
    }
}

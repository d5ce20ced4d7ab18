//! Tests of the admin calls.

use std::time::{Duration, SystemTime};

use tower_klikit::{
    dedupe::{ClaimOutcome, ClaimTerms, Ledger},
    inbox::{Acceptance, DeliveryState, InboxAdmin, InboxStore, ShowBody},
};

use super::{
    TIME, accept, accept_all, bodies, conflicting, dead_letter, dead_letters, delivery, finish, known, lease,
    lease_one, ordered, pass, retry,
};
use crate::{RETENTION, TERMS, client, count, open, servers::postgres::PostgresServer};

#[tokio::test]
async fn counts_deliveries_by_state() {
    let Some(server) = PostgresServer::start("counts deliveries by state") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let none = store.counts().await.unwrap();
    assert_eq!((none.ready, none.leased, none.dead, none.done, none.oldest), (0, 0, 0, 0, None));
    for n in 0..10 {
        accept(&store, &delivery(&format!("evt-{n}"), &n.to_string()).await).await;
    }
    let leased = lease(&store, 6).await;
    dead_letter(&store, leased[0].lease(), "500").await;
    for done in &leased[1..3] {
        finish(&store, done.lease(), TIME).await;
    }
    client
        .execute(
            "
                UPDATE klikit_inbox
                SET accepted_at = accepted_at - CASE WHEN state < 2 THEN interval '1 hour' ELSE interval '2 hours' END",
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
async fn lists_dead_deliveries_in_pages_and_retries_them() {
    let Some(server) = PostgresServer::start("lists dead deliveries in pages and retries them") else { return };
    let store = open(server.url()).await;
    for n in 0..6 {
        accept(&store, &ordered(&n.to_string(), &[&n.to_string()]).await).await;
    }
    let leased = lease(&store, 5).await;
    for leased in &leased {
        dead_letter(&store, leased.lease(), "422 Unprocessable Entity").await;
    }
    let first = dead_letters(&store, None, 2).await;
    let rest = dead_letters(&store, Some(first[1].id), 100).await;
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
    let shown = store.show(first[0].id, ShowBody::Include).await.unwrap().unwrap();
    assert_eq!(shown.body.as_ref(), Some(leased[0].body()));
    assert!(retry(&store, first[0].id).await.unwrap());
    assert!(!retry(&store, first[0].id).await.unwrap(), "the delivery is not dead any more");
    assert_eq!(dead_letters(&store, None, 100).await.len(), 4);
    let again = lease(&store, 8).await;
    assert_eq!(bodies(&again), ["5", "0"]);
    assert_eq!(again[1].lease().attempt(), 1);
    assert!(again[1].lease().token() > leased[0].lease().token());
}

#[tokio::test]
async fn forgets_an_event_except_what_is_pending() {
    let Some(server) = PostgresServer::start("forgets an event except what is pending") else { return };
    let store = open(server.url()).await;
    let event = *delivery("evt-1", "").await.claim().event();
    // One event's deliveries: dead, kept, handled, pending, leased, and claimed by the layer. And one of another event.
    let dead = delivery("evt-1", "dead").await;
    let (kept, gone) = (conflicting("evt-1", "kept").await, conflicting("evt-1", "gone").await);
    let (leased, ready) = (conflicting("evt-1", "leased").await, conflicting("evt-1", "ready").await);
    let layer = conflicting("evt-1", "layer").await;
    let another = delivery("evt-2", "another").await;
    accept_all(&store, &[dead.clone(), kept.clone(), gone.clone(), another.clone(), leased.clone()]).await;
    let some = lease(&store, 8).await;
    dead_letter(&store, some[0].lease(), "500").await;
    finish(&store, some[1].lease(), TIME).await;
    finish(&store, some[2].lease(), Duration::ZERO).await;
    dead_letter(&store, some[3].lease(), "500").await;
    accept_all(&store, std::slice::from_ref(&ready)).await;
    store.claim(layer.claim(), &TERMS).await.unwrap();
    // The claim has expired but can still be completed.
    let expire = "UPDATE klikit_ledger SET until = clock_timestamp() WHERE state = 0";
    assert_eq!(client(server.url()).await.execute(expire, &[]).await.unwrap(), 1);

    assert_eq!(store.count_keys(&event.into()).await.unwrap(), 4);
    assert_eq!(store.forget_keys(&event.into()).await.unwrap(), 4);
    assert_eq!(store.forget_keys(&event.into()).await.unwrap(), 0);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.ready, counts.leased, counts.dead, counts.done), (1, 1, 1, 0));
    for (held, body) in [(&leased, "leased"), (&ready, "ready"), (&another, "another")] {
        let outcome = store.claim(held.claim(), &TERMS).await.unwrap();
        assert_eq!(outcome, ClaimOutcome::Done { digest: *held.claim().digest() }, "{body}");
    }
    for forgotten in [&dead, &kept, &gone, &layer] {
        assert_eq!(accept(&store, forgotten).await, Acceptance::Accepted);
    }
    assert_eq!(accept(&store, &leased).await, known("leased"));
}

#[tokio::test]
async fn forgets_deliveries_accepted_in_a_window() {
    let Some(server) = PostgresServer::start("forgets deliveries accepted in a window") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let mut all = Vec::new();
    for n in 0..6 {
        all.push(delivery(&format!("evt-{n}"), &n.to_string()).await);
    }
    accept_all(&store, &all).await;
    let leased = lease(&store, 5).await;
    for dead in &leased[..4] {
        dead_letter(&store, dead.lease(), "500").await;
    }
    // The window contains delivery 0 and its ledger row, delivery 1, the ledger row of 2, and nothing of 3. 4 is leased, 5 is
    // ready.
    client
        .batch_execute(
            "
                UPDATE klikit_inbox
                SET accepted_at = accepted_at - interval '1 day'
                WHERE id NOT IN (SELECT id FROM klikit_inbox_body WHERE body IN ('2', '3'));
                UPDATE klikit_ledger
                SET claimed_at = claimed_at - interval '1 day'
                WHERE digest NOT IN (sha256('1'), sha256('3'))",
        )
        .await
        .unwrap();
    let now: SystemTime = client.query_one("SELECT now()", &[]).await.unwrap().get(0);
    let ago = |hours: u64| now - Duration::from_secs(hours * 3600);
    assert_eq!(store.forget_keys(&(ago(100)..ago(30)).into()).await.unwrap(), 0);
    assert_eq!(store.count_keys(&(ago(30)..ago(12)).into()).await.unwrap(), 3);
    assert_eq!(store.forget_keys(&(ago(30)..ago(12)).into()).await.unwrap(), 3);
    for (n, delivery) in all.iter().enumerate() {
        let expected = if n < 3 { Acceptance::Accepted } else { Acceptance::Revived };
        let outcome = accept(&store, delivery).await;
        assert_eq!(outcome, if n < 4 { expected } else { known(&n.to_string()) }, "{n}");
    }
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
    assert_eq!(store.forget_keys(&(far..far).into()).await.unwrap(), 0);
}

#[tokio::test]
async fn purges_kept_deliveries_whose_time_is_over() {
    let Some(server) = PostgresServer::start("purges kept deliveries whose time is over") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for n in 0..7 {
        accept(&store, &delivery(&format!("evt-{n}"), "x").await).await;
    }
    let leased = lease(&store, 6).await;
    for (n, leased) in leased.iter().enumerate() {
        let keep = if n == 5 { RETENTION } else { TIME };
        finish(&store, leased.lease(), keep).await;
    }
    assert_eq!(store.purge_done(100).await.unwrap(), 0);
    pass(&client).await;
    assert_eq!(store.purge_done(0).await.unwrap(), 0);
    assert_eq!(store.purge_done(2).await.unwrap(), 2);
    assert_eq!(store.purge_done(100).await.unwrap(), 3);
    assert_eq!(store.purge_done(100).await.unwrap(), 0);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.ready, counts.done), (1, 1));
    assert!(store.show(leased[0].lease().id(), ShowBody::Include).await.unwrap().is_none());
}

/// An operator forgets an event while klikit replays it. Deliveries that are accepted meanwhile must keep their ledger rows.
#[tokio::test(flavor = "multi_thread")]
async fn forgetting_while_accepting_leaves_no_halves() {
    let Some(server) = PostgresServer::start("forgetting while accepting leaves no halves") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let new = delivery("evt-1", "x").await;
    let event = *new.claim().event();
    for round in 0..150 {
        // A new delivery over an expired claim, a dead one that is revived, or a dead one that is retried.
        if round % 3 > 0 {
            accept(&store, &new).await;
            let dead = lease_one(&store).await;
            dead_letter(&store, dead.lease(), "500").await;
        } else {
            let expired = ClaimTerms { lease: Duration::ZERO, grace: Duration::ZERO };
            store.claim(new.claim(), &expired).await.unwrap();
        }
        let dead = dead_letters(&store, None, 1).await.first().map(|dead| dead.id);
        let forget = tokio::spawn({
            let store = store.clone();
            async move { store.forget_keys(&event.into()).await.unwrap() }
        });
        let (other, accepted) = (store.clone(), delivery("evt-1", "x").await);
        let accept = tokio::spawn(async move {
            match dead {
                Some(dead) if round % 3 == 2 => _ = retry(&other, dead).await.unwrap(),
                _ => _ = accept(&other, &accepted).await,
            }
        });
        forget.await.unwrap();
        accept.await.unwrap();
        let half = "
            SELECT count(*)
            FROM klikit_inbox
            LEFT JOIN klikit_ledger USING (key)
            WHERE klikit_inbox.state < 2 AND NOT coalesce(klikit_ledger.state = 1 AND until > now(), false)";
        assert_eq!(count(&client, half).await, 0, "{round}: a delivery is pending without its ledger row");
        let truncate = "TRUNCATE klikit_ledger, klikit_inbox, klikit_inbox_body, klikit_inbox_key";
        client.batch_execute(truncate).await.unwrap();
    }
}

/// A copy of a pending delivery without a ledger row comes while an operator forgets the delivery.
#[tokio::test]
async fn forgotten_delivery_leaves_no_ledger_row() {
    let Some(server) = PostgresServer::start("forgotten delivery leaves no ledger row") else { return };
    let store = open(server.url()).await;
    let (mut operator, client) = (client(server.url()).await, client(server.url()).await);
    let new = delivery("evt-1", "x").await;
    accept(&store, &new).await;
    client.execute("DELETE FROM klikit_ledger", &[]).await.unwrap();
    let forgetting = operator.transaction().await.unwrap();
    forgetting.execute("DELETE FROM klikit_inbox", &[]).await.unwrap();
    let copy = tokio::spawn({
        let store = store.clone();
        async move { accept(&store, &new).await }
    });
    let waiting = "
        SELECT count(*)
        FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND query LIKE '%klikit_%'";
    while !copy.is_finished() && count(&client, waiting).await == 0 {}
    forgetting.commit().await.unwrap();
    assert_eq!(copy.await.unwrap(), Acceptance::Accepted);
    assert_eq!(store.counts().await.unwrap().ready, 1);
}

#[tokio::test]
async fn evicts_kept_deliveries_that_end_soonest() {
    let Some(server) = PostgresServer::start("evicts kept deliveries that end soonest") else { return };
    let store = open(server.url()).await;
    for n in 0..7 {
        accept(&store, &delivery(&format!("evt-{n}"), "x").await).await;
    }
    let leased = lease(&store, 6).await;
    let ids: Vec<_> = leased.iter().map(|leased| leased.lease().id()).collect();
    // The last ones end soonest, and one of them is dead.
    for (n, leased) in (0..6).zip(&leased) {
        match n {
            4 => dead_letter(&store, leased.lease(), "500").await,
            _ => finish(&store, leased.lease(), TIME * (10 - n)).await,
        }
    }
    for (limit, expected) in [(0, 0), (6, 6), (7, 7), (8, 7), (u64::MAX, 7)] {
        assert_eq!(store.stored(limit).await.unwrap(), expected);
    }
    assert_eq!(store.evict_done(0).await.unwrap(), 0);
    assert_eq!(store.evict_done(2).await.unwrap(), 2);
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(store.show(*id, ShowBody::Include).await.unwrap().is_some(), n != 3 && n != 5, "{n}");
    }
    assert_eq!(store.evict_done(100).await.unwrap(), 3);
    assert_eq!(store.evict_done(100).await.unwrap(), 0);
    let client = client(server.url()).await;
    for (table, rows) in [("inbox", 2), ("inbox_body", 2), ("ledger", 7)] {
        assert_eq!(count(&client, &format!("SELECT count(*) FROM klikit_{table}")).await, rows, "{table}");
    }
}

#[tokio::test]
async fn purges_old_dead_letters() {
    let Some(server) = PostgresServer::start("purges old dead letters") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for n in 0..7 {
        accept(&store, &delivery(&format!("evt-{n}"), "x").await).await;
    }
    let leased = lease(&store, 6).await;
    for leased in &leased {
        dead_letter(&store, leased.lease(), "500").await;
    }
    let older = "
        UPDATE klikit_inbox
        SET accepted_at = accepted_at - interval '1 day'
        WHERE id <= $1";
    client.execute(older, &[&leased[3].lease().id().get()]).await.unwrap();
    let (hour, day) = (Duration::from_secs(60 * 60), Duration::from_secs(24 * 60 * 60));
    assert_eq!(store.purge_dead(day + hour, 100).await.unwrap(), 0);
    assert_eq!(store.purge_dead(Duration::MAX, 100).await.unwrap(), 0);
    assert_eq!(store.purge_dead(hour, 0).await.unwrap(), 0);
    assert_eq!(store.purge_dead(hour, 3).await.unwrap(), 3);
    assert_eq!(dead_letters(&store, None, 1).await[0].id, leased[3].lease().id());
    assert_eq!(store.purge_dead(hour, 100).await.unwrap(), 1);
    assert_eq!(store.purge_dead(hour, 100).await.unwrap(), 0);
    for (table, rows) in [("inbox", 3), ("inbox_body", 3), ("ledger", 7)] {
        assert_eq!(count(&client, &format!("SELECT count(*) FROM klikit_{table}")).await, rows, "{table}");
    }
    assert_eq!(store.purge_dead(Duration::ZERO, 100).await.unwrap(), 2);
}

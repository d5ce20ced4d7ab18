//! Tests of accepting deliveries that are new, known, or dead.

use std::time::Duration;

use futures_util::future::join_all;
use tower_klikit::{
    dedupe::{ClaimOutcome, Ledger},
    inbox::{Acceptance, DeliveryState, InboxAdmin, SettleOutcome, ShowBody},
};

use super::{
    accept, bodies, conflicting, dead, dead_letter, delivery, done, finish, known, known_and_stored, lease, lease_one,
    of_any_body, ordered, pass, reschedule, settle,
};
use crate::{LEASE, RETENTION, TERMS, client, count, open, patient, proxy::Proxy, servers::postgres::PostgresServer};

const FORGET_LEDGER: &str = "DELETE FROM klikit_ledger";
const REMEMBERED: &str = "
    SELECT count(*)
    FROM klikit_ledger
    WHERE state = 1 AND until > now() + interval '34 days'";
/// The numbers of rows in the inbox's tables, as the digits of one number.
const ROWS: &str = "
    SELECT
        (SELECT count(*) FROM klikit_inbox) * 100
        + (SELECT count(*) FROM klikit_inbox_body) * 10
        + (SELECT count(*) FROM klikit_inbox_key)";

#[tokio::test]
async fn stores_a_delivery_with_its_ledger_row() {
    let Some(server) = PostgresServer::start("stores a delivery with its ledger row") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let new = ordered("evt-1", &["a", "b"]).await;
    assert_eq!(accept(&store, &new).await, Acceptance::Accepted);
    assert_eq!(count(&client, REMEMBERED).await, 1);
    assert_eq!(count(&client, ROWS).await, 112);
    assert_eq!(store.claim(new.claim(), &TERMS).await.unwrap(), ClaimOutcome::Done { digest: *new.claim().digest() });
    let leased = lease_one(&store).await;
    assert_eq!((leased.head(), leased.body()), (new.head(), new.body()));
    for copy in [&new, &delivery("evt-1", "evt-1").await] {
        assert_eq!(accept(&store, copy).await, known("evt-1"));
    }
    assert_eq!(accept(&store, &delivery("evt-1", "another").await).await, known_and_stored("evt-1"));
    finish(&store, leased.lease(), Duration::ZERO).await;
    assert_eq!(count(&client, ROWS).await, 0);
    assert_eq!(accept(&store, &new).await, known("evt-1"));
    assert_eq!(accept(&store, &delivery("evt-1", "another").await).await, known("evt-1"), "the body is deleted");
}

#[tokio::test]
async fn accepting_takes_one_round_trip() {
    let Some(server) = PostgresServer::start_own("accepting takes one round trip", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = patient().max_connections(1).open(&proxy.url()).await.unwrap();
    let connections = proxy.connections();
    for (event, trips) in [(ordered("evt-1", &[]).await, 1), (ordered("evt-2", &["a"]).await, 1)] {
        let before = proxy.round_trips();
        assert_eq!(accept(&store, &event).await, Acceptance::Accepted);
        assert_eq!(proxy.round_trips() - before, trips, "a new delivery");
        let before = proxy.round_trips();
        assert!(matches!(accept(&store, &event).await, Acceptance::Known { .. }));
        assert_eq!(proxy.round_trips() - before, 2, "a copy");
    }
    // Everything is sent at once, but the driver may write it in two pieces.
    let before = proxy.round_trips();
    assert_eq!(lease(&store, 8).await.len(), 2);
    assert!(proxy.round_trips() - before <= 2, "a lease");
    assert_eq!(proxy.connections(), connections);
}

#[tokio::test]
async fn restores_the_ledger_row_of_a_pending_delivery() {
    let Some(server) = PostgresServer::start("restores the ledger row of a pending delivery") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let (new, other) = (delivery("evt-1", "one").await, delivery("evt-1", "other").await);
    accept(&store, &new).await;
    for state in 0..2 {
        assert_eq!(client.execute(FORGET_LEDGER, &[]).await.unwrap(), 1);
        assert_eq!(accept(&store, &other).await, known_and_stored("one"), "in state {state}");
        assert_eq!(count(&client, REMEMBERED).await, 1);
        let held = store.claim(other.claim(), &TERMS).await.unwrap();
        assert_eq!(
            held,
            ClaimOutcome::Done { digest: *new.claim().digest() },
            "with the digest of the pending delivery"
        );
        client.execute("UPDATE klikit_ledger SET until = now()", &[]).await.unwrap();
        assert_eq!(accept(&store, &other).await, known_and_stored("one"));
        assert_eq!(count(&client, REMEMBERED).await, 1);
        lease(&store, 1).await;
    }
}

#[tokio::test]
async fn dead_delivery_is_revived_by_its_copy_only() {
    let Some(server) = PostgresServer::start("dead delivery is revived by its copy only") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    accept(&store, &ordered("evt-1", &["a"]).await).await;
    accept(&store, &delivery("evt-2", "two").await).await;
    let dead = lease_one(&store).await;
    dead_letter(&store, dead.lease(), "500").await;
    assert_eq!(accept(&store, &delivery("evt-1", "other").await).await, known_and_stored("evt-1"));
    assert_eq!(store.show(dead.lease().id(), ShowBody::Include).await.unwrap().unwrap().state, DeliveryState::Dead);
    client.execute(FORGET_LEDGER, &[]).await.unwrap();
    assert_eq!(accept(&store, &delivery("evt-1", "other").await).await, known_and_stored("evt-1"));
    assert_eq!(count(&client, REMEMBERED).await, 0, "nothing changes");

    assert_eq!(accept(&store, &ordered("evt-1", &["b", "c"]).await).await, Acceptance::Revived);
    assert_eq!(count(&client, REMEMBERED).await, 1);
    assert_eq!(count(&client, ROWS).await, 222);
    let entry = store.show(dead.lease().id(), ShowBody::Include).await.unwrap().unwrap();
    assert_eq!((entry.state, entry.attempts, entry.reason), (DeliveryState::Ready, 0, None));
    assert_eq!(bodies(&lease(&store, 1).await), ["two"], "this delivery has been due for longer");
    let revived = lease_one(&store).await;
    assert_eq!(revived.lease().id(), dead.lease().id());
    assert_eq!(revived.lease().attempt(), 1);
    assert!(revived.lease().token() > dead.lease().token());

    dead_letter(&store, revived.lease(), "500").await;
    assert_eq!(accept(&store, &of_any_body("evt-1", "other").await).await, Acceptance::Revived);
    let revived = lease_one(&store).await;
    assert_eq!(bodies(&[revived]), ["other"]);
    assert_eq!(accept(&store, &delivery("evt-1", "evt-1").await).await, known_and_stored("other"));
}

/// The stored body is not read for a duplicate.
#[tokio::test]
async fn reads_the_stored_body_for_conflicts_only() {
    let Some(server) = PostgresServer::start_own("reads the stored body for conflicts only", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = patient().max_connections(1).open(&proxy.url()).await.unwrap();
    accept(&store, &delivery("evt-1", "one").await).await;
    let (copy, other) = (delivery("evt-1", "one").await, delivery("evt-1", "other").await);
    for _ in 0..2 {
        accept(&store, &copy).await;
        assert_eq!(accept(&store, &other).await, known_and_stored("one"));
    }
    let before = proxy.round_trips();
    assert_eq!(accept(&store, &copy).await, known("one"));
    assert_eq!(proxy.round_trips() - before, 2);
    let before = proxy.round_trips();
    assert_eq!(accept(&store, &of_any_body("evt-1", "other").await).await, known("one"));
    assert_eq!(proxy.round_trips() - before, 2, "the acceptor does not compare bodies");
    let before = proxy.round_trips();
    assert_eq!(accept(&store, &other).await, known_and_stored("one"));
    assert_eq!(proxy.round_trips() - before, 3);
}

/// If klikit sends a dead delivery again, the outcome of an old attempt must not settle the new request.
#[tokio::test]
async fn late_outcome_does_not_settle_a_revived_delivery() {
    let Some(server) = PostgresServer::start("late outcome does not settle a revived delivery") else { return };
    let store = open(server.url()).await;
    accept(&store, &delivery("evt-1", "one").await).await;
    let late = lease_one(&store).await;
    dead_letter(&store, late.lease(), "500").await;
    assert_eq!(accept(&store, &delivery("evt-1", "one").await).await, Acceptance::Revived);
    for settlement in [done(Duration::ZERO), done(LEASE), dead("late")] {
        assert_eq!(settle(&store, late.lease(), settlement).await, SettleOutcome::Superseded);
    }
    assert_eq!(lease(&store, 8).await.len(), 1);
}

#[tokio::test]
async fn stores_nothing_that_the_layer_has_claimed() {
    let Some(server) = PostgresServer::start("stores nothing that the layer has claimed") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let (claimed, new) = (delivery("evt-1", "one").await, delivery("evt-1", "one").await);
    store.claim(claimed.claim(), &TERMS).await.unwrap();
    match accept(&store, &new).await {
        Acceptance::InFlight { digest, remaining } => {
            assert_eq!(digest, *new.claim().digest());
            assert!(remaining <= LEASE && remaining > LEASE / 2, "{remaining:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(store.complete(claimed.claim(), RETENTION).await.unwrap());
    assert_eq!(accept(&store, &new).await, known("one"));
    assert_eq!(count(&client, ROWS).await, 0);
    client.execute("UPDATE klikit_ledger SET until = now(), state = 0", &[]).await.unwrap();
    assert_eq!(accept(&store, &new).await, Acceptance::Accepted);
    assert_eq!(count(&client, REMEMBERED).await, 1);
}

#[tokio::test]
async fn new_delivery_replaces_a_kept_one() {
    let Some(server) = PostgresServer::start("new delivery replaces a kept one") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let new = delivery("evt-1", "one").await;
    accept(&store, &new).await;
    let first = lease_one(&store).await;
    finish(&store, first.lease(), LEASE).await;
    assert_eq!(store.show(first.lease().id(), ShowBody::Include).await.unwrap().unwrap().state, DeliveryState::Done);
    assert_eq!(accept(&store, &new).await, known("one"));
    assert_eq!(accept(&store, &delivery("evt-1", "two").await).await, known_and_stored("one"));
    client.execute(FORGET_LEDGER, &[]).await.unwrap();
    assert_eq!(accept(&store, &delivery("evt-1", "two").await).await, Acceptance::Accepted);
    assert_eq!(count(&client, ROWS).await, 110);
    assert!(store.show(first.lease().id(), ShowBody::Include).await.unwrap().is_none());
    let second = lease_one(&store).await;
    assert!(second.lease().id() > first.lease().id());
    assert_eq!(bodies(&[second]), ["two"]);
}

#[tokio::test]
async fn conflict_is_a_separate_delivery() {
    let Some(server) = PostgresServer::start("conflict is a separate delivery") else { return };
    let store = open(server.url()).await;
    accept(&store, &delivery("evt-1", "one").await).await;
    let conflict = conflicting("evt-1", "two").await;
    assert!(conflict.claim().is_conflict());
    assert_eq!(accept(&store, &conflict).await, Acceptance::Accepted);
    assert_eq!(accept(&store, &conflict).await, known("two"));
    let leased = lease(&store, 8).await;
    assert_eq!(bodies(&leased), ["one", "two"]);
    assert!(store.show(leased[1].lease().id(), ShowBody::Include).await.unwrap().unwrap().is_conflict());
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_one_of_many_copies_on_two_nodes() {
    let Some(server) = PostgresServer::start("stores one of many copies on two nodes") else { return };
    let nodes = [open(server.url()).await, open(server.url()).await];
    let client = client(server.url()).await;
    for round in 0..30 {
        let id = format!("evt-{round}");
        // Copies of a new delivery, then of a dead one, and then of a delivery whose ledger row is missing.
        for (stored, revived) in [(1, 0), (0, 1), (0, 0)] {
            let keys: &[&str] = if round % 2 == 0 { &["a", "b"] } else { &[] };
            let mut copies = Vec::new();
            for copy in 0..64 {
                let (store, new) = (nodes[copy % 2].clone(), ordered(&id, keys).await);
                copies.push(async move { accept(&store, &new).await });
            }
            let copies: Vec<_> = copies.into_iter().map(tokio::spawn).collect();
            let outcomes: Vec<_> = join_all(copies).await.into_iter().map(Result::unwrap).collect();
            let counted = |wanted: &Acceptance| outcomes.iter().filter(|outcome| *outcome == wanted).count();
            assert_eq!(counted(&Acceptance::Accepted), stored, "{round}: {outcomes:?}");
            assert_eq!(counted(&Acceptance::Revived), revived, "{round}: {outcomes:?}");
            assert_eq!(counted(&known(&id)), 64 - stored - revived);
            if stored == 1 {
                let leased = lease_one(&nodes[1]).await;
                dead_letter(&nodes[0], leased.lease(), "500").await;
            } else {
                client.execute(FORGET_LEDGER, &[]).await.unwrap();
            }
        }
        let leased = lease(&nodes[0], 8).await;
        assert_eq!(bodies(&leased), [id.as_str()]);
        finish(&nodes[1], leased[0].lease(), Duration::ZERO).await;
    }
    assert_eq!(count(&client, ROWS).await, 0);
}

#[tokio::test]
async fn contents_and_reasons_come_back_unchanged() {
    let Some(server) = PostgresServer::start("contents and reasons come back unchanged") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let large = "\u{0}\u{1}'\\%s\u{1f980}".repeat(100_000);
    for (n, body) in ["", "\0", &large].into_iter().enumerate() {
        let new = delivery(&format!("evt-{n}"), body).await;
        accept(&store, &new).await;
        let leased = lease_one(&store).await;
        assert!(leased.body() == new.body(), "{n}");
        assert_eq!(leased.head(), new.head());
        reschedule(&store, leased.lease(), LEASE, "it's \\ \0 \u{1f980}").await;
        let entry = store.show(leased.lease().id(), ShowBody::Include).await.unwrap().unwrap();
        assert_eq!(entry.reason.as_deref(), Some("it's \\ \u{fffd} \u{1f980}"));
        assert!(entry.body.as_ref() == Some(new.body()));
    }
    pass(&client).await;
    assert_eq!(lease(&store, 8).await.len(), 3);
}

/// This test does not call `purge`.
#[tokio::test]
async fn accepting_purges_the_ledger() {
    let Some(server) = PostgresServer::start("accepting purges the ledger") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    client
        .execute(
            "
                INSERT INTO klikit_ledger (claimed_at, until, key, token, state, digest)
                SELECT now(), now(), gen_random_uuid(), gen_random_uuid(), 1, sha256('x')
                FROM generate_series(1, 100)",
            &[],
        )
        .await
        .unwrap();
    let over = "SELECT count(*) FROM klikit_ledger WHERE until <= now()";
    // A sweep examines a random part of the table, so several may be needed.
    let purged = async {
        let mut event = 0;
        while count(&client, over).await > 0 {
            for _ in 0..256 {
                event += 1;
                accept(&store, &delivery(&format!("evt-{event}"), "x").await).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), purged).await.expect("it ends");
}

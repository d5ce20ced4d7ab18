//! Tests that unreadable rows do not affect other deliveries.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    time::Duration,
};

use tower_klikit::inbox::{
    Acceptance, DeadLettered, DeliveryState, InboxAdmin, InboxStore, LeaseBatch, NewDelivery, ShowBody,
};
use tower_klikit_postgres::PostgresStore;

use super::{accept, bodies, dead_letters, delivery, finish, lease, lease_one, lease_with, ordered, pass, request};
use crate::{client, count, ends, open, servers::postgres::PostgresServer};

/// Leases two deliveries. Checks that the other one is leased, and returns the dead-lettered one.
async fn dead_lettered(store: &PostgresStore, other: &str) -> DeadLettered {
    let LeaseBatch { leased, dead_lettered, .. } = lease_with(store, request(8)).await;
    assert_eq!(bodies(&leased), [other]);
    finish(store, leased[0].lease(), Duration::ZERO).await;
    assert_eq!(dead_lettered.len(), 1);
    let dead = dead_lettered[0].clone();
    let entry = store.show(dead.id, ShowBody::Include).await;
    if let Ok(entry) = entry {
        let entry = entry.unwrap();
        assert_eq!((entry.state, entry.reason.as_deref()), (DeliveryState::Dead, Some(&*dead.reason)));
    }
    assert_eq!(lease(store, 8).await.len(), 0);
    dead
}

/// Checks that a replay by klikit restores the content.
async fn revives(store: &PostgresStore, new: &NewDelivery) {
    assert_eq!(accept(store, new).await, Acceptance::Revived);
    let revived = lease_one(store).await;
    assert_eq!((revived.body(), revived.head()), (new.body(), new.head()));
    assert_eq!(revived.ordering_keys(), new.ordering_keys());
    finish(store, revived.lease(), Duration::ZERO).await;
}

#[tokio::test]
async fn missing_content_is_dead_lettered() {
    let Some(server) = PostgresServer::start("missing content is dead lettered") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for keys in [&[][..], &["a"]] {
        for forgotten in [false, true] {
            let id = format!("{}-{forgotten}", keys.len());
            let new = ordered(&id, keys).await;
            accept(&store, &new).await;
            let delete = "DELETE FROM klikit_inbox_body";
            assert_eq!(client.execute(delete, &[]).await.unwrap(), 1);
            accept(&store, &ordered(&format!("{id}-other"), keys).await).await;
            let dead = dead_lettered(&store, &format!("{id}-other")).await;
            assert_eq!((dead.attempts, dead.head), (0, None));
            assert_eq!(dead.reason, "the head and the body are missing from the store");
            let listed = dead_letters(&store, None, 8).await;
            assert_eq!((listed.len(), listed[0].id), (1, dead.id));
            let shown = store.show(dead.id, ShowBody::Include).await.unwrap().unwrap();
            assert_eq!((shown.body.as_ref(), shown.event_id()), (None, None));
            if forgotten {
                client.execute("DELETE FROM klikit_ledger", &[]).await.unwrap();
            }
            revives(&store, &new).await;
        }
    }
}

#[tokio::test]
async fn unreadable_ordering_key_is_dead_lettered() {
    let Some(server) = PostgresServer::start("unreadable ordering key is dead lettered") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let new = delivery("evt-1", "one").await;
    accept(&store, &new).await;
    client.execute("UPDATE klikit_inbox SET ordering_keys = '{NULL}'", &[]).await.unwrap();
    accept(&store, &delivery("evt-2", "two").await).await;
    let dead = dead_lettered(&store, "two").await;
    assert_eq!((dead.attempts, dead.head.as_ref()), (1, None));
    assert!(dead.reason.starts_with("the delivery's content cannot be read: "), "{dead:?}");
    revives(&store, &new).await;
}

/// Accepts two deliveries, the first of which has such a large body that Postgres stores it in another file. Returns the
/// first delivery and that file.
async fn accept_large(server: &PostgresServer) -> (NewDelivery, PathBuf) {
    let store = open(server.url()).await;
    let new = large("evt-1").await;
    accept(&store, &new).await;
    accept(&store, &delivery("evt-2", "two").await).await;
    (new, large_bodies(server).await)
}

/// Returns a delivery whose body Postgres cannot compress.
async fn large(event_id: &str) -> NewDelivery {
    let mut random = [0_u8; 8_000];
    getrandom::fill(&mut random).unwrap();
    let body: String = random.iter().map(|byte| char::from(b' ' + byte % 95)).collect();
    delivery(event_id, &body).await
}

/// Returns the file in which Postgres stores large bodies.
async fn large_bodies(server: &PostgresServer) -> PathBuf {
    let path = "
        SELECT pg_relation_filepath(reltoastrelid)
        FROM pg_class
        WHERE relname = 'klikit_inbox_body'";
    let path: String = client(server.url()).await.query_one(path, &[]).await.unwrap().get(0);
    server.folder().join("data").join(path)
}

/// Empties a file of a stopped server.
fn empty(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    assert!(file.metadata().unwrap().len() > 0);
    file.set_len(0).unwrap();
}

#[tokio::test]
async fn damaged_body_is_dead_lettered() {
    let Some(mut server) = PostgresServer::start_own("damaged body is dead lettered", &[]) else { return };
    let (new, path) = accept_large(&server).await;
    server.stop();
    empty(&path);
    server.restart();
    let store = open(server.url()).await;
    let client = client(server.url()).await;

    // The damaged body cannot be compared, so the delivery is a conflict.
    let other = accept(&store, &delivery("evt-1", "other").await).await;
    assert_eq!(other, Acceptance::Known { digest: *new.claim().digest(), body: None });
    let dead = ends(dead_lettered(&store, "two")).await;
    assert_eq!((dead.attempts, dead.head.as_ref()), (1, None));
    assert!(dead.reason.starts_with("the delivery's content cannot be read: "), "{dead:?}");
    store.show(dead.id, ShowBody::Include).await.unwrap_err();
    let listed = dead_letters(&store, None, 8).await;
    assert_eq!((listed.len(), listed[0].id, listed[0].event_id()), (1, dead.id, Some("evt-1")));
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_inbox WHERE state = 1").await, 0);
}

/// A failed statement must have released its locks before the next one looks for the same deliveries.
#[tokio::test]
async fn damaged_bodies_are_found_by_one_call() {
    const BODIES: usize = 200;
    let Some(mut server) = PostgresServer::start_own("damaged bodies are found by one call", &[]) else { return };
    let path = {
        let store = open(server.url()).await;
        for event in 0..BODIES {
            accept(&store, &large(&format!("evt-{event}")).await).await;
        }
        large_bodies(&server).await
    };
    server.stop();
    empty(&path);
    server.restart();
    let store = open(server.url()).await;
    let batch = lease_with(&store, request(1)).await;
    assert_eq!(batch.dead_lettered.len(), BODIES);
}

/// The error may be temporary, for example if a disk is missing for a while.
#[tokio::test]
async fn unreadable_body_is_leased_again() {
    let Some(mut server) = PostgresServer::start_own("unreadable body is leased again", &[]) else { return };
    let (new, path) = accept_large(&server).await;
    server.stop();
    let away = path.with_extension("away");
    fs::rename(&path, &away).unwrap();
    server.restart();
    let id = {
        let store = open(server.url()).await;
        let batch = store.lease(&request(8)).await.unwrap();
        assert_eq!(bodies(&batch.leased), ["two"]);
        assert!(batch.dead_lettered.is_empty());
        assert_eq!(batch.unreadable.len(), 1);
        finish(&store, batch.leased[0].lease(), Duration::ZERO).await;
        assert_eq!(lease(&store, 8).await.len(), 0, "the lease must expire first");
        batch.unreadable[0].id
    };
    server.stop();
    fs::rename(&away, &path).unwrap();
    server.restart();
    let store = open(server.url()).await;
    pass(&client(server.url()).await).await;
    let again = lease_one(&store).await;
    assert_eq!((again.lease().id(), again.lease().attempt()), (id, 2));
    assert_eq!(again.body(), new.body());
}

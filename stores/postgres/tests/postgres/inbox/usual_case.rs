//! Tests of the statements for the usual case: no ordering keys, known tenants, and no replaced deliveries.

use tower_klikit::inbox::{Acceptance, InboxAdmin, InboxStore, Pause};

use super::{RETENTION, TIME, accept, accept_all, bodies, delivery, finish, lease, ordered};
use crate::{client, count, open, servers::postgres::PostgresServer};

/// The number of tenants in the table of tenants.
const TENANTS: &str = "SELECT count(*) FROM klikit_inbox_tenant";

#[tokio::test]
async fn ordered_deliveries_are_leased_with_others() {
    let Some(server) = PostgresServer::start("ordered deliveries are leased with others") else { return };
    let store = open(server.url()).await;
    accept_all(&store, &[delivery("evt-1", "one").await]).await;
    assert_eq!(bodies(&lease(&store, 8).await), ["one"]);
    accept_all(&store, &[delivery("evt-2", "two").await, ordered("evt-3", &["a"]).await]).await;
    assert_eq!(bodies(&lease(&store, 8).await), ["two", "evt-3"]);
}

#[tokio::test]
async fn another_tenants_deliveries_are_leased_too() {
    let Some(server) = PostgresServer::start("another tenant's deliveries are leased too") else { return };
    let (store, client) = (open(server.url()).await, client(server.url()).await);
    accept_all(&store, &[delivery("evt-1", "one").await]).await;
    assert_eq!(bodies(&lease(&store, 8).await), ["one"]);
    assert_eq!(count(&client, TENANTS).await, 1);
    let of_another = |id: &str| format!(r#"{{"event_id":"{id}","tenant":"kedai"}}"#);
    accept_all(&store, &[delivery("evt-2", "two").await.with_head(of_another("evt-2"))]).await;
    assert_eq!(count(&client, TENANTS).await, 2);
    assert_eq!(bodies(&lease(&store, 8).await), ["two"]);
}

/// The ledger of a delivery that was handed off, or that the dedupe layer has handled, knows its key, and its tenant has no
/// row.
#[tokio::test]
async fn tenant_of_known_delivery_is_still_added() {
    let Some(server) = PostgresServer::start("tenant of known delivery is still added") else { return };
    let client = client(server.url()).await;
    let new = delivery("evt-1", "one").await;
    accept_all(&open(server.url()).await, std::slice::from_ref(&new)).await;
    client
        .batch_execute("DELETE FROM klikit_inbox; DELETE FROM klikit_inbox_body; DELETE FROM klikit_inbox_tenant")
        .await
        .unwrap();
    let store = open(server.url()).await;
    assert!(matches!(accept(&store, &new).await, Acceptance::Known { .. }));
    assert!(lease(&store, 8).await.is_empty());
    accept_all(&store, &[delivery("evt-2", "two").await]).await;
    assert_eq!(count(&client, TENANTS).await, 1);
    assert_eq!(bodies(&lease(&store, 8).await), ["two"]);
}

#[tokio::test]
async fn pause_ends_the_usual_case() {
    let Some(server) = PostgresServer::start("pause ends the usual case") else { return };
    let (store, other) = (open(server.url()).await, open(server.url()).await);
    accept_all(&store, &[delivery("evt-1", "one").await]).await;
    assert_eq!(bodies(&lease(&store, 8).await), ["one"]);
    accept_all(&store, &[delivery("evt-2", "two").await]).await;
    let pause = Pause::everything().tenant("default");
    other.pause(&pause, "clerk").await.unwrap();
    assert!(lease(&store, 8).await.is_empty());
    assert!(other.resume(&pause).await.unwrap());
    assert_eq!(bodies(&lease(&store, 8).await), ["two"]);
}

/// klikit sends the event of a kept delivery again, and its ledger row is gone.
#[tokio::test]
async fn kept_delivery_is_replaced() {
    let Some(server) = PostgresServer::start("kept delivery is replaced") else { return };
    let (store, client) = (open(server.url()).await, client(server.url()).await);
    let new = delivery("evt-1", "one").await;
    accept_all(&store, &[new.clone(), delivery("evt-2", "two").await]).await;
    for leased in lease(&store, 8).await {
        finish(&store, leased.lease(), TIME).await;
    }
    assert!(matches!(accept(&store, &new).await, Acceptance::Known { .. }));
    client.execute("DELETE FROM klikit_ledger", &[]).await.unwrap();
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    assert_eq!(bodies(&lease(&store, 8).await), ["one"]);
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_inbox").await, 2);
}

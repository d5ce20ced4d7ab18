//! The store creates the inbox's tables where they are missing.

use futures_util::future::join_all;
use tower_klikit::inbox::{Acceptance, InboxAdmin, InboxStore};
use tower_klikit_postgres::PostgresStore;

use super::{accept, bodies, dead_letter, delivery, finish, lease, ordered};
use crate::{LEASE, TERMS, claim, client, count, done, handle, open, patient, servers::postgres::PostgresServer};

#[tokio::test]
async fn adds_missing_tables_beside_a_ledger() {
    let Some(server) = PostgresServer::start("a ledger of before gets the tables beside it") else { return };
    let client = client(server.url()).await;
    handle(&open(server.url()).await, 1).await;
    let drop = "DROP TABLE klikit_deliveries_inbox, klikit_deliveries_inbox_delivery, klikit_deliveries_inbox_ordering";
    client.batch_execute(drop).await.unwrap();
    let nodes = join_all((0..8).map(|_| patient().max_connections(1).connect(server.url()))).await;
    for (n, node) in nodes.into_iter().enumerate() {
        let node = node.unwrap();
        assert_eq!(accept(&node, &delivery(&n.to_string(), "x").await).await, Acceptance::Accepted);
        assert_eq!(tower_klikit::dedupe::Ledger::claim(&node, &claim(1), &TERMS).await.unwrap(), done(1));
    }
    client.batch_execute("DROP TABLE klikit_deliveries_inbox_ordering").await.unwrap();
    let store = open(server.url()).await;
    assert_eq!(lease(&store, 100).await.len(), 8, "one table alone comes back, too");
}

#[tokio::test]
async fn tables_of_other_names_are_apart() {
    let Some(server) = PostgresServer::start_own("inboxes of other names and schemas", &[]) else { return };
    let client = client(server.url()).await;
    client.batch_execute("CREATE SCHEMA webhooks").await.unwrap();
    let (longest, almost) = ("x".repeat(48), format!("{}y", "x".repeat(47)));
    for name in [PostgresStore::TABLE, &longest, &almost, &format!("webhooks.{longest}")] {
        for _ in 0..2 {
            let store = patient().table(name).connect(server.url()).await.unwrap();
            let expected = matches!(accept(&store, &ordered("evt-1", &["a"]).await).await, Acceptance::Accepted);
            assert_eq!(bodies(&lease(&store, 8).await).len(), usize::from(expected), "{name}");
        }
    }
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname IN ('public', 'webhooks')";
    assert_eq!(count(&client, tables).await, 16);
    let indexes =
        "SELECT count(*) FROM pg_indexes WHERE schemaname IN ('public', 'webhooks') AND tablename LIKE '%inbox%'";
    assert_eq!(count(&client, indexes).await, 4 * 10);
}

#[tokio::test]
async fn rejects_the_table_of_another_program() {
    let Some(server) = PostgresServer::start("an inbox of another program is refused") else { return };
    let client = client(server.url()).await;
    client.batch_execute("CREATE TABLE klikit_deliveries_inbox (id bigint PRIMARY KEY, body text)").await.unwrap();
    let refused = PostgresStore::connect(server.url()).await.unwrap_err();
    assert!(refused.to_string().contains("klikit_deliveries_inbox"), "{refused}");
}

#[tokio::test]
async fn needs_no_right_to_create_existing_tables() {
    let Some(server) = PostgresServer::start_own("a user who may create no inbox", &[]) else { return };
    open(server.url()).await;
    let client = client(server.url()).await;
    client
        .batch_execute(
            "CREATE ROLE clerk LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO clerk",
        )
        .await
        .unwrap();
    let store = open(&server.url().replace("klikit@", "clerk@")).await;
    let new = ordered("evt-1", &["a"]).await;
    assert_eq!(accept(&store, &new).await, Acceptance::Accepted);
    let leased = lease(&store, 1).await;
    dead_letter(&store, leased[0].lease(), "500").await;
    assert_eq!(accept(&store, &new).await, Acceptance::Revived);
    let leased = lease(&store, 1).await;
    finish(&store, leased[0].lease(), LEASE).await;
    assert_eq!(store.forget_event(new.claim().event()).await.unwrap(), 1);
    store.counts().await.unwrap();
    assert_eq!(store.purge_done(1).await.unwrap(), 0);
    assert!(!store.retry(leased[0].lease().id()).await.unwrap());
}

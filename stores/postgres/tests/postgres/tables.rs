//! The store creates its table, and the table's name can be set.

use futures_util::future::join_all;
use tower_klikit::dedupe::{ClaimOutcome, Ledger};
use tower_klikit_postgres::PostgresStore;

use crate::{TERMS, claim, client, count, done, handle, open, patient, servers::postgres::PostgresServer};

#[tokio::test]
async fn eight_nodes_create_the_table_at_once() {
    let Some(server) = PostgresServer::start("the table creates itself") else { return };
    for round in 0..8 {
        let name = format!("round_{round}");
        let stores = join_all((0..8).map(|_| patient().table(&name).max_connections(1).connect(server.url()))).await;
        for (node, store) in stores.into_iter().enumerate() {
            handle(&store.unwrap(), node as u64).await;
        }
    }
}

#[tokio::test]
async fn keeps_an_existing_table() {
    let Some(server) = PostgresServer::start("a table that is there is kept") else { return };
    handle(&open(server.url()).await, 1).await;
    let store = open(server.url()).await;
    assert_eq!(store.claim(&claim(1), &TERMS).await.unwrap(), done(1));
}

#[tokio::test]
async fn tables_of_other_names_are_apart() {
    let Some(server) = PostgresServer::start_own("tables of other names and schemas", &[]) else { return };
    let client = client(server.url()).await;
    client.batch_execute("CREATE SCHEMA webhooks").await.unwrap();
    let longest = "x".repeat(48);
    for name in [PostgresStore::TABLE, "order", "webhooks.klikit_deliveries", "webhooks.order", &longest] {
        let store = patient().table(name).connect(server.url()).await.unwrap();
        assert_eq!(store.claim(&claim(1), &TERMS).await.unwrap(), ClaimOutcome::Claimed, "{name}");
    }
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname IN ('public', 'webhooks') \
                  AND tablename NOT LIKE '%inbox%'";
    assert_eq!(count(&client, tables).await, 5);
}

#[tokio::test]
async fn rejects_names_that_are_no_identifiers() {
    let Some(server) = PostgresServer::start("what is no name is refused") else { return };
    for name in ["", "a b", "a;DROP TABLE x", "a\"b", "Upper", "a.b.c", "no_such_schema.t", &"x".repeat(49)] {
        let refused = patient().table(name).connect(server.url()).await;
        let message = refused.expect_err(name).to_string();
        assert!(message.contains(name.split('.').next().unwrap()) || message.contains("a\\\"b"), "{message}");
    }
}

#[tokio::test]
async fn rejects_the_table_of_another_program() {
    let Some(server) = PostgresServer::start("a table of another program is refused") else { return };
    let client = client(server.url()).await;
    client.batch_execute("CREATE TABLE klikit_deliveries (key uuid PRIMARY KEY, event uuid, body text)").await.unwrap();
    let refused = PostgresStore::connect(server.url()).await.unwrap_err();
    assert!(refused.to_string().contains("klikit_deliveries"), "{refused}");
}

#[tokio::test]
async fn needs_no_right_to_create_existing_tables() {
    let Some(server) = PostgresServer::start_own("a user who may create nothing", &[]) else { return };
    handle(&open(server.url()).await, 1).await;
    let client = client(server.url()).await;
    client
        .batch_execute(
            "CREATE ROLE clerk LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON klikit_deliveries TO clerk",
        )
        .await
        .unwrap();
    let url = server.url().replace("klikit@", "clerk@");
    let store = open(&url).await;
    assert_eq!(store.claim(&claim(1), &TERMS).await.unwrap(), done(1));
    handle(&store, 2).await;
    assert!(patient().table("another").connect(&url).await.is_err());
}

#[tokio::test]
async fn invalid_url_is_rejected_and_not_repeated() {
    for url in
        ["", "mysql://u:hunter2@h/d", "postgres://u:hunter2@h/d?sslmode=perhaps", "postgres://u:hunter2@h:port/d"]
    {
        let refused = PostgresStore::connect(url).await.unwrap_err();
        let mut text = format!("{refused} {refused:?}");
        let mut source = std::error::Error::source(&refused);
        while let Some(error) = source {
            text.push_str(&error.to_string());
            source = error.source();
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}

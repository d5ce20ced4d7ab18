//! Tests of the warnings about servers whose commits are not durable.

use crate::{client, log::Log, open, servers::postgres::PostgresServer};

#[tokio::test]
async fn warns_of_settings_that_lose_commits() {
    let Some(server) = PostgresServer::start_own("warns of settings that lose commits", &["fsync=on"]) else { return };
    let log = Log::default();
    let _guard = log.listen();
    open(server.url()).await;
    assert_eq!(log.taken(), "");
    client(server.url()).await.batch_execute("ALTER ROLE klikit SET synchronous_commit = off").await.unwrap();
    open(server.url()).await;
    let warned = log.taken();
    assert!(warned.contains("synchronous_commit is off") && !warned.contains("fsync"), "{warned}");
    client(server.url()).await.batch_execute("ALTER ROLE klikit SET synchronous_commit = local").await.unwrap();
    open(server.url()).await;
    assert_eq!(log.taken(), "");

    let server = PostgresServer::start_own("warns of settings that lose commits", &["fsync=off"]).unwrap();
    open(server.url()).await;
    let warned = log.taken();
    assert!(warned.contains("fsync is off") && !warned.contains("synchronous_commit"), "{warned}");
}

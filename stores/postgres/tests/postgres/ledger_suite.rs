use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};
use tower_klikit_postgres::PostgresStore;
use tower_klikit_store_tests::ledger;

use crate::servers::postgres::PostgresServer;

#[test]
fn follows_the_rules() {
    let Some(server) = PostgresServer::start("follows the rules") else { return };
    let runtime = Runtime::new().unwrap();
    let fixture = runtime.block_on(LedgerFixture::new(&server));
    runtime.block_on(ledger::check(async || fixture.emptied().await, async |_, time| fixture.age(time).await));
}

#[test]
fn matches_the_reference() {
    let Some(server) = PostgresServer::start("matches the reference") else { return };
    let runtime = Runtime::new().unwrap();
    let fixture = runtime.block_on(LedgerFixture::new(&server));
    ledger::compare(32, 60, &runtime, async || fixture.emptied().await, &async |_: &_, time| fixture.age(time).await);
}

/// A store, and a separate connection to its server.
struct LedgerFixture {
    store: PostgresStore,
    client: Client,
}

impl LedgerFixture {
    async fn new(server: &PostgresServer) -> Self {
        let store = PostgresStore::builder()
            .deadline(Duration::from_secs(50))
            .table_prefix("suite_")
            .open(server.url())
            .await
            .unwrap();
        let (client, connection) = tokio_postgres::connect(server.url(), NoTls).await.unwrap();
        drop(tokio::spawn(connection));
        Self { store, client }
    }

    async fn emptied(&self) -> PostgresStore {
        self.client.batch_execute("DELETE FROM suite_ledger").await.unwrap();
        self.store.clone()
    }

    /// Moves all stored times into the past.
    async fn age(&self, time: Duration) {
        let age = "
            UPDATE suite_ledger
            SET
                until = until - make_interval(secs => $1),
                kept_until = kept_until - make_interval(secs => $1),
                claimed_at = claimed_at - make_interval(secs => $1)";
        self.client.execute(age, &[&time.as_secs_f64()]).await.unwrap();
    }
}

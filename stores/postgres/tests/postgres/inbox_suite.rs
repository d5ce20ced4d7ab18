use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};
use tower_klikit_postgres::PostgresStore;
use tower_klikit_store_tests::inbox;

use crate::servers::postgres::PostgresServer;

#[test]
fn follows_the_rules() {
    let Some(server) = PostgresServer::start("follows the rules") else { return };
    let runtime = Runtime::new().unwrap();
    let fixture = runtime.block_on(InboxFixture::new(&server));
    runtime.block_on(inbox::check(async || fixture.emptied().await, async |_, time| fixture.age(time).await));
}

#[test]
fn matches_the_reference() {
    let Some(server) = PostgresServer::start("matches the reference") else { return };
    let runtime = Runtime::new().unwrap();
    let fixture = runtime.block_on(InboxFixture::new(&server));
    inbox::compare(32, 60, &runtime, async || fixture.emptied().await, &async |_: &_, time| fixture.age(time).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn follows_the_rules_in_races() {
    let Some(server) = PostgresServer::start("follows the rules in races") else { return };
    inbox::race(InboxFixture::new(&server).await.store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn follows_the_rules_between_two_pools() {
    let Some(server) = PostgresServer::start("follows the rules between two pools") else { return };
    inbox::race_between([open(&server).await, open(&server).await]).await;
}

async fn open(server: &PostgresServer) -> PostgresStore {
    PostgresStore::builder().deadline(Duration::from_secs(50)).table_prefix("suite_").open(server.url()).await.unwrap()
}

/// A store, and a separate connection to its server.
struct InboxFixture {
    store: PostgresStore,
    client: Client,
}

impl InboxFixture {
    async fn new(server: &PostgresServer) -> Self {
        let store = open(server).await;
        let (client, connection) = tokio_postgres::connect(server.url(), NoTls).await.unwrap();
        drop(tokio::spawn(connection));
        Self { store, client }
    }

    async fn emptied(&self) -> PostgresStore {
        let empty = "
            DELETE FROM suite_ledger;
            DELETE FROM suite_inbox;
            DELETE FROM suite_inbox_body;
            DELETE FROM suite_inbox_key;
            DELETE FROM suite_inbox_attempt;
            DELETE FROM suite_inbox_pause";
        self.client.batch_execute(empty).await.unwrap();
        self.store.clone()
    }

    /// Moves all stored times into the past.
    async fn age(&self, time: Duration) {
        let time = format!("make_interval(secs => {})", time.as_secs_f64());
        let age = format!(
            "
                BEGIN;
                UPDATE suite_ledger
                SET until = until - {time}, kept_until = kept_until - {time}, claimed_at = claimed_at - {time};
                UPDATE suite_inbox
                SET
                    due = due - {time},
                    accepted_at = accepted_at - {time},
                    started_at = started_at - {time},
                    history_until = history_until - {time};
                UPDATE suite_inbox_attempt
                SET started_at = started_at - {time}, ended_at = ended_at - {time};
                UPDATE suite_inbox_pause
                SET since = since - {time};
                COMMIT"
        );
        self.client.batch_execute(&age).await.unwrap();
    }
}

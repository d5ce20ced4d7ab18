//! Stores with deliveries.

use std::{path::PathBuf, time::Duration};

use http::StatusCode;
use serde_json::Value;
use tokio_postgres::NoTls;
use tower_klikit::inbox::{Inbox, OrderBy};
use tower_klikit_postgres::PostgresStore;
use tower_klikit_test_support::{servers::postgres::PostgresServer, service::Service};

use crate::support::{Ended, Klikit, klikit};

/// A store that the command and a service use.
pub(crate) struct TestStore {
    pub(crate) service: Service,
    /// The value of `KLIKIT_STORE`.
    pub(crate) location: String,
    /// The name of the store in messages.
    pub(crate) name: String,
    server: Option<PostgresServer>,
}

impl TestStore {
    /// Returns an empty store in a file.
    pub(crate) fn sqlite() -> Self {
        let service = Service::in_file();
        let location = service.folder.path().join("klikit.db").to_str().unwrap().to_owned();
        Self { service, name: location.clone(), location, server: None }
    }

    /// Returns an empty store on a server of this test, if Postgres is installed.
    pub(crate) async fn postgres(test: &str) -> Option<Self> {
        let server = PostgresServer::start(test)?;
        let store = PostgresStore::open(server.url()).await.unwrap();
        let inbox = Inbox::new(store).order_by(OrderBy::branch()).keep_bodies(Duration::from_secs(3600));
        let location = server.url().to_owned();
        // The name has neither the user nor the options.
        let name = location.split('?').next().unwrap().replace("klikit@", "");
        Some(Self { service: Service::on(inbox), location, name, server: Some(server) })
    }

    /// Returns an empty store of each kind.
    pub(crate) async fn each(test: &str) -> Vec<Self> {
        [Some(Self::sqlite()), Self::postgres(test).await].into_iter().flatten().collect()
    }

    /// Returns the path of a file next to the store.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.service.folder.path().join(name)
    }

    /// Prepares a run of the command on this store.
    pub(crate) fn klikit<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Klikit {
        klikit(arguments).env("KLIKIT_STORE", &self.location)
    }

    /// Runs the command, which must succeed and name the store, and returns its output.
    #[track_caller]
    pub(crate) fn text<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        let ended = self.klikit(arguments).run();
        self.assert_success(&ended);
        ended.stdout
    }

    /// Runs the command with `--json`, which must succeed, and returns its output.
    #[track_caller]
    pub(crate) fn json<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Value {
        let json: Value = serde_json::from_str(&self.text(arguments.into_iter().chain(["--json"]))).unwrap();
        assert_eq!(json["store"], self.name, "{json}");
        json
    }

    #[track_caller]
    pub(crate) fn assert_success(&self, ended: &Ended) {
        assert_eq!(ended.code, Some(0), "{ended}");
        assert_eq!(ended.stderr.lines().next(), Some(&*format!("store: {}", self.name)), "{ended}");
    }

    /// Runs statements on the store.
    pub(crate) async fn execute(&self, sql: &str) {
        if self.server.is_none() {
            return rusqlite::Connection::open(&self.location).unwrap().execute_batch(sql).unwrap();
        }
        let (client, connection) = tokio_postgres::connect(&self.location, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute(sql).await.unwrap();
        drop(client);
        connection.await.unwrap().unwrap();
    }

    /// Accepts deliveries of these orders, each of a branch of its own.
    pub(crate) async fn accept(&self, orders: impl IntoIterator<Item = u64>) {
        self.service.accept(orders).await;
    }

    /// Dead-letters all pending deliveries with this reason.
    pub(crate) async fn dead_letter(&self, reason: &'static str) {
        self.service.answers(StatusCode::UNPROCESSABLE_ENTITY, reason);
        self.work_until_idle().await;
        self.service.answers(StatusCode::OK, "");
    }

    /// Handles all pending deliveries.
    pub(crate) async fn work_until_idle(&self) {
        let worker = self.service.work();
        self.service.until("nothing is pending", |counts| counts.backlog() == 0).await;
        worker.stop().await;
    }
}

/// Returns the ids in the output of `klikit inbox list --json`.
pub(crate) fn ids(listed: &Value) -> Vec<i64> {
    let deliveries = listed["deliveries"].as_array().unwrap();
    deliveries.iter().map(|delivery| delivery["id"].as_i64().unwrap()).collect()
}

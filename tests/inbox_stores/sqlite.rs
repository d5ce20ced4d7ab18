use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower_klikit::{
    store::sqlite::{SqliteOptions, SqliteStore},
    testing::inbox,
};

use crate::model;

#[test]
fn keeps_every_rule() {
    let file = File::new();
    Runtime::new().unwrap().block_on(async {
        let store = file.open();
        inbox::check(async || file.emptied(&store), async |_, time| file.age(time)).await;
    });
}

#[test]
fn does_what_the_reference_does() {
    let file = File::new();
    let runtime = Runtime::new().unwrap();
    let store = file.open();
    model::holds(32, 60, &runtime, async || file.emptied(&store), &async |_, time| file.age(time));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keeps_every_rule_for_many_at_once() {
    let file = File::new();
    inbox::race(file.open()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keeps_every_rule_for_many_on_two_connections() {
    let file = File::new();
    inbox::race_between([file.open(), file.open()]).await;
}

/// In a folder of its own, which goes with it, though the store may still have it open.
struct File {
    folder: TempDir,
}

impl File {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> SqliteStore {
        // Nothing here is about the disk, and one who waits for it with the lock has others wait for as long.
        SqliteOptions::new().danger_synchronous_normal().open(self.folder.path().join("inbox.db")).unwrap()
    }

    fn emptied(&self, store: &SqliteStore) -> SqliteStore {
        let empty = "DELETE FROM klikit_ledger; DELETE FROM klikit_inbox; DELETE FROM klikit_inbox_delivery; \
                     DELETE FROM klikit_inbox_ordering";
        self.connect().execute_batch(empty).unwrap();
        store.clone()
    }

    /// Has all that is stored be older by so much.
    fn age(&self, time: Duration) {
        let time = time.as_millis();
        let age = format!(
            "BEGIN IMMEDIATE; UPDATE klikit_ledger \
             SET until = until - {time}, kept_until = kept_until - {time}, claimed_at = claimed_at - {time}; \
             UPDATE klikit_inbox SET due = due - {time}, accepted_at = accepted_at - {time}, since = since - {time}; COMMIT"
        );
        self.connect().execute_batch(&age).unwrap();
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(self.folder.path().join("inbox.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        connection
    }
}

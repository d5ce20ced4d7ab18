use std::{
    fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use rusqlite::Connection;
use tokio::runtime::Runtime;
use tower_klikit::{store::sqlite::SqliteStore, testing::inbox};

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

/// In a folder of its own, which goes with it.
struct File {
    folder: PathBuf,
}

impl File {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tower-klikit-inbox-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self { folder }
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.folder.join("inbox.db")).unwrap()
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
            "BEGIN IMMEDIATE; UPDATE klikit_ledger SET until = until - {time}, claimed_at = claimed_at - {time}; \
             UPDATE klikit_inbox SET due = due - {time}, accepted_at = accepted_at - {time}; COMMIT"
        );
        self.connect().execute_batch(&age).unwrap();
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(self.folder.join("inbox.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        connection
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // The store may still have it open.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

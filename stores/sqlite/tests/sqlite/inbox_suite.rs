//! The conformance tests of the inbox.

use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower_klikit_sqlite::SqliteStore;
use tower_klikit_store_tests::inbox;

#[test]
fn follows_the_rules() {
    let file = InboxFile::new();
    Runtime::new().unwrap().block_on(async {
        let store = file.open();
        inbox::check(async || file.emptied(&store), async |_, time| file.age(time)).await;
    });
}

#[test]
fn matches_the_reference() {
    let file = InboxFile::new();
    let runtime = Runtime::new().unwrap();
    let store = file.open();
    inbox::compare(32, 60, &runtime, async || file.emptied(&store), &async |_, time| file.age(time));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn follows_the_rules_in_races() {
    let file = InboxFile::new();
    inbox::race(file.open()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn follows_the_rules_between_two_stores() {
    let file = InboxFile::new();
    inbox::race_between([file.open(), file.open()]).await;
}

/// An inbox's file in a temporary folder. Both are deleted on drop, even while the store has the file open.
struct InboxFile {
    folder: TempDir,
}

impl InboxFile {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::builder().create().open(self.folder.path().join("inbox.db")).unwrap()
    }

    /// Deletes all entries and deliveries, and returns the store for the next check.
    fn emptied(&self, store: &SqliteStore) -> SqliteStore {
        let empty = "
            DELETE FROM klikit_ledger;
            DELETE FROM klikit_inbox;
            DELETE FROM klikit_inbox_body;
            DELETE FROM klikit_inbox_key;
            DELETE FROM klikit_inbox_attempt;
            DELETE FROM klikit_inbox_pause;
            ";
        self.connect().execute_batch(empty).unwrap();
        store.clone()
    }

    /// Moves all stored times back, as if `time` had passed.
    fn age(&self, time: Duration) {
        let time = time.as_millis();
        let age = format!(
            "
            BEGIN IMMEDIATE;

            -- The entries of the ledger.
            UPDATE klikit_ledger SET
                until = until - {time},
                kept_until = kept_until - {time},
                claimed_at = claimed_at - {time};

            -- The deliveries.
            UPDATE klikit_inbox SET
                due = due - {time},
                accepted_at = accepted_at - {time},
                since = since - {time},
                started_at = started_at - {time},
                history_until = history_until - {time};
            UPDATE klikit_inbox_attempt SET
                started_at = started_at - {time},
                ended_at = ended_at - {time};
            UPDATE klikit_inbox_pause SET since = since - {time};

            COMMIT
            "
        );
        self.connect().execute_batch(&age).unwrap();
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(self.folder.path().join("inbox.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        connection
    }
}

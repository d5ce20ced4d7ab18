//! The conformance tests of the ledger.

use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower_klikit_sqlite::SqliteStore;
use tower_klikit_store_tests::ledger;

#[test]
fn follows_the_rules() {
    let file = LedgerFile::new();
    Runtime::new().unwrap().block_on(async {
        let store = file.open();
        ledger::check(async || file.emptied(&store), async |_, time| file.age(time)).await;
    });
}

#[test]
fn matches_the_reference() {
    let file = LedgerFile::new();
    let runtime = Runtime::new().unwrap();
    let store = file.open();
    ledger::compare(32, 60, &runtime, async || file.emptied(&store), &async |_, time| file.age(time));
}

/// A ledger's file in a temporary folder. Both are deleted on drop, even while the store has the file open.
struct LedgerFile {
    folder: TempDir,
}

impl LedgerFile {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::builder().create().open(self.folder.path().join("ledger.db")).unwrap()
    }

    /// Deletes all entries, and returns the store for the next check.
    fn emptied(&self, store: &SqliteStore) -> SqliteStore {
        self.connect().execute("DELETE FROM klikit_ledger", []).unwrap();
        store.clone()
    }

    /// Moves all stored times back, as if `time` had passed.
    fn age(&self, time: Duration) {
        let milliseconds = i64::try_from(time.as_millis()).unwrap();
        let age = "
            UPDATE klikit_ledger SET
                until = until - ?1,
                kept_until = kept_until - ?1,
                claimed_at = claimed_at - ?1
            ";
        self.connect().execute(age, [milliseconds]).unwrap();
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(self.folder.path().join("ledger.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        connection
    }
}

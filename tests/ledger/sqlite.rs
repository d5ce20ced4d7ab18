use std::{
    fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use rusqlite::Connection;
use tokio::runtime::Runtime;
use tower_klikit::{store::sqlite::SqliteStore, testing::ledger};

use crate::model;

#[test]
fn keeps_every_rule() {
    let file = File::new();
    Runtime::new().unwrap().block_on(async {
        let store = file.open();
        ledger::check(async || file.emptied(&store), async |_, time| file.age(time)).await;
    });
}

#[test]
fn does_what_the_reference_does() {
    let file = File::new();
    let runtime = Runtime::new().unwrap();
    let store = file.open();
    model::holds(32, 60, &runtime, async || file.emptied(&store), &async |_, time| file.age(time));
}

/// In a folder of its own, which goes with it.
struct File {
    folder: PathBuf,
}

impl File {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tower-klikit-ledger-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self { folder }
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.folder.join("ledger.db")).unwrap()
    }

    fn emptied(&self, store: &SqliteStore) -> SqliteStore {
        self.connect().execute("DELETE FROM klikit_ledger", []).unwrap();
        store.clone()
    }

    /// Has all that is stored be older by so much.
    fn age(&self, time: Duration) {
        let milliseconds = i64::try_from(time.as_millis()).unwrap();
        let age = "UPDATE klikit_ledger SET until = until - ?1, claimed_at = claimed_at - ?1";
        self.connect().execute(age, [milliseconds]).unwrap();
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(self.folder.join("ledger.db")).unwrap();
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

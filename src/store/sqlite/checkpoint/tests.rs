use std::fs;

use tempfile::TempDir;

use super::*;
use crate::store::sqlite::{connection::Synchronous, schema::Schema};

const LIMITS: Limits = Limits { worth: 1 << 20, little: 256 << 10, long: 4 << 20 };

/// A file in a folder of its own, which goes with it, and who writes to it.
struct Fixture {
    database: Database,
    checkpoints: Checkpoints,
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let schema = Schema::new("klikit_").unwrap();
        let database = Database::open(&folder.path().join("ledger.db"), schema, Synchronous::Normal).unwrap();
        database.session().unwrap().connection().execute_batch("CREATE TABLE t (c)").unwrap();
        let checkpoints = Checkpoints::start(database.for_reading(), LIMITS).unwrap();
        Self { database, checkpoints, folder }
    }

    fn log(&self) -> Log {
        Log::after(self.database.session().unwrap().connection(), "NOOP").unwrap()
    }

    fn file(&self, suffix: &str) -> u64 {
        fs::metadata(self.folder.path().join(format!("ledger.db{suffix}"))).map_or(0, |file| file.len())
    }

    /// Commits so many times a quarter of a megabyte, without ever resting.
    fn write(&mut self, times: usize) {
        let session = self.database.session().unwrap();
        let connection = session.connection();
        for _ in 0..times {
            connection.execute("INSERT INTO t VALUES (zeroblob(262144))", []).unwrap();
            self.checkpoints.look_after(connection).unwrap();
        }
    }

    /// The same, waiting each time until what was begun is copied. How long the log is.
    fn write_calmly(&mut self) -> u64 {
        self.write(1);
        self.checkpoints.is_copying(true);
        self.log().bytes
    }
}

#[test]
fn what_is_worth_it_is_copied_by_the_other_thread() {
    let mut fixture = Fixture::new();
    fixture.write(3);
    assert!(!fixture.checkpoints.is_copying(false));
    let before = fixture.file("");
    fixture.write_calmly();
    assert!(fixture.file("") >= before + (1 << 20));
    let log = fixture.log();
    assert_eq!((log.busy, log.left), (false, 0));
}

#[test]
fn the_log_does_not_grow_under_constant_load() {
    let mut fixture = Fixture::new();
    fixture.write(400);
    // Twice what is long, and one more. All of it is 100 MB.
    let log = fixture.file("-wal");
    assert!(log < 9 << 20, "{log} bytes");
}

#[test]
fn a_log_begins_anew_also_when_the_other_thread_is_gone() {
    let mut fixture = Fixture::new();
    fixture.checkpoints.begin = None;
    fixture.checkpoints.thread.take().unwrap().join().unwrap();
    fixture.write(100);
    let log = fixture.file("-wal");
    assert!(log < 8 << 20, "{log} bytes");
}

#[test]
fn who_reads_for_long_is_waited_for_once_in_a_while_and_is_no_error() {
    let mut fixture = Fixture::new();
    fixture.write(1);
    let reader = Connection::open(fixture.folder.path().join("ledger.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    let mut waits = 0;
    for _ in 0..40 {
        let before = fixture.checkpoints.restart_at;
        fixture.write_calmly();
        waits += usize::from(fixture.checkpoints.restart_at > before);
    }
    // At 4 MB and at 8 MB.
    assert_eq!(waits, 2);
    reader.execute_batch("COMMIT").unwrap();
    let mut lengths = (0..40).map(|_| fixture.write_calmly());
    assert!(lengths.any(|length| length < LIMITS.long), "it did not begin anew");
}

#[test]
fn the_thread_leaves_no_connection_behind() {
    let mut fixture = Fixture::new();
    fixture.write(8);
    let Fixture { folder, database, checkpoints } = &mut fixture;
    checkpoints.begin = None;
    checkpoints.thread.take().unwrap().join().unwrap();
    database.close();
    // The last connection takes the log with it.
    assert!(!folder.path().join("ledger.db-wal").exists());
}

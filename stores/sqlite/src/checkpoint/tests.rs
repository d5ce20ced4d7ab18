use std::fs;

use tempfile::TempDir;

use super::*;
use crate::{connection::Missing, schema::Schema};

const LIMITS: Limits = Limits { worth: 1 << 20, little: 256 << 10, long: 4 << 20 };

/// A file in a temporary folder, and the handle to its checkpoint thread.
struct CheckpointFixture {
    database: Database,
    checkpoints: Checkpoints,
    folder: TempDir,
}

impl CheckpointFixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let schema = Schema::new("klikit_").unwrap();
        let database = Database::open(&folder.path().join("ledger.db"), schema, Missing::Create).unwrap();
        database.session().unwrap().connection().execute_batch("CREATE TABLE t (c)").unwrap();
        let checkpoints = Checkpoints::start(database.for_upkeep(), LIMITS).unwrap();
        Self { database, checkpoints, folder }
    }

    fn log(&self) -> Log {
        Log::read(self.database.session().unwrap().connection()).unwrap()
    }

    fn file(&self, suffix: &str) -> u64 {
        fs::metadata(self.folder.path().join(format!("ledger.db{suffix}"))).map_or(0, |file| file.len())
    }

    /// Commits a quarter of a megabyte this many times, without pauses.
    fn write(&mut self, times: usize) {
        let session = self.database.session().unwrap();
        let connection = session.connection();
        for _ in 0..times {
            connection.execute("INSERT INTO t VALUES (zeroblob(262144))", []).unwrap();
            self.checkpoints.look_after(connection).unwrap();
        }
    }

    /// Commits once and waits for the end of the checkpoint. Returns the length of the log.
    fn write_and_wait(&mut self) -> u64 {
        self.write(1);
        self.checkpoints.wait_for_copy();
        self.log().bytes
    }
}

#[test]
fn thread_copies_the_log() {
    let mut fixture = CheckpointFixture::new();
    fixture.write(3);
    assert!(!fixture.checkpoints.is_copying());
    let before = fixture.file("");
    fixture.write_and_wait();
    assert!(fixture.file("") >= before + (1 << 20));
    let log = fixture.log();
    assert_eq!((log.busy, log.left), (false, 0));
}

#[test]
fn log_stays_short_under_constant_load() {
    let mut fixture = CheckpointFixture::new();
    fixture.write(400);
    // Twice the limit, and one commit. All commits together have 100 MB.
    let log = fixture.file("-wal");
    assert!(log < 9 << 20, "{log} bytes");
}

#[test]
fn restarts_the_log_without_the_thread() {
    let mut fixture = CheckpointFixture::new();
    fixture.checkpoints.tasks = None;
    fixture.checkpoints.thread.take().unwrap().join().unwrap();
    fixture.write(100);
    let log = fixture.file("-wal");
    assert!(log < 8 << 20, "{log} bytes");
}

#[test]
fn commits_rarely_wait_for_a_long_read() {
    let mut fixture = CheckpointFixture::new();
    fixture.write(1);
    let reader = Connection::open(fixture.folder.path().join("ledger.db")).unwrap();
    let begin_reading = "
        BEGIN;

        -- The transaction begins to read here.
        SELECT count(*)
        FROM t;
        ";
    reader.execute_batch(begin_reading).unwrap();
    let mut waits = 0;
    for _ in 0..40 {
        let before = fixture.checkpoints.restart_at;
        fixture.write_and_wait();
        waits += usize::from(fixture.checkpoints.restart_at > before);
    }
    // At 4 MB and at 8 MB.
    assert_eq!(waits, 2);
    reader.execute_batch("COMMIT").unwrap();
    let mut lengths = (0..40).map(|_| fixture.write_and_wait());
    assert!(lengths.any(|length| length < LIMITS.long), "the log was not restarted");
}

#[test]
fn thread_closes_its_connection() {
    let mut fixture = CheckpointFixture::new();
    fixture.write(8);
    let CheckpointFixture { folder, database, checkpoints } = &mut fixture;
    checkpoints.tasks = None;
    checkpoints.thread.take().unwrap().join().unwrap();
    database.close();
    // The last connection deletes the log.
    assert!(!folder.path().join("ledger.db-wal").exists());
}

/// SQLite truncates the log while the store checks whether a part of the log is missing.
#[test]
fn log_truncated_by_sqlite_is_not_lost() {
    let CheckpointFixture { database, folder, checkpoints } = CheckpointFixture::new();
    drop(checkpoints);
    let path = folder.path().join("ledger.db");
    let truncating = std::thread::spawn(move || {
        let connection = Connection::open(path).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
        for _ in 0..2000 {
            connection.execute("INSERT INTO t VALUES (1)", []).unwrap();
            assert!(!Log::checkpoint(&connection, CheckpointMode::Truncate).unwrap().busy);
        }
    });
    while !truncating.is_finished() {
        database.check().unwrap();
    }
    truncating.join().unwrap();
}

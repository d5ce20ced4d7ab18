//! A connection: where its file is, its settings, and its tables.

use std::{
    cell::Cell,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{
    error::{SqliteError, SqliteErrorKind},
    schema::Schema,
};

/// How long to wait for another connection's lock. Calls may come in while a batch waits, and wait as long again: both
/// together are well below the 2 s that a claim is given.
const BUSY_FOR: Duration = Duration::from_millis(500);

/// How long to wait for it when the store is opened, and nobody is waiting for an answer yet: a process that ends at the same time
/// copies its log into the file, two hundred megabytes at worst.
const START: Duration = Duration::from_secs(5);

/// How often to look whether the lock is free. SQLite's own handler soon sleeps for 100 ms at a time, and never gets its turn
/// when another process writes batch after batch.
const BUSY_NAP: Duration = Duration::from_millis(1);

/// How many statements stay prepared: more than there are.
const STATEMENTS: usize = 64;

/// To how many bytes the log is cut back when it begins anew. Below that it is written over, which is faster than to have it
/// grow again.
const LOG: u32 = 128 << 20;

/// A file, and the connection to it while all is well.
pub(super) struct Database {
    path: PathBuf,
    schema: Arc<Schema>,
    synchronous: Synchronous,
    access: Access,
    connection: Option<(Connection, FileId)>,
}

impl Database {
    /// Opens the file for writing, having created it and its tables if need be.
    pub(super) fn open(path: &Path, schema: Schema, synchronous: Synchronous) -> Result<Self, SqliteError> {
        check_library(rusqlite::version_number())?;
        // A process that changes its folder later must not open another file then.
        let path = std::path::absolute(path).map_err(|error| SqliteError::because(SqliteErrorKind::File, error))?;
        let schema = Arc::new(schema);
        let mut database = Self { path, schema, synchronous, access: Access::Write, connection: None };
        repeat_while_busy(START, || database.connection().map(|_| ()))?;
        Ok(database)
    }

    /// The same file for reading, not opened yet.
    pub(super) fn for_reading(&self) -> Self {
        Self {
            path: self.path.clone(),
            schema: Arc::clone(&self.schema),
            synchronous: self.synchronous,
            access: Access::Read,
            connection: None,
        }
    }

    /// The connection, opened anew if it was closed, and what to say to it.
    pub(super) fn connection(&mut self) -> Result<(&mut Connection, &Schema), SqliteError> {
        let open = match self.connection.take() {
            Some(open) => open,
            None => self.connect()?,
        };
        let (connection, _) = self.connection.insert(open);
        Ok((connection, &self.schema))
    }

    /// The connection, unless it was closed.
    pub(super) fn open_connection(&self) -> Option<&Connection> {
        self.connection.as_ref().map(|(connection, _)| connection)
    }

    fn connect(&self) -> Result<(Connection, FileId), SqliteError> {
        let file = |error: io::Error| SqliteError::because(SqliteErrorKind::File, error);
        create(&self.path).map_err(file)?;
        let id = FileId::of(&self.path).map_err(file)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        // SQLite opens what it may not write for reading alone, and says nothing.
        if connection.is_readonly("main")? {
            return Err(SqliteError::because(SqliteErrorKind::File, "it is read-only"));
        }
        connection.busy_handler(Some(nap))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        tune(&connection)?;
        settle(&connection, self.synchronous)?;
        self.schema.create_tables(&mut connection)?;
        if self.access == Access::Read {
            connection.execute_batch("PRAGMA query_only = ON")?;
        }
        Ok((connection, id))
    }

    /// Closes the connection after an error that a new one may not have.
    ///
    /// SQLite then deletes the write-ahead log by its name, but not if the file has been moved: the log of that name would be
    /// another file's.
    pub(super) fn close(&mut self) {
        self.connection = None;
    }

    /// That what was committed lies in the file that the next process will open.
    pub(super) fn check_still_there(&self) -> Result<(), SqliteError> {
        let Some((_, id)) = &self.connection else { return Ok(()) };
        match FileId::of(&self.path) {
            Ok(now) if now == *id => Ok(()),
            Ok(_) => Err(SqliteError::because(SqliteErrorKind::File, "it was replaced while it was open")),
            Err(error) => Err(SqliteError::because(SqliteErrorKind::File, error)),
        }
    }
}

/// Before 3.51.3, a write at the moment of another connection's checkpoint could corrupt the file: "The WAL-reset bug" in
/// SQLite's page on write-ahead logging.
fn check_library(version: i32) -> Result<(), SqliteError> {
    if version >= 3_051_003 {
        return Ok(());
    }
    Err(SqliteError::because(
        SqliteErrorKind::Library,
        format!("it is {}; 3.51.3 or later is needed, which rusqlite bundles since 0.39", rusqlite::version()),
    ))
}

/// Creates the file for its owner alone, if there is none, and leaves one that is empty to its owner alone. SQLite gives the files
/// beside it the same permissions.
fn create(path: &Path) -> io::Result<()> {
    // Closing a file lets go of all locks that this process has on it, so no other store may open it before it is closed here.
    static CREATING: Mutex<()> = Mutex::new(());
    let _creating = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => narrow_if_empty(path),
        created => created.map(drop),
    }
}

/// An empty file is what `touch` leaves, for everybody to read. One with content may be shared on purpose.
#[cfg(unix)]
fn narrow_if_empty(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let file = fs::metadata(path)?;
    let mode = file.permissions().mode();
    // A device has no length either.
    if !file.is_file() || file.len() > 0 || mode & 0o077 == 0 {
        return Ok(());
    }
    match fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o600)) {
        // Somebody else's.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        narrowed => narrowed,
    }
}

#[cfg(not(unix))]
fn narrow_if_empty(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Sets what only speed and room depend on.
fn tune(connection: &Connection) -> rusqlite::Result<()> {
    // Otherwise statements with a parameter for their limit are prepared anew for each value.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // What is committed is copied into the file by `Checkpoints`, and not now and then by whoever commits.
    connection.execute_batch(&format!("PRAGMA journal_size_limit = {LOG}; PRAGMA wal_autocheckpoint = 0"))
}

/// Sets what durability depends on, and reads it back: SQLite ignores what it does not know or cannot do.
fn settle(connection: &Connection, synchronous: Synchronous) -> Result<(), SqliteError> {
    let level = synchronous as i64;
    // On macOS, an fsync alone leaves what was written in the disk's own memory, which a power cut empties.
    let settings = format!(
        "PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;
        PRAGMA journal_mode = WAL; PRAGMA synchronous = {level}"
    );
    // Two that open a new file at once can lock each other out; SQLite does not call its busy handler then.
    repeat_while_busy(BUSY_FOR, || connection.execute_batch(&settings).map_err(SqliteError::from))?;
    read_back(connection, "fullfsync", |on: bool| on)?;
    read_back(connection, "checkpoint_fullfsync", |on: bool| on)?;
    read_back(connection, "journal_mode", |mode: String| mode == "wal")?;
    read_back(connection, "synchronous", |found: i64| found == level)
}

/// Tries again while another connection has the lock, for so long at most.
fn repeat_while_busy(limit: Duration, mut attempt: impl FnMut() -> Result<(), SqliteError>) -> Result<(), SqliteError> {
    let started = Instant::now();
    while let Err(error) = attempt() {
        if error.kind() != SqliteErrorKind::Busy || started.elapsed() > limit {
            return Err(error);
        }
        thread::sleep(BUSY_NAP);
    }
    Ok(())
}

/// When a commit waits for the disk, by SQLite's own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Synchronous {
    /// When the log is written to the file. A power cut loses what was committed since.
    #[cfg(any(feature = "testing", test))]
    Normal = 1,
    /// Always.
    Full = 2,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    Read,
}

fn read_back<T: rusqlite::types::FromSql + std::fmt::Debug + Clone>(
    connection: &Connection,
    setting: &str,
    right: impl FnOnce(T) -> bool,
) -> Result<(), SqliteError> {
    let value: T = connection.pragma_query_value(None, setting, |row| row.get(0))?;
    if right(value.clone()) {
        return Ok(());
    }
    Err(SqliteError::because(SqliteErrorKind::Settings, format!("{setting} is {value:?}")))
}

/// What SQLite calls, on the thread of the connection, while another has the lock.
fn nap(calls_before: i32) -> bool {
    thread_local! {
        static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    if calls_before == 0 {
        SINCE.set(Some(now));
    }
    if SINCE.get().is_some_and(|since| now - since >= BUSY_FOR) {
        return false;
    }
    thread::sleep(BUSY_NAP);
    true
}

/// Tells a file from another under the same name.
#[derive(PartialEq, Eq)]
struct FileId {
    #[cfg(unix)]
    id: (u64, u64),
}

impl FileId {
    #[cfg(unix)]
    fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).map(|file| Self { id: (file.dev(), file.ino()) })
    }

    /// Elsewhere a file that is open cannot be deleted.
    #[cfg(not(unix))]
    fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|_| Self {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_with_the_fix_are_told_from_those_without() {
        for fixed in [3_051_003, 3_051_004, 3_053_002, 4_000_000] {
            assert!(check_library(fixed).is_ok(), "{fixed}");
        }
        for broken in [3_007_000, 3_044_006, 3_050_007, 3_051_000, 3_051_002] {
            let kind = check_library(broken).unwrap_err().kind();
            assert_eq!(kind, SqliteErrorKind::Library, "{broken}");
        }
    }

    #[test]
    fn a_file_is_as_durable_as_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("klikit.db");
        for synchronous in [Synchronous::Normal, Synchronous::Full] {
            let mut database = Database::open(&path, Schema::new("klikit_").unwrap(), synchronous).unwrap();
            for database in [&mut database.for_reading(), &mut database] {
                let (connection, _) = database.connection().unwrap();
                let level: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
                assert_eq!(level, synchronous as i64);
                for setting in ["fullfsync", "checkpoint_fullfsync"] {
                    assert!(
                        connection.pragma_query_value(None, setting, |row| row.get::<_, bool>(0)).unwrap(),
                        "{setting}"
                    );
                }
            }
        }
    }

    #[test]
    fn who_reads_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("klikit.db");
        let database = Database::open(&path, Schema::new("klikit_").unwrap(), Synchronous::Full).unwrap();
        let mut reading = database.for_reading();
        let (connection, _) = reading.connection().unwrap();
        assert!(connection.execute_batch("CREATE TABLE t (c)").is_err());
    }

    #[test]
    fn a_setting_that_was_not_taken_is_an_error() {
        // In memory, there is no write-ahead log.
        let connection = Connection::open_in_memory().unwrap();
        let error = settle(&connection, Synchronous::Full).unwrap_err();
        assert_eq!(error.kind(), SqliteErrorKind::Settings);
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "journal_mode is \"memory\"");

        connection.execute_batch("PRAGMA synchronous = NORMAL").unwrap();
        let error = read_back(&connection, "synchronous", |level: i64| level == 2).unwrap_err();
        assert_eq!(error.kind(), SqliteErrorKind::Settings);
    }
}

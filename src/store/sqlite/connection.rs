//! A connection: where its file is, its settings, and its tables.

use std::{
    cell::Cell,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{
    checkpoint::Log,
    error::{SqliteError, SqliteErrorKind},
    files::{FileId, Files, Lost},
    schema::Schema,
    slots::{Closing, Open, Slot, close_all},
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
    slot: Arc<Slot>,
}

/// An open connection, while its thread works with it.
pub(super) struct Session<'a> {
    open: MutexGuard<'a, Option<Open>>,
    schema: &'a Schema,
}

impl Database {
    /// Opens the file for writing, having created it and its tables if need be.
    pub(super) fn open(path: &Path, schema: Schema, synchronous: Synchronous) -> Result<Self, SqliteError> {
        check_library(rusqlite::version_number())?;
        // A process that changes its folder later must not open another file then.
        let path = std::path::absolute(path).map_err(|error| SqliteError::because(SqliteErrorKind::File, error))?;
        let database = Self { path, schema: Arc::new(schema), synchronous, access: Access::Write, slot: Slot::new() };
        repeat_while_busy(START, || database.session().map(drop))?;
        Ok(database)
    }

    /// The same file for reading, not opened yet.
    pub(super) fn for_reading(&self) -> Self {
        Self {
            path: self.path.clone(),
            schema: Arc::clone(&self.schema),
            synchronous: self.synchronous,
            access: Access::Read,
            slot: Slot::new(),
        }
    }

    /// Returns the connection, opened anew if it was closed.
    pub(super) fn session(&self) -> Result<Session<'_>, SqliteError> {
        let mut open = self.slot.open();
        if open.is_none() {
            *open = Some(self.connect()?);
        }
        Ok(Session { open, schema: &self.schema })
    }

    /// Returns the connection, unless it was closed.
    pub(super) fn open_session(&self) -> Option<Session<'_>> {
        let open = self.slot.open();
        open.is_some().then_some(Session { open, schema: &self.schema })
    }

    /// Closes the connection after an error that a new one may not have.
    ///
    /// SQLite then deletes the write-ahead log by its name, but not if the file has been moved: the log of that name would be
    /// another file's.
    pub(super) fn close(&self) {
        *self.slot.open() = None;
    }

    /// Checks that the files are still those that were opened.
    pub(super) fn check(&self) -> Result<(), SqliteError> {
        let checked = self.open_session().map_or(Ok(()), |mut session| session.check());
        checked.map_err(|lost| self.recover(lost))
    }

    /// Closes what would write where nobody finds it, having saved what was committed there. Returns the error.
    pub(super) fn recover(&self, lost: Lost) -> SqliteError {
        let closing = match &lost {
            Lost::File(_) => None,
            Lost::Log(_) => Some(Closing::Copy),
            Lost::LogEnd(_) => Some(Closing::Leave),
        };
        let id = self.open_session().map(|session| {
            if closing == Some(Closing::Copy) {
                session.save_log();
            }
            session.id()
        });
        match (id, closing) {
            (Some(id), Some(closing)) => close_all(id, closing),
            _ => self.close(),
        }
        lost.into_error()
    }

    fn connect(&self) -> Result<Open, SqliteError> {
        let file = |error: io::Error| SqliteError::because(SqliteErrorKind::File, error);
        create(&self.path).map_err(file)?;
        let id = FileId::of(&self.path).map_err(file)?;
        if !self.slot.enter(id) {
            let closing = "its connections are being closed, because the log beside it was lost";
            return Err(SqliteError::because(SqliteErrorKind::Busy, closing));
        }
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
        let files = Files::of(&self.path, id).map_err(file)?;
        Ok(Open { connection, files })
    }
}

impl<'a> Session<'a> {
    /// The connection, and what to say to it.
    pub(super) fn parts(&mut self) -> (&mut Connection, &'a Schema) {
        let schema = self.schema;
        (&mut self.get_mut().connection, schema)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.get().connection
    }

    /// Checks that what was committed lies in the files that the next process will open. There must be no open transaction.
    pub(super) fn check(&mut self) -> Result<(), Lost> {
        let Open { connection, files } = self.get_mut();
        files.check(connection)
    }

    fn id(&self) -> FileId {
        self.get().files.id()
    }

    /// Copies into the file what was committed in a log that has lost its name, if nobody can have begun another one.
    fn save_log(&self) {
        if self.get().files.has_log_alone() {
            // If this fails, the last connection that is closed may still do it.
            let _ = Log::after(self.connection(), "PASSIVE");
        }
    }

    fn get(&self) -> &Open {
        self.open.as_ref().expect("a session is open")
    }

    fn get_mut(&mut self) -> &mut Open {
        self.open.as_mut().expect("a session is open")
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
            let database = Database::open(&path, Schema::new("klikit_").unwrap(), synchronous).unwrap();
            for database in [&database.for_reading(), &database] {
                let session = database.session().unwrap();
                let connection = session.connection();
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
        let reading = database.for_reading();
        assert!(reading.session().unwrap().connection().execute_batch("CREATE TABLE t (c)").is_err());
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

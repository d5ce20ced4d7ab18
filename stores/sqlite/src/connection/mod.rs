//! Connections to the database file: opening, settings, migration, and recovery from lost files.

mod probe;
pub(super) mod settings;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use self::settings::{check_library, repeat_while_busy};
use super::{
    error::{SqliteError, SqliteErrorKind},
    files::{FileId, Files, Lost},
    schema::{Migration, Schema},
    slots::{CloseMode, OpenConnection, Slot, close_all},
    statements::Statements,
    wal::{CheckpointMode, Log},
};

/// How long opening a store waits for another connection's lock. Another process that ends meanwhile copies its log
/// into the file, which has at most 200 MB.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The flags of every connection. SQLite must not create a missing file.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// A database file, with one connection that is opened when it is needed.
pub(super) struct Database {
    path: PathBuf,
    schema: Arc<Schema>,
    statements: Arc<Statements>,
    access: Access,
    missing: Missing,
    slot: Arc<Slot>,
}

/// An open connection, locked while its thread works with it.
pub(super) struct Session<'a> {
    open: MutexGuard<'a, Option<OpenConnection>>,
    statements: &'a Statements,
}

impl Database {
    /// Opens the file for writing, and creates or migrates its tables.
    pub(super) fn open(given: &Path, schema: Schema, missing: Missing) -> Result<Self, SqliteError> {
        check_library(rusqlite::version_number())?;
        let path = absolute(given)?;
        match missing {
            Missing::Create => create(&path).map_err(|error| cannot_create(given, &path, error))?,
            Missing::Fail => find(&path).map_err(|error| not_found(given, &path, error))?,
        }
        let statements = Arc::new(Statements::new(schema.prefix()));
        let (schema, slot) = (Arc::new(schema), Slot::new());
        let database = Self { path, schema, statements, access: Access::Write, missing, slot };
        let opened = repeat_while_busy(OPEN_TIMEOUT, || database.schema.check(database.session()?.connection()));
        opened.map_err(|error| cannot_open(given, &database.path, error))?;
        Ok(database)
    }

    /// Returns the migrations that opening the file would apply. Changes nothing.
    pub(super) fn pending_migrations(given: &Path, schema: &Schema) -> Result<Vec<Migration>, SqliteError> {
        check_library(rusqlite::version_number())?;
        let path = absolute(given)?;
        fs::metadata(&path).map_err(|error| not_found(given, &path, error))?;
        let mut pending = Vec::new();
        let read = repeat_while_busy(OPEN_TIMEOUT, || {
            let connection = Connection::open_with_flags(&path, FLAGS)?;
            pending = schema.pending(&connection)?;
            Ok(())
        });
        read.map_err(|error| cannot_open(given, &path, error))?;
        Ok(pending)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the same file for reading. It is opened when it is first used.
    pub(super) fn for_reading(&self) -> Self {
        self.with_access(Access::Read)
    }

    /// Returns the database for checkpoints and backups. Its connection is opened when it is first used.
    pub(super) fn for_upkeep(&self) -> Self {
        self.with_access(Access::Write)
    }

    fn with_access(&self, access: Access) -> Self {
        let Self { path, schema, statements, missing, .. } = self;
        let (path, schema, statements) = (path.clone(), Arc::clone(schema), Arc::clone(statements));
        Self { path, schema, statements, access, missing: *missing, slot: Slot::new() }
    }

    /// Locks and returns the connection. Opens the connection if it is closed.
    pub(super) fn session(&self) -> Result<Session<'_>, SqliteError> {
        let mut open = self.slot.open();
        if open.is_none() {
            *open = Some(self.connect()?);
        }
        Ok(Session { open, statements: &self.statements })
    }

    /// Locks and returns the connection, or returns `None` if it is closed.
    pub(super) fn open_session(&self) -> Option<Session<'_>> {
        let open = self.slot.open();
        open.is_some().then_some(Session { open, statements: &self.statements })
    }

    /// Closes the connection. The next session opens a new one.
    ///
    /// Safe after the file was moved: SQLite deletes the log when the last connection is closed, but not if the file
    /// was moved, since the log under that name may belong to another file.
    pub(super) fn close(&self) {
        *self.slot.open() = None;
    }

    /// Checks that the files are still the ones that were opened, and [recovers](Self::recover) if they are not.
    pub(super) fn check(&self) -> Result<(), SqliteError> {
        let checked = self.open_session().map_or(Ok(()), |mut session| session.check());
        checked.map_err(|lost| self.recover(lost))
    }

    /// Closes the connections that would write into lost files. If the log was deleted or replaced, saves its commits
    /// first. Returns the error for the caller.
    pub(super) fn recover(&self, lost: Lost) -> SqliteError {
        let close_mode = match &lost {
            Lost::File(_) => None,
            Lost::Log(_) => Some(CloseMode::Checkpoint),
            Lost::LogEnd(_) => Some(CloseMode::NoCheckpoint),
        };
        let id = self.open_session().map(|session| {
            if close_mode == Some(CloseMode::Checkpoint) {
                session.save_log();
            }
            session.id()
        });
        match (id, close_mode) {
            (Some(id), Some(close_mode)) => close_all(id, close_mode),
            _ => self.close(),
        }
        lost.into_error()
    }

    /// Opens a connection. If the file was lost since the store was opened, creates it only with [`Missing::Create`].
    fn connect(&self) -> Result<OpenConnection, SqliteError> {
        let file = |error: io::Error| SqliteError::because(SqliteErrorKind::File, error);
        match self.missing {
            Missing::Create => create(&self.path).map_err(file)?,
            Missing::Fail => find(&self.path).map_err(|error| lost(&self.path, error))?,
        }
        let id = FileId::of(&self.path).map_err(file)?;
        if !self.slot.enter(id) {
            let reason = "its connections are being closed, because its write-ahead log was lost";
            return Err(SqliteError::because(SqliteErrorKind::Busy, reason));
        }
        let mut connection = Connection::open_with_flags(&self.path, FLAGS)?;
        // SQLite opens a read-only file without an error.
        if connection.is_readonly("main")? {
            return Err(SqliteError::because(SqliteErrorKind::File, "it is read-only"));
        }
        settings::apply(&mut connection)?;
        self.schema.migrate(&mut connection)?;
        if self.access == Access::Read {
            connection.execute_batch("PRAGMA query_only = ON")?;
        }
        let files = Files::of(&self.path, id).map_err(file)?;
        Ok(OpenConnection { connection, files })
    }
}

impl<'a> Session<'a> {
    /// Returns the connection and the statements for it.
    pub(super) fn parts(&mut self) -> (&mut Connection, &'a Statements) {
        let statements = self.statements;
        (&mut self.get_mut().connection, statements)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.get().connection
    }

    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.get_mut().connection
    }

    /// Returns the length of the log's file, in bytes.
    pub(super) fn log_length(&self) -> Result<u64, SqliteError> {
        let length = self.get().files.log_length();
        length.map_err(|error| SqliteError::because(SqliteErrorKind::File, error))
    }

    /// Checks that the open files are the files that the next process will open. There must be no open transaction.
    pub(super) fn check(&mut self) -> Result<(), Lost> {
        let OpenConnection { connection, files } = self.get_mut();
        files.check(connection)
    }

    fn id(&self) -> FileId {
        self.get().files.id()
    }

    /// Copies the commits of a deleted log into the file, unless a new log exists: its commits would be newer.
    fn save_log(&self) {
        if self.get().files.has_log_alone() {
            // If this checkpoint fails, SQLite may still run one when the last connection is closed.
            let _ = Log::checkpoint(self.connection(), CheckpointMode::Passive);
        }
    }

    fn get(&self) -> &OpenConnection {
        self.open.as_ref().expect("a session is open")
    }

    fn get_mut(&mut self) -> &mut OpenConnection {
        self.open.as_mut().expect("a session is open")
    }
}

/// The permitted use of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    Read,
}

/// How opening handles a missing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    Fail,
}

/// Makes a path absolute, so that the same file is opened after the process changes its working directory.
fn absolute(given: &Path) -> Result<PathBuf, SqliteError> {
    std::path::absolute(given).map_err(|error| {
        let message = format!("cannot open a file at the path {given:?}: {error}");
        SqliteError::because(SqliteErrorKind::File, error).and_message(message)
    })
}

/// Checks that the file exists, and makes an empty file private.
fn find(path: &Path) -> io::Result<()> {
    fs::metadata(path)?;
    narrow_if_empty(path)
}

fn not_found(given: &Path, path: &Path, error: io::Error) -> SqliteError {
    if error.kind() != io::ErrorKind::NotFound {
        return cannot_open(given, path, SqliteError::because(SqliteErrorKind::File, error));
    }
    let message = format!(
        "{} does not exist in the folder {}: correct the path, or call create() on the builder to create the file",
        given.display(),
        folder(path)
    );
    SqliteError::because(SqliteErrorKind::NotFound, error).and_message(message)
}

/// Returns the error for a file that was deleted or moved after the store was opened.
fn lost(path: &Path, error: io::Error) -> SqliteError {
    if error.kind() != io::ErrorKind::NotFound {
        return SqliteError::because(SqliteErrorKind::File, error);
    }
    let message = format!("{} does not exist any more: put it back, or open the store again", path.display());
    SqliteError::because(SqliteErrorKind::NotFound, error).and_message(message)
}

fn cannot_create(given: &Path, path: &Path, error: io::Error) -> SqliteError {
    let (given, folder) = (given.display(), folder(path));
    let cause = match error.kind() {
        io::ErrorKind::NotFound => format!("the folder {folder} does not exist"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("the folder {folder} is not writable")
        }
        _ => format!("in the folder {folder}"),
    };
    let message = format!("cannot create {given}: {cause}: {error}");
    SqliteError::because(SqliteErrorKind::File, error).and_message(message)
}

fn cannot_open(given: &Path, path: &Path, error: SqliteError) -> SqliteError {
    let reason = match error.kind() {
        SqliteErrorKind::Busy => "another process has the file locked, perhaps to migrate it".into(),
        _ => error.message_with_source(),
    };
    let mut message = format!("cannot open {} in the folder {}: {reason}", given.display(), folder(path));
    if probe::may_be_denied(&error)
        && let Some(cause) = probe::cause(path)
    {
        message += &format!(": {cause}");
    }
    error.and_message(message)
}

fn folder(path: &Path) -> std::path::Display<'_> {
    path.parent().unwrap_or(path).display()
}

/// Creates the file if it is missing, and makes a new or empty file private to its owner. SQLite gives the log and its
/// index the same permissions.
fn create(path: &Path) -> io::Result<()> {
    // Closing a file drops all locks that this process has on it. So no other store may open the new file before this
    // function has closed it.
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

/// Makes an empty file private, since tools such as `touch` create files that everybody can read. A file with content
/// may be shared on purpose.
#[cfg(unix)]
fn narrow_if_empty(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let file = fs::metadata(path)?;
    let mode = file.permissions().mode();
    // A device also has the length zero.
    if !file.is_file() || file.len() > 0 || mode & 0o077 == 0 {
        return Ok(());
    }
    match fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o600)) {
        // The file belongs to another user.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        narrowed => narrowed,
    }
}

#[cfg(not(unix))]
fn narrow_if_empty(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_have_durable_settings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("klikit.db");
        let database = Database::open(&path, Schema::new("klikit_").unwrap(), Missing::Create).unwrap();
        for database in [&database.for_reading(), &database] {
            let session = database.session().unwrap();
            for (setting, expected) in [("synchronous", 2), ("fullfsync", 1), ("checkpoint_fullfsync", 1)] {
                let found: i64 = session.connection().pragma_query_value(None, setting, |row| row.get(0)).unwrap();
                assert_eq!(found, expected, "{setting}");
            }
        }
    }

    #[test]
    fn reader_connection_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("klikit.db");
        let database = Database::open(&path, Schema::new("klikit_").unwrap(), Missing::Create).unwrap();
        let reading = database.for_reading();
        assert!(reading.session().unwrap().connection().execute_batch("CREATE TABLE t (c)").is_err());
    }
}

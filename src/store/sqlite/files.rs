//! The files of an open database: whether they are still those that were opened.
//!
//! Beside the file itself lie the write-ahead log, whose name ends in `-wal`, and its index, whose name ends in `-shm`. SQLite does not
//! notice when somebody deletes or replaces one of them: it goes on with the files that it has open, which nobody else finds any more, and
//! what it commits is lost when it closes them.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::{
    checkpoint::Log,
    error::{SqliteError, SqliteErrorKind},
};

/// What has become of the files.
#[derive(Debug)]
pub(super) enum Lost {
    /// The file itself was deleted, replaced or moved.
    File(SqliteError),
    /// The log or its index was deleted or replaced. What was committed can still be copied into the file by the connections that have
    /// both open.
    Log(SqliteError),
    /// The log was cut short. It must not be copied into the file.
    LogEnd(SqliteError),
}

impl Lost {
    pub(super) fn into_error(self) -> SqliteError {
        match self {
            Self::File(error) | Self::Log(error) | Self::LogEnd(error) => error,
        }
    }
}

/// The files of an open connection.
pub(super) struct Files {
    file: Seen,
    log: Seen,
    index: Seen,
    log_file: fs::File,
    /// How long the log was when it was last looked at.
    log_length: u64,
}

/// A file as it was when it was opened.
struct Seen {
    path: PathBuf,
    id: FileId,
}

impl Files {
    /// The files of a connection that has read from them, so that they all exist.
    pub(super) fn of(path: &Path, id: FileId) -> io::Result<Self> {
        // SQLite follows links, and has the other files beside what they lead to.
        let real = fs::canonicalize(path)?;
        let beside = |suffix: &str| {
            let mut name = real.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        // SQLite locks the other two. Of those, no second one may be closed while they are open.
        let log_file = fs::File::open(beside("-wal"))?;
        let log = Seen { path: beside("-wal"), id: FileId::from(&log_file.metadata()?) };
        let index = Seen { path: beside("-shm"), id: FileId::of(&beside("-shm"))? };
        Ok(Self { file: Seen { path: path.into(), id }, log, index, log_file, log_length: 0 })
    }

    /// The identity of the file itself.
    pub(super) fn id(&self) -> FileId {
        self.file.id
    }

    /// Whether the log has its name, or at least no other file has.
    pub(super) fn has_log_alone(&self) -> bool {
        match FileId::of(&self.log.path) {
            Ok(id) => id == self.log.id,
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }

    /// Checks that what was committed lies in the files that the next process will open. There must be no open transaction.
    pub(super) fn check(&mut self, connection: &Connection) -> Result<(), Lost> {
        self.file.check().map_err(Lost::File)?;
        let length = self.log.check().map_err(Lost::Log)?.len();
        self.index.check().map_err(Lost::Log)?;
        match self.is_cut_short(length, connection) {
            Ok(false) => {
                self.log_length = length;
                Ok(())
            }
            Ok(true) => Err(Lost::LogEnd(self.log.error(&"it was cut short while it was open"))),
            Err(error) => Err(Lost::LogEnd(error)),
        }
    }

    /// Returns whether the log lacks something of what is committed in it. SQLite itself cuts it back only when all of it is copied.
    fn is_cut_short(&self, length: u64, connection: &Connection) -> Result<bool, SqliteError> {
        if length < self.log_length && length < Log::after(connection, "NOOP")?.length() {
            return Ok(true);
        }
        Ok(length > 0 && !begins_as_a_log(&self.log_file).map_err(|error| self.log.error(&error))?)
    }
}

/// A log that is cut to nothing and then written to begins with a hole.
#[cfg(unix)]
fn begins_as_a_log(log: &fs::File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;

    let mut magic = [0; 4];
    match log.read_exact_at(&mut magic, 0) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| matches!(u32::from_be_bytes(magic), 0x377f_0682 | 0x377f_0683)),
    }
}

/// Elsewhere a file that is open cannot be cut short.
#[cfg(not(unix))]
fn begins_as_a_log(_: &fs::File) -> io::Result<bool> {
    Ok(true)
}

impl Seen {
    fn check(&self) -> Result<fs::Metadata, SqliteError> {
        match fs::metadata(&self.path) {
            Ok(now) if FileId::from(&now) == self.id => Ok(now),
            Ok(_) => Err(self.error(&"it was replaced while it was open")),
            Err(error) => Err(self.error(&error)),
        }
    }

    fn error(&self, what: &dyn std::fmt::Display) -> SqliteError {
        SqliteError::because(SqliteErrorKind::File, format!("{}: {what}", self.path.display()))
    }
}

/// Tells a file from another under the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    #[cfg(unix)]
    id: (u64, u64),
}

impl FileId {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|file| Self::from(&file))
    }
}

#[cfg(unix)]
impl From<&fs::Metadata> for FileId {
    fn from(file: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { id: (file.dev(), file.ino()) }
    }
}

/// Elsewhere a file that is open cannot be deleted.
#[cfg(not(unix))]
impl From<&fs::Metadata> for FileId {
    fn from(_: &fs::Metadata) -> Self {
        Self {}
    }
}

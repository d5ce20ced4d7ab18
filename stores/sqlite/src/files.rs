//! Checks that the files of an open database are still the files that were opened.
//!
//! Next to the database file are the write-ahead log, whose name ends in `-wal`, and the log's index, whose name ends
//! in `-shm`. SQLite does not notice if one of them is deleted or replaced. It continues with the files that it has
//! open, which no other process can find, and the commits in them are lost when they are closed.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rusqlite::Connection;

use super::{
    error::{SqliteError, SqliteErrorKind},
    wal::Log,
};

/// How often the check is repeated before the log counts as cut short, and the pause between.
const CHECKS: u32 = 8;
const CHECK_PAUSE: Duration = Duration::from_millis(1);

/// The way in which files were lost.
#[derive(Debug)]
pub(super) enum Lost {
    /// The file itself was deleted, replaced or moved.
    File(SqliteError),
    /// The log or its index was deleted or replaced. The connections that have both open can still copy the commits
    /// into the file.
    Log(SqliteError),
    /// The log was truncated. A checkpoint would damage the file.
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
    /// The length of the log at the last check, in bytes.
    log_length: u64,
}

/// The path and the identity of a file that was opened.
struct Seen {
    path: PathBuf,
    id: FileId,
}

impl Files {
    /// Returns the files of a connection. The connection must have read from the database, so that all files exist.
    pub(super) fn of(path: &Path, id: FileId) -> io::Result<Self> {
        // SQLite follows symbolic links, and puts the log and its index next to the target.
        let real = fs::canonicalize(path)?;
        let next_to_it = |suffix: &str| {
            let mut name = real.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        // Closing a second handle to a file drops the process's locks on it. SQLite locks the database file and the
        // index, but not the log.
        let log_file = fs::File::open(next_to_it("-wal"))?;
        let log = Seen { path: next_to_it("-wal"), id: FileId::from(&log_file.metadata()?) };
        let index = Seen { path: next_to_it("-shm"), id: FileId::of(&next_to_it("-shm"))? };
        Ok(Self { file: Seen { path: path.into(), id }, log, index, log_file, log_length: 0 })
    }

    /// Returns the identity of the file itself.
    pub(super) fn id(&self) -> FileId {
        self.file.id
    }

    /// Returns the length of the log's file, in bytes.
    pub(super) fn log_length(&self) -> io::Result<u64> {
        Ok(self.log_file.metadata()?.len())
    }

    /// Returns whether the log's name is free or still leads to the open log.
    pub(super) fn has_log_alone(&self) -> bool {
        match FileId::of(&self.log.path) {
            Ok(id) => id == self.log.id,
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }

    /// Checks that the open files are the files that the next process will open, and that the log is complete. There
    /// must be no open transaction.
    pub(super) fn check(&mut self, connection: &Connection) -> Result<(), Lost> {
        self.file.check().map_err(Lost::File)?;
        let length = self.log.check().map_err(Lost::Log)?.len();
        self.index.check().map_err(Lost::Log)?;
        match self.is_cut_short(length, connection) {
            Ok(false) => {
                self.log_length = length;
                Ok(())
            }
            Ok(true) => Err(Lost::LogEnd(self.log.error(&"it was truncated while it was open"))),
            Err(error) => Err(Lost::LogEnd(error)),
        }
    }

    /// Returns whether a part of the log is missing. SQLite itself truncates the log only after a complete checkpoint.
    ///
    /// While SQLite truncates and restarts the log, the log looks truncated for a moment, so this function looks
    /// several times.
    fn is_cut_short(&self, mut length: u64, connection: &Connection) -> Result<bool, SqliteError> {
        for _ in 0..CHECKS {
            if !self.looks_cut_short(length, connection)? {
                return Ok(false);
            }
            thread::sleep(CHECK_PAUSE);
            length = self.log_length().map_err(|error| self.log.error(&error))?;
        }
        Ok(true)
    }

    fn looks_cut_short(&self, length: u64, connection: &Connection) -> Result<bool, SqliteError> {
        if length < self.log_length && length < Log::read(connection)?.length() {
            return Ok(true);
        }
        Ok(length > 0 && !begins_as_a_log(&self.log_file).map_err(|error| self.log.error(&error))?)
    }
}

/// Returns whether the log begins with its header. A log that was emptied and then written to begins with a hole.
#[cfg(unix)]
fn begins_as_a_log(log: &fs::File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;

    let mut magic = [0; 4];
    match log.read_exact_at(&mut magic, 0) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| matches!(u32::from_be_bytes(magic), 0x377f_0682 | 0x377f_0683)),
    }
}

/// Returns `true`: outside Unix, an open file cannot be truncated.
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

    fn error(&self, problem: &dyn std::fmt::Display) -> SqliteError {
        SqliteError::because(SqliteErrorKind::File, format!("{}: {problem}", self.path.display()))
    }
}

/// The identity of a file, independent of its name.
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

/// Returns equal identities: outside Unix, an open file cannot be deleted or replaced.
#[cfg(not(unix))]
impl From<&fs::Metadata> for FileId {
    fn from(_: &fs::Metadata) -> Self {
        Self {}
    }
}

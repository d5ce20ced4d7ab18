use std::{error::Error, fmt, sync::Arc};

use rusqlite::ErrorCode;

use super::values::Fault;

/// An error of a [`SqliteStore`](super::SqliteStore).
///
/// It is the source of the errors that [`Ledger`](tower_klikit::dedupe::Ledger) and [`InboxStore`](tower_klikit::inbox::InboxStore) return. Its own
/// [source](Error::source) is what SQLite or the operating system said.
#[derive(Clone)]
pub struct SqliteError {
    /// Shared, since every call of a batch gets the error.
    inner: Arc<Inner>,
}

struct Inner {
    kind: SqliteErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The kind of a [`SqliteError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SqliteErrorKind {
    /// The prefix for table names is invalid.
    TablePrefix,
    /// SQLite itself is too old: it can corrupt a file that two connections have open.
    Library,
    /// The file, its log or the log's index cannot be created, opened or written, or was deleted, replaced or cut short while it was open.
    File,
    /// SQLite did not take a setting without which deliveries could be lost.
    Settings,
    /// The tables are of another version of this crate.
    Schema,
    /// Another connection kept the file locked for too long.
    Busy,
    /// The disk, or the file, is full.
    Full,
    /// The file is damaged.
    Damaged,
    /// A row holds something that this crate did not write.
    Unreadable,
    /// A statement failed.
    Statement,
    /// The store's thread has panicked.
    Stopped,
}

impl SqliteError {
    pub(super) fn new(kind: SqliteErrorKind) -> Self {
        Self { inner: Arc::new(Inner { kind, source: None }) }
    }

    pub(super) fn because(kind: SqliteErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { inner: Arc::new(Inner { kind, source: Some(source.into()) }) }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> SqliteErrorKind {
        self.inner.kind
    }
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        if let Some(fault) = Fault::of(&error) {
            return fault.into();
        }
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => SqliteErrorKind::Busy,
            Some(ErrorCode::DiskFull) => SqliteErrorKind::Full,
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::NotADatabase
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure,
            ) => SqliteErrorKind::File,
            _ => SqliteErrorKind::Statement,
        };
        Self::because(kind, error)
    }
}

impl fmt::Debug for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteError").field("kind", &self.inner.kind).field("source", &self.inner.source).finish()
    }
}

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.inner.kind {
            SqliteErrorKind::TablePrefix => {
                "the table prefix must be 1 to 32 ASCII letters, digits and underscores, and must not begin with a digit or \
                 with `sqlite_`"
            }
            SqliteErrorKind::Library => "this SQLite is too old: it can corrupt a file that two connections have open",
            SqliteErrorKind::File => "the store's file cannot be used",
            SqliteErrorKind::Settings => "SQLite did not take a setting without which deliveries could be lost",
            SqliteErrorKind::Schema => "the store's tables are of another version of this crate",
            SqliteErrorKind::Busy => "another connection keeps the store's file locked",
            SqliteErrorKind::Full => "the disk is full, or the store's file may not grow",
            SqliteErrorKind::Damaged => "the store's file is damaged: `PRAGMA integrity_check` shows where",
            SqliteErrorKind::Unreadable => "a row of the store cannot be read",
            SqliteErrorKind::Statement => "a statement failed",
            SqliteErrorKind::Stopped => "the store's thread has panicked",
        })
    }
}

impl Error for SqliteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

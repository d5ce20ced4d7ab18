use std::{error::Error, fmt, sync::Arc};

use rusqlite::ErrorCode;

/// What a [`SqliteStore`](super::SqliteStore) could not do.
///
/// Calls through [`Ledger`](crate::dedupe::Ledger) and [`InboxStore`](crate::inbox::InboxStore) have it as the source of their error. What SQLite or the operating system
/// said is the [source](Error::source) of this one.
#[derive(Clone)]
pub struct SqliteError {
    /// Shared, since every call of a batch is told.
    inner: Arc<Inner>,
}

struct Inner {
    kind: SqliteErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// Which kind of thing a [`SqliteError`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SqliteErrorKind {
    /// The prefix for table names is none.
    TablePrefix,
    /// SQLite itself is too old: it can corrupt a file that two connections have open.
    Library,
    /// The file cannot be created, opened or written, or was deleted or replaced while it was open.
    File,
    /// SQLite did not take a setting without which an answer could be lost.
    Settings,
    /// The file's tables are of a newer version of this crate.
    Schema,
    /// Another connection kept the file locked for too long.
    Busy,
    /// There is no room: the disk, or the file, is full.
    Full,
    /// A statement failed.
    Statement,
    /// The store's thread is gone: it panicked.
    Stopped,
}

impl SqliteError {
    pub(super) fn new(kind: SqliteErrorKind) -> Self {
        Self { inner: Arc::new(Inner { kind, source: None }) }
    }

    pub(super) fn because(kind: SqliteErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { inner: Arc::new(Inner { kind, source: Some(source.into()) }) }
    }

    /// What it is about.
    pub fn kind(&self) -> SqliteErrorKind {
        self.inner.kind
    }
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => SqliteErrorKind::Busy,
            Some(ErrorCode::DiskFull) => SqliteErrorKind::Full,
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::NotADatabase
                | ErrorCode::DatabaseCorrupt
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
                "a table prefix is 1 to 32 letters, digits and underscores of ASCII, and neither begins with a digit nor with \
                 `sqlite_`"
            }
            SqliteErrorKind::Library => "this SQLite is too old: it can corrupt a file that two connections have open",
            SqliteErrorKind::File => "the store's file cannot be used",
            SqliteErrorKind::Settings => "SQLite did not take a setting without which a delivery could be lost",
            SqliteErrorKind::Schema => "the store's tables are of a newer version",
            SqliteErrorKind::Busy => "another connection keeps the store's file locked",
            SqliteErrorKind::Full => "there is no room for the store's file to grow",
            SqliteErrorKind::Statement => "a statement failed",
            SqliteErrorKind::Stopped => "the store's thread is gone",
        })
    }
}

impl Error for SqliteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

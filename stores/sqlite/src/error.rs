//! The error of a SQLite store, and its kinds.

use std::{error::Error, fmt, sync::Arc};

use rusqlite::ErrorCode;
use tower_klikit::ErrorChain;

use crate::fault::Fault;

/// An error of a [`SqliteStore`](crate::SqliteStore).
///
/// It is the source of the errors that [`Ledger`](tower_klikit::dedupe::Ledger) and
/// [`InboxStore`](tower_klikit::inbox::InboxStore) return. Its own [source](Error::source) is the error of SQLite or of
/// the operating system. `Debug` writes the message and all sources on one line.
#[derive(Clone)]
pub struct SqliteError {
    /// Shared, since every call of a batch gets the error.
    inner: Arc<Inner>,
}

struct Inner {
    kind: SqliteErrorKind,
    /// Replaces the kind's message.
    message: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The kind of a [`SqliteError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SqliteErrorKind {
    /// The prefix for table names is invalid.
    TablePrefix,
    /// The SQLite library is too old: it can corrupt a file that two connections have open.
    Library,
    /// The file does not exist or was deleted, and the builder's option [create](crate::SqliteStoreBuilder::create) is
    /// not set.
    NotFound,
    /// The file, its write-ahead log or the log's index cannot be created, opened or written, or was deleted, replaced
    /// or truncated while it was open.
    File,
    /// SQLite did not apply a setting that durability depends on.
    Settings,
    /// The tables are from a release before schema version 1.
    OutdatedSchema,
    /// A later release has migrated the tables.
    NewerSchema,
    /// A migration failed and was rolled back.
    Migration,
    /// The schema version is right, but a table, column, trigger or view is missing.
    Tables,
    /// The store was opened as [ledger-only](crate::SqliteStoreBuilder::ledger_only), so it has no inbox.
    LedgerOnly,
    /// Another connection kept the file locked for too long.
    Busy,
    /// The disk is full, or the file has reached its maximum size.
    Full,
    /// A page of the file is damaged.
    Damaged,
    /// A row contains a value that this crate did not write.
    Unreadable,
    /// A statement failed for another reason.
    Statement,
    /// The operating system did not start one of the store's threads.
    Thread,
    /// The store was [closed](crate::SqliteStore::close), or one of its threads has panicked.
    Stopped,
}

impl SqliteError {
    pub(super) fn new(kind: SqliteErrorKind) -> Self {
        Self { inner: Arc::new(Inner { kind, message: None, source: None }) }
    }

    /// Returns an error with this message instead of its kind's message.
    pub(super) fn with_message(kind: SqliteErrorKind, message: String) -> Self {
        Self { inner: Arc::new(Inner { kind, message: Some(message), source: None }) }
    }

    pub(super) fn because(kind: SqliteErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { inner: Arc::new(Inner { kind, message: None, source: Some(source.into()) }) }
    }

    /// Replaces the message.
    pub(super) fn and_message(self, message: String) -> Self {
        let kind = self.kind();
        let source = match Arc::try_unwrap(self.inner) {
            Ok(inner) => inner.source,
            Err(inner) => Some(Self { inner }.into()),
        };
        Self { inner: Arc::new(Inner { kind, message: Some(message), source }) }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> SqliteErrorKind {
        self.inner.kind
    }

    /// Returns the message, followed by the source's message unless a custom message was set.
    pub(super) fn message_with_source(&self) -> String {
        match &self.inner.source {
            Some(source) if self.inner.message.is_none() => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

impl From<std::io::Error> for SqliteError {
    fn from(error: std::io::Error) -> Self {
        Self::because(SqliteErrorKind::File, error)
    }
}

impl From<Fault> for SqliteError {
    fn from(fault: Fault) -> Self {
        let kind = if fault.is_damage() { SqliteErrorKind::Damaged } else { SqliteErrorKind::Unreadable };
        Self::because(kind, fault)
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

/// Writes the message and its sources on one line, because a `main` that returns the error prints its `Debug`.
impl fmt::Debug for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&ErrorChain::new(self), f)
    }
}

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(message) = &self.inner.message {
            return f.write_str(message);
        }
        f.write_str(match self.inner.kind {
            SqliteErrorKind::TablePrefix => {
                "the table prefix must be 1 to 32 ASCII letters, digits and underscores, and must not begin with a \
                 digit or with `sqlite_`"
            }
            SqliteErrorKind::Library => {
                "SQLite is too old, and can corrupt a file that two connections have open: update libsqlite3-sys"
            }
            SqliteErrorKind::NotFound => "the store's file does not exist",
            SqliteErrorKind::File => "the store's file cannot be used",
            SqliteErrorKind::Settings => "SQLite did not apply a setting that durability depends on",
            SqliteErrorKind::OutdatedSchema => "the store's tables are from a release before schema version 1",
            SqliteErrorKind::NewerSchema => "a later release has migrated the store's tables",
            SqliteErrorKind::Migration => "the store's tables cannot be migrated",
            SqliteErrorKind::Tables => "a part of the store's schema is missing",
            SqliteErrorKind::LedgerOnly => {
                "this store was opened as ledger-only and has no inbox: open it without `ledger_only()`"
            }
            SqliteErrorKind::Busy => {
                "another connection keeps the store's file locked: close programs that have long transactions"
            }
            SqliteErrorKind::Full => {
                "the disk is full, or the store's file has reached its maximum size: free some space"
            }
            SqliteErrorKind::Damaged => "the store's file is damaged: run `PRAGMA integrity_check` to find the damage",
            SqliteErrorKind::Unreadable => "a row of the store cannot be read",
            SqliteErrorKind::Statement => "a statement failed",
            SqliteErrorKind::Thread => "the operating system did not start one of the store's threads",
            SqliteErrorKind::Stopped => "the store was closed, or one of its threads has panicked: open it again",
        })
    }
}

impl Error for SqliteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

//! The store, as services see it.

mod inbox;
mod ledger;

use std::fmt;

use super::{
    error::{SqliteError, SqliteErrorKind},
    reader::Reader,
    writer::Writer,
};

/// A ledger and an inbox in a file. The [crate's documentation](crate) describes its guarantees.
///
/// Clones share three threads, each with a connection. When the last clone is dropped, the threads finish the calls
/// that were made and close the file.
#[derive(Clone)]
pub struct SqliteStore {
    writer: Writer,
    reader: Reader,
    parts: Parts,
}

/// The parts that a store is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    All,
    LedgerOnly,
}

impl SqliteStore {
    pub(super) fn new(writer: Writer, reader: Reader, parts: Parts) -> Self {
        Self { writer, reader, parts }
    }

    fn check_inbox(&self) -> Result<(), SqliteError> {
        match self.parts {
            Parts::All => Ok(()),
            Parts::LedgerOnly => Err(SqliteError::new(SqliteErrorKind::LedgerOnly)),
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("parts", &self.parts).finish_non_exhaustive()
    }
}

//! Walks through the ledger's table in slices.

use super::{Shared, SqliteStore};
use crate::{
    connection::Access,
    error::{SqliteError, SqliteErrorKind},
    ledger::{SKIPPED, Slice, skip_damaged},
    transaction::Transaction,
    writer::Call,
};

/// The number of rows that a walk through the table examines in one transaction.
const SLICE: u32 = 1024;

/// A walk through the ledger's table in slices, each in its own transaction so that other calls run in between. It skips
/// damaged pages.
pub(super) struct Walk<'a> {
    store: &'a SqliteStore,
    access: Access,
    /// The key before the next slice, or `None` at the end of the table.
    next: Option<Vec<u8>>,
    /// The number of rows of the next slice.
    rows: u32,
    /// The error of a damaged page that was skipped.
    damaged: Option<SqliteError>,
}

impl<'a> Walk<'a> {
    /// Begins a walk through the keys after `after`.
    pub(super) fn new(store: &'a SqliteStore, access: Access, after: Vec<u8>) -> Self {
        Self { store, access, next: Some(after), rows: SLICE, damaged: None }
    }

    /// Runs a call for the next slice. Returns `None` at the end of the table.
    pub(super) async fn next<T, F>(&mut self, each: F) -> Result<Option<T>, SqliteError>
    where
        T: Send + 'static,
        F: Fn(&Transaction<'_>, &Slice) -> rusqlite::Result<T> + Clone + Send + 'static,
    {
        let Shared { writer, reader, .. } = &*self.store.shared;
        while let Some(after) = self.next.take() {
            let (each, from, rows) = (each.clone(), after.clone(), self.rows);
            let run = move |transaction: &Transaction<'_>| {
                let slice = transaction.ledger().slice(&from, rows)?;
                Ok((each(transaction, &slice)?, slice.next()))
            };
            let ran = match self.access {
                Access::Write => writer.call(Call::Other, run).await,
                Access::Read => reader.call(run).await,
            };
            match ran {
                Ok((found, rest)) => {
                    self.rows = SLICE.min(2 * rows);
                    self.next = rest;
                    return Ok(Some(found));
                }
                Err(error) if error.kind() != SqliteErrorKind::Damaged => return Err(error),
                // Get close to the damaged page: try again with fewer rows, down to one.
                Err(_) if rows > 1 => {
                    self.rows = (rows / 4).max(1);
                    self.next = Some(after);
                }
                Err(error) => {
                    self.damaged = Some(error);
                    self.next = skip_damaged(&after, SKIPPED);
                }
            }
        }
        Ok(None)
    }
}

impl SqliteStore {
    /// Walks through the ledger's table. `each` gets a slice and the total so far, and returns how many of the slice's
    /// rows to add to the total. The walk ends when the total reaches `limit`.
    pub(super) async fn walk<F>(&self, access: Access, limit: u64, each: F) -> Walked
    where
        F: Fn(&Transaction<'_>, &Slice, u64) -> rusqlite::Result<u64> + Clone + Send + 'static,
    {
        let mut walk = Walk::new(self, access, Vec::new());
        let mut total = 0;
        while total < limit {
            let each = each.clone();
            match walk.next(move |transaction, slice| each(transaction, slice, total)).await {
                Ok(Some(found)) => total += found,
                Ok(None) => break,
                Err(error) => return Walked { total, failed: Some(error) },
            }
        }
        Walked { total, failed: walk.damaged }
    }
}

/// The result of a walk through many rows.
#[derive(Default)]
pub(super) struct Walked {
    /// The number of rows that were counted or deleted.
    pub(super) total: u64,
    /// The error if the walk skipped rows or ended early.
    pub(super) failed: Option<SqliteError>,
}

impl Walked {
    /// Returns the total, or the error if the walk skipped rows or ended early.
    pub(super) fn complete(self) -> Result<u64, SqliteError> {
        self.failed.map_or(Ok(self.total), Err)
    }

    /// Returns the total of a walk that counts. Leaves out damaged and unreadable rows.
    pub(super) fn readable(self) -> Result<u64, SqliteError> {
        self.failed.filter(|error| !is_about_rows(error)).map_or(Ok(self.total), Err)
    }

    /// Adds another walk. Of two errors, keeps one that is not about rows, if there is one.
    pub(super) fn and(self, other: Self) -> Self {
        let failed = match (self.failed, other.failed) {
            (Some(first), Some(next)) if is_about_rows(&first) => Some(next),
            (first, next) => first.or(next),
        };
        Self { total: self.total + other.total, failed }
    }
}

impl From<SqliteError> for Walked {
    fn from(error: SqliteError) -> Self {
        Self { total: 0, failed: Some(error) }
    }
}

fn is_about_rows(error: &SqliteError) -> bool {
    matches!(error.kind(), SqliteErrorKind::Damaged | SqliteErrorKind::Unreadable)
}

//! The implementation of [`Ledger`].

use std::{ops::Range, time::Duration};

use tower_klikit::dedupe::{
    Claim, ClaimOutcome, ClaimTerms, EventKey, Ledger, LedgerEntry, LedgerSelection, StoreError,
};

use super::{Shared, SqliteStore};
use crate::{
    connection::Access,
    error::{SqliteError, SqliteErrorKind},
    ledger::{SKIPPED, Slice, skip_damaged},
    timestamp::whole,
    transaction::Transaction,
    writer::Call,
};

/// The number of rows that a walk through the table examines in one transaction.
const SLICE: u32 = 1024;

/// A walk through the ledger's table in slices, each in its own transaction so that other calls run in between. It skips
/// damaged pages.
struct Walk<'a> {
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
    fn new(store: &'a SqliteStore, access: Access, after: Vec<u8>) -> Self {
        Self { store, access, next: Some(after), rows: SLICE, damaged: None }
    }

    /// Runs a call for the next slice. Returns `None` at the end of the table.
    async fn next<T, F>(&mut self, each: F) -> Result<Option<T>, SqliteError>
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
    /// rows to add to the total. The walk ends when the total reaches `limit`. It returns an error at its end if it has
    /// skipped damaged pages.
    pub(super) async fn walk<F>(&self, access: Access, limit: u64, each: F) -> Result<u64, SqliteError>
    where
        F: Fn(&Transaction<'_>, &Slice, u64) -> rusqlite::Result<u64> + Clone + Send + 'static,
    {
        let mut walk = Walk::new(self, access, Vec::new());
        let mut total = 0;
        while total < limit {
            let each = each.clone();
            let found = walk.next(move |transaction, slice| each(transaction, slice, total)).await?;
            let Some(found) = found else { break };
            total += found;
        }
        walk.damaged.map_or(Ok(total), Err)
    }

    async fn list(&self, event: EventKey, after: Vec<u8>, limit: usize) -> Result<Vec<LedgerEntry>, SqliteError> {
        self.shared.reader.call(move |transaction| transaction.ledger().list(&event, &after, limit)).await
    }

    async fn list_claimed(
        &self,
        window: Range<i64>,
        after: Vec<u8>,
        limit: usize,
    ) -> Result<Vec<LedgerEntry>, SqliteError> {
        let mut walk = Walk::new(self, Access::Read, after);
        let mut entries = Vec::new();
        while entries.len() < limit {
            let (Range { start, end }, rest) = (window.clone(), limit - entries.len());
            let list = move |transaction: &Transaction<'_>, slice: &Slice| {
                transaction.ledger().list_claimed(slice, start, end, rest)
            };
            let Some(mut listed) = walk.next(list).await? else { break };
            entries.append(&mut listed);
        }
        Ok(entries)
    }

    async fn forget_claimed(&self, window: Range<i64>) -> Result<u64, SqliteError> {
        let each = move |transaction: &Transaction<'_>, slice: &Slice, _| {
            transaction.ledger().forget_claimed(slice, window.start, window.end)
        };
        self.walk(Access::Write, u64::MAX, each).await
    }
}

/// If the future of `claim` is dropped while the call is queued, the call does not run. All other calls run
/// nevertheless.
///
/// `purge`, and `entries` and `forget` of a window, read the whole table, 1024 rows per transaction, and other calls run
/// in between. If `purge` or `forget` fails, the deletions before the failure persist. `entries` of a window leaves out
/// the rows on damaged pages.
impl Ledger for SqliteStore {
    async fn claim(&self, claim: &Claim, terms: &ClaimTerms) -> Result<ClaimOutcome, StoreError> {
        let (claim, terms) = (claim.clone(), *terms);
        let run = move |transaction: &Transaction<'_>| transaction.ledger().claim(&claim, &terms);
        self.shared.writer.call(Call::Claim, run).await.map_err(StoreError::new)
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        let claim = claim.clone();
        let run = move |transaction: &Transaction<'_>| transaction.ledger().complete(&claim, retention);
        self.shared.writer.call(Call::Other, run).await.map_err(StoreError::new)
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let claim = claim.clone();
        let run = move |transaction: &Transaction<'_>| transaction.ledger().release(&claim);
        self.shared.writer.call(Call::Other, run).await.map_err(StoreError::new)
    }

    async fn renew(&self, claims: &[Claim], terms: &ClaimTerms) -> Result<Vec<bool>, StoreError> {
        let (claims, terms) = (claims.to_vec(), *terms);
        let run = move |transaction: &Transaction<'_>| transaction.ledger().renew(&claims, &terms);
        self.shared.writer.call(Call::Other, run).await.and_then(|renewed| renewed).map_err(StoreError::new)
    }

    async fn entries(
        &self,
        selection: &LedgerSelection,
        after: Option<EventKey>,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        let after = after.map_or_else(Vec::new, |after| after.as_bytes().to_vec());
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let listed = match selection {
            LedgerSelection::Event(event) => self.list(*event, after, limit).await,
            LedgerSelection::Claimed(window) if window.is_empty() => return Ok(Vec::new()),
            LedgerSelection::Claimed(window) => self.list_claimed(whole(window), after, limit).await,
        };
        listed.map_err(StoreError::new)
    }

    async fn forget(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        let forgotten = match selection {
            LedgerSelection::Event(event) => {
                let event = *event;
                let run = move |transaction: &Transaction<'_>| transaction.ledger().forget(&event);
                self.shared.writer.call(Call::Other, run).await
            }
            LedgerSelection::Claimed(window) if window.is_empty() => return Ok(0),
            LedgerSelection::Claimed(window) => self.forget_claimed(whole(window)).await,
        };
        forgotten.map_err(StoreError::new)
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        let each = move |transaction: &Transaction<'_>, slice: &Slice, gone: u64| {
            let rest = u64::from(limit).saturating_sub(gone);
            transaction.ledger().purge(slice, u32::try_from(rest).unwrap_or(limit))
        };
        self.walk(Access::Write, limit.into(), each).await.map_err(StoreError::new)
    }
}

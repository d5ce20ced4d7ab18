//! The implementation of [`Ledger`].

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use tower_klikit::dedupe::{Claim, ClaimOutcome, ClaimTerms, EventKey, Ledger, StoreError};

use super::SqliteStore;
use crate::{
    error::{SqliteError, SqliteErrorKind},
    ledger::{SKIPPED, Slice, skip_damaged},
    timestamp::whole,
    transaction::Transaction,
    writer::Call,
};

/// The number of rows that a walk through the table examines in one transaction.
const SLICE: u32 = 1024;

impl SqliteStore {
    /// Walks through the ledger's table in slices, each in its own transaction so that other calls run in between.
    /// `each` gets a slice and the total so far, and returns how many of the slice's rows to add to the total. The walk
    /// ends when the total reaches `limit`.
    ///
    /// The walk skips damaged pages, and returns an error at its end if there were any.
    pub(super) async fn walk<F>(&self, limit: u64, each: F) -> Result<u64, SqliteError>
    where
        F: Fn(&Transaction<'_>, &Slice, u64) -> rusqlite::Result<u64> + Clone + Send + 'static,
    {
        let (mut total, mut rows, mut damaged) = (0, SLICE, Ok(()));
        let mut next = Some(Vec::new());
        while let Some(after) = next.take_if(|_| total < limit) {
            let (each, from) = (each.clone(), after.clone());
            let run = move |transaction: &Transaction<'_>| {
                let slice = transaction.ledger().slice(&from, rows)?;
                Ok((each(transaction, &slice, total)?, slice.next()))
            };
            match self.shared.writer.call(Call::Other, run).await {
                Ok((found, rest)) => {
                    total += found;
                    rows = SLICE.min(2 * rows);
                    next = rest;
                }
                Err(error) if error.kind() != SqliteErrorKind::Damaged => return Err(error),
                // Get close to the damaged page: try again with fewer rows, down to one.
                Err(_) if rows > 1 => {
                    rows = (rows / 4).max(1);
                    next = Some(after);
                }
                Err(error) => {
                    damaged = Err(error);
                    next = skip_damaged(&after, SKIPPED);
                }
            }
        }
        damaged.map(|()| total)
    }
}

/// If the future of `claim` is dropped while the call is queued, the call does not run. All other calls run
/// nevertheless.
///
/// `forget_claimed` and `purge` read the whole table, 1024 rows per transaction, and other calls run in between. If
/// they fail, the deletions before the failure persist.
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

    async fn forget(&self, event: &EventKey) -> Result<u64, StoreError> {
        let event = *event;
        let run = move |transaction: &Transaction<'_>| transaction.ledger().forget(&event);
        self.shared.writer.call(Call::Other, run).await.map_err(StoreError::new)
    }

    async fn forget_claimed(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        if window.is_empty() {
            return Ok(0);
        }
        let Range { start: from, end: before } = whole(&window);
        let each = move |transaction: &Transaction<'_>, slice: &Slice, _| {
            transaction.ledger().forget_claimed(slice, from, before)
        };
        self.walk(u64::MAX, each).await.map_err(StoreError::new)
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        let each = move |transaction: &Transaction<'_>, slice: &Slice, gone: u64| {
            let rest = u64::from(limit).saturating_sub(gone);
            transaction.ledger().purge(slice, u32::try_from(rest).unwrap_or(limit))
        };
        self.walk(limit.into(), each).await.map_err(StoreError::new)
    }
}

//! [`Ledger`] for a file.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use super::{
    SqliteStore,
    entries::{Entries, Slice},
    error::SqliteError,
    timestamp::whole,
    transaction::Transaction,
    writer::Call,
};
use crate::dedupe::{Claim, ClaimOutcome, ClaimTerms, EventKey, Ledger, StoreError};

/// How many rows are looked at in one transaction, by what looks at all of them.
const SLICE: u32 = 1024;

impl SqliteStore {
    /// Goes through the table by slices, each in a transaction of its own, so that others are served in between. `each` gets
    /// what was found in those before it. Stops when `limit` were found.
    async fn walk<F>(&self, limit: u64, each: F) -> Result<u64, SqliteError>
    where
        F: Fn(&Entries<'_>, &Slice, u64) -> rusqlite::Result<u64> + Clone + Send + 'static,
    {
        let mut total = 0;
        let mut next = Some(Vec::new());
        while let Some(after) = next.take_if(|_| total < limit) {
            let each = each.clone();
            let run = move |transaction: &Transaction<'_>| {
                let ledger = transaction.ledger();
                let slice = ledger.slice(&after, SLICE)?;
                Ok((each(&ledger, &slice, total)?, slice.next()))
            };
            let (found, rest) = self.writer.call(Call::Other, run).await?;
            total += found;
            next = rest;
        }
        Ok(total)
    }
}

/// A caller that goes away while its claim waits in the queue leaves it undone; everything else is done all the same.
///
/// `forget_claimed` and `purge` look at the whole table, 1024 rows at a time, and others are served in between. If they fail,
/// what was gone through stays done.
impl Ledger for SqliteStore {
    async fn claim(&self, claim: &Claim, terms: &ClaimTerms) -> Result<ClaimOutcome, StoreError> {
        let (claim, terms) = (claim.clone(), *terms);
        let run = move |transaction: &Transaction<'_>| transaction.ledger().claim(&claim, &terms);
        self.writer.call(Call::Claim, run).await.map_err(StoreError::new)
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        let claim = claim.clone();
        let run = move |transaction: &Transaction<'_>| transaction.ledger().complete(&claim, retention);
        self.writer.call(Call::Other, run).await.map_err(StoreError::new)
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let claim = claim.clone();
        let run = move |transaction: &Transaction<'_>| transaction.ledger().release(&claim);
        self.writer.call(Call::Other, run).await.map_err(StoreError::new)
    }

    async fn renew(&self, claims: &[Claim], terms: &ClaimTerms) -> Result<Vec<bool>, StoreError> {
        let (claims, terms) = (claims.to_vec(), *terms);
        let run = move |transaction: &Transaction<'_>| {
            let ledger = transaction.ledger();
            claims.iter().map(|claim| ledger.renew(claim, &terms)).collect()
        };
        self.writer.call(Call::Other, run).await.map_err(StoreError::new)
    }

    async fn forget(&self, event: &EventKey) -> Result<u64, StoreError> {
        let event = *event;
        let run = move |transaction: &Transaction<'_>| transaction.ledger().forget(&event);
        self.writer.call(Call::Other, run).await.map_err(StoreError::new)
    }

    async fn forget_claimed(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        if window.is_empty() {
            return Ok(0);
        }
        let Range { start: from, end: before } = whole(&window);
        let each = move |entries: &Entries<'_>, slice: &Slice, _| entries.forget_claimed(slice, from, before);
        self.walk(u64::MAX, each).await.map_err(StoreError::new)
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        let each = move |entries: &Entries<'_>, slice: &Slice, gone: u64| {
            let rest = u64::from(limit).saturating_sub(gone);
            entries.purge(slice, u32::try_from(rest).unwrap_or(limit))
        };
        self.walk(limit.into(), each).await.map_err(StoreError::new)
    }
}

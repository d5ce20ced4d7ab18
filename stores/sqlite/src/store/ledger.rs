//! The implementation of [`Ledger`].

use std::{ops::Range, time::Duration};

use tower_klikit::dedupe::{
    Claim, ClaimOutcome, ClaimTerms, EventKey, Ledger, LedgerAdmin, LedgerEntry, LedgerSelection, StoreError,
};

use super::{
    SqliteStore,
    walk::{Walk, Walked},
};
use crate::{
    connection::Access, error::SqliteError, ledger::Slice, timestamp::whole, transaction::Transaction, writer::Call,
};

impl SqliteStore {
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

    async fn count_claimed(&self, window: Range<i64>) -> Walked {
        let each = move |transaction: &Transaction<'_>, slice: &Slice, _| {
            transaction.ledger().count_claimed(slice, window.start, window.end)
        };
        self.walk(Access::Read, u64::MAX, each).await
    }

    async fn forget_claimed(&self, window: Range<i64>) -> Walked {
        let each = move |transaction: &Transaction<'_>, slice: &Slice, _| {
            transaction.ledger().forget_claimed(slice, window.start, window.end)
        };
        self.walk(Access::Write, u64::MAX, each).await
    }
}

/// If the future of `claim` is dropped while the call is queued, the call does not run. All other calls run
/// nevertheless.
///
/// `purge`, and `forget` of a window, read the whole table, 1024 rows per transaction, and other calls run in between. If
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

    async fn forget(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        let forgotten = match selection {
            LedgerSelection::Event(event) => {
                let event = *event;
                let run = move |transaction: &Transaction<'_>| transaction.ledger().forget(&event);
                self.shared.writer.call(Call::Other, run).await
            }
            LedgerSelection::Claimed(window) if window.is_empty() => return Ok(0),
            LedgerSelection::Claimed(window) => self.forget_claimed(whole(window)).await.complete(),
        };
        forgotten.map_err(StoreError::new)
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        let each = move |transaction: &Transaction<'_>, slice: &Slice, gone: u64| {
            let rest = u64::from(limit).saturating_sub(gone);
            transaction.ledger().purge(slice, u32::try_from(rest).unwrap_or(limit))
        };
        self.walk(Access::Write, limit.into(), each).await.complete().map_err(StoreError::new)
    }
}

/// `entries` and `count` of a window read the whole table, 1024 rows per transaction, and other calls run in between. They
/// leave out the rows on damaged pages.
impl LedgerAdmin for SqliteStore {
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

    async fn count(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        let counted = match selection {
            LedgerSelection::Event(event) => {
                let event = *event;
                self.shared.reader.call(move |transaction| transaction.ledger().count(&event)).await
            }
            LedgerSelection::Claimed(window) if window.is_empty() => return Ok(0),
            LedgerSelection::Claimed(window) => self.count_claimed(whole(window)).await.readable(),
        };
        counted.map_err(StoreError::new)
    }
}

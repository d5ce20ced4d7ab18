//! The implementations of [`InboxStore`] and [`InboxAdmin`].

use std::{
    collections::HashSet,
    ops::Range,
    time::{Duration, SystemTime},
};

use tower_klikit::{
    dedupe::{LedgerSelection, StoreError},
    inbox::{
        Acceptance, ActivePause, Counts, DeliveryId, DeliveryState, Entry, Filter, InboxAdmin, InboxStore, Lease,
        LeaseBatch, LeaseRequest, LedgerRows, NewDelivery, Page, Pause, SettleOutcome, Settlement, ShowBody,
    },
};

use super::{SqliteStore, walk::Walked};
use crate::{
    connection::Access,
    inbox::{Cursor, Deliveries, FinishedPart, LeaseOutcome, LeaseTerms, SelectTerms},
    ledger::Slice,
    timestamp::whole,
    transaction::Transaction,
    writer::Call,
};

/// The number of finished deliveries that one transaction examines. They have bodies, so deleting them takes long.
const SLICE: u32 = 128;

/// The maximum number of selections after which another process has leased a selected delivery first.
const MISSES: usize = 4;

impl SqliteStore {
    async fn write<T, F>(&self, call: Call, mut run: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Deliveries<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.check_inbox().map_err(StoreError::new)?;
        self.shared.writer.call(call, move |transaction| run(&transaction.inbox())).await.map_err(StoreError::new)
    }

    async fn read<T, F>(&self, run: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Deliveries<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.check_inbox().map_err(StoreError::new)?;
        self.shared.reader.call(move |transaction| run(&transaction.inbox())).await.map_err(StoreError::new)
    }

    /// Selects deliveries on the reader's connection, and leases them on the writer's.
    async fn select_and_lease(&self, select: SelectTerms, lease: LeaseTerms) -> Result<LeaseOutcome, StoreError> {
        let selection = self.read(move |inbox| inbox.select(&select)).await?;
        if selection.has_changes() {
            return self.write(Call::Lease, move |inbox| inbox.lease(&selection, &lease)).await;
        }
        Ok(LeaseOutcome::unreadable(&selection))
    }

    /// Walks through the ledger, and then through the finished deliveries. Calls `claimed` and `accepted` for each part,
    /// with the window in whole milliseconds, and returns the sum of what they count.
    async fn walk_window(
        &self,
        access: Access,
        window: &Range<SystemTime>,
        claimed: fn(&Deliveries<'_>, &Slice, &Range<i64>) -> rusqlite::Result<u64>,
        accepted: fn(&Deliveries<'_>, Cursor, u32, &Range<i64>) -> rusqlite::Result<FinishedPart>,
    ) -> Walked {
        if let Err(error) = self.check_inbox() {
            return error.into();
        }
        if window.is_empty() {
            return Walked::default();
        }
        let window = whole(window);
        let in_ledger = {
            let window = window.clone();
            let each =
                move |transaction: &Transaction<'_>, slice: &Slice, _| claimed(&transaction.inbox(), slice, &window);
            self.walk(access, u64::MAX, each).await
        };
        let each = move |inbox: &Deliveries<'_>, from, rows| accepted(inbox, from, rows, &window);
        // Also after an error, so that a damaged page of the ledger keeps no delivery from being forgotten.
        let finished = self.walk_finished(access, Cursor::START, u64::MAX, each).await;
        in_ledger.and(finished)
    }

    /// Deletes up to `limit` finished deliveries: see [`walk_finished`](Self::walk_finished).
    async fn delete_finished<F>(&self, from: Cursor, limit: u64, delete: F) -> Result<u64, StoreError>
    where
        F: Fn(&Deliveries<'_>, Cursor, u32) -> rusqlite::Result<FinishedPart> + Clone + Send + 'static,
    {
        self.walk_finished(Access::Write, from, limit, delete).await.complete().map_err(StoreError::new)
    }

    /// Walks through the finished deliveries, some rows per transaction so that other calls run in between, until
    /// `limit` deliveries are deleted or counted. Skips deliveries that cannot be read or deleted.
    async fn walk_finished<F>(&self, access: Access, from: Cursor, limit: u64, each: F) -> Walked
    where
        F: Fn(&Deliveries<'_>, Cursor, u32) -> rusqlite::Result<FinishedPart> + Clone + Send + 'static,
    {
        if let Err(error) = self.check_inbox() {
            return error.into();
        }
        let (mut walked, mut next) = (Walked::default(), Some(from));
        while let Some(from) = next.take_if(|_| walked.total < limit) {
            let rows = SLICE.min(u32::try_from(limit - walked.total).unwrap_or(SLICE));
            let each = each.clone();
            let run = move |transaction: &Transaction<'_>| each(&transaction.inbox(), from, rows);
            let part = match access {
                Access::Write => self.shared.writer.call(Call::Other, run).await,
                Access::Read => self.shared.reader.call(run).await,
            };
            match part {
                Ok(part) => {
                    walked = walked.and(Walked { total: part.number, failed: part.failed });
                    next = part.next;
                }
                Err(error) => return walked.and(error.into()),
            }
        }
        walked
    }
}

/// If the future of `accept` or `lease` is dropped while the call is queued, the call does not run. All other calls run
/// nevertheless.
///
/// `purge_done`, `evict_done` and `purge_dead` delete some rows per transaction, and other calls run in between. If one
/// fails, the deletions before the failure persist.
impl InboxStore for SqliteStore {
    async fn accept(&self, delivery: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
        let new = delivery.clone();
        self.write(Call::Claim, move |inbox| inbox.accept(&new, retention)).await
    }

    async fn lease(&self, request: &LeaseRequest<'_>) -> Result<LeaseBatch, StoreError> {
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let free_handlers = usize::try_from(request.free_handlers).unwrap_or(usize::MAX);
        let (mut batch, mut skip, mut misses) = (LeaseBatch::default(), HashSet::new(), 0);
        loop {
            let terms = SelectTerms {
                limit: limit - batch.leased.len(),
                free_handlers: free_handlers.saturating_sub(batch.leased.len()),
                max_attempts: request.max_attempts,
                held: request.held.to_vec(),
                leased: batch.leased.iter().map(|leased| leased.lease().id().get()).collect(),
                skip: skip.clone(),
            };
            let lease_terms = LeaseTerms {
                duration: request.duration,
                max_attempts: request.max_attempts,
                worker: request.worker.to_owned(),
            };
            match self.select_and_lease(terms, lease_terms).await {
                Ok(LeaseOutcome { batch: mut taken, missed, unblocked }) => {
                    misses += usize::from(missed && !unblocked);
                    skip.extend(taken.unreadable.iter().map(|unreadable| unreadable.id.get()));
                    batch.leased.append(&mut taken.leased);
                    batch.dead_lettered.append(&mut taken.dead_lettered);
                    batch.unreadable.append(&mut taken.unreadable);
                    if !(missed || unblocked) || misses == MISSES || batch.leased.len() >= limit {
                        return Ok(batch);
                    }
                }
                Err(error) if batch.leased.is_empty() && batch.dead_lettered.is_empty() => return Err(error),
                // Report the deliveries that earlier rounds have leased or dead-lettered.
                Err(_) => return Ok(batch),
            }
        }
    }

    async fn start(&self, leases: &[Lease], worker: &str) -> Result<Vec<bool>, StoreError> {
        let (leases, worker) = (leases.to_vec(), worker.to_owned());
        self.write(Call::Other, move |inbox| inbox.start_all(&leases, &worker)).await?.map_err(StoreError::new)
    }

    async fn extend(&self, leases: &[Lease], duration: Duration) -> Result<Vec<bool>, StoreError> {
        let leases = leases.to_vec();
        let extend = move |inbox: &Deliveries<'_>| inbox.extend_all(&leases, duration);
        self.write(Call::Other, extend).await?.map_err(StoreError::new)
    }

    async fn settle(&self, settlements: &[(Lease, Settlement)]) -> Result<Vec<SettleOutcome>, StoreError> {
        let settlements = settlements.to_vec();
        let settle = move |inbox: &Deliveries<'_>| inbox.settle_all(&settlements);
        self.write(Call::Other, settle).await?.map_err(StoreError::new)
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.read(|inbox| inbox.counts()).await
    }

    async fn backlog(&self, limit: u64) -> Result<u64, StoreError> {
        self.read(move |inbox| inbox.backlog(limit)).await
    }

    async fn purge_done(&self, limit: u32) -> Result<u64, StoreError> {
        let purge = |inbox: &Deliveries<'_>, from, rows| inbox.purge(from, rows);
        self.delete_finished(Cursor::DONE, limit.into(), purge).await
    }

    async fn stored(&self, limit: u64) -> Result<u64, StoreError> {
        self.read(move |inbox| inbox.stored(limit)).await
    }

    async fn evict_done(&self, limit: u32) -> Result<u64, StoreError> {
        let evict = |inbox: &Deliveries<'_>, from, rows| inbox.evict(from, rows);
        self.delete_finished(Cursor::DONE, limit.into(), evict).await
    }

    async fn purge_dead(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        let purge = move |inbox: &Deliveries<'_>, from, rows| inbox.purge_dead(from, rows, age);
        self.delete_finished(Cursor::START, limit.into(), purge).await
    }
}

/// `count_keys` and `forget_keys` of a window read all ledger rows and finished deliveries, some rows per transaction, and
/// other calls run in between. If `forget_keys` fails, the deletions before the failure persist. `count_keys` of a
/// window leaves out damaged rows.
impl InboxAdmin for SqliteStore {
    async fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Result<Page, StoreError> {
        let filter = filter.clone();
        self.read(move |inbox| inbox.find(&filter, after, limit)).await
    }

    async fn show(&self, id: DeliveryId, body: ShowBody) -> Result<Option<Entry>, StoreError> {
        self.read(move |inbox| inbox.show(id, body)).await
    }

    async fn requeue(&self, ids: &[DeliveryId], states: &[DeliveryState]) -> Result<u64, StoreError> {
        let (ids, states) = (ids.to_vec(), states.to_vec());
        let run = move |inbox: &Deliveries<'_>| inbox.requeue_all(&ids, &states);
        self.write(Call::Other, run).await?.map(count).map_err(StoreError::new)
    }

    async fn dead_letter(&self, ids: &[DeliveryId], states: &[DeliveryState], reason: &str) -> Result<u64, StoreError> {
        let (ids, states, reason) = (ids.to_vec(), states.to_vec(), reason.to_owned());
        let run = move |inbox: &Deliveries<'_>| inbox.dead_letter_all(&ids, &states, &reason);
        self.write(Call::Other, run).await?.map(count).map_err(StoreError::new)
    }

    async fn delete(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
        ledger: LedgerRows,
    ) -> Result<u64, StoreError> {
        let (ids, states) = (ids.to_vec(), states.to_vec());
        let run = move |inbox: &Deliveries<'_>| inbox.delete_in(&ids, &states, ledger);
        self.write(Call::Other, run).await?.map(count).map_err(StoreError::new)
    }

    async fn count_keys(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        match selection {
            LedgerSelection::Event(event) => {
                let event = *event;
                self.read(move |inbox| inbox.count_event(&event)).await
            }
            LedgerSelection::Claimed(window) => {
                let count = self.walk_window(
                    Access::Read,
                    window,
                    |inbox, slice, window| inbox.count_claimed(slice, window),
                    |inbox, from, rows, window| inbox.count_accepted(from, rows, window),
                );
                count.await.readable().map_err(StoreError::new)
            }
        }
    }

    async fn forget_keys(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        match selection {
            LedgerSelection::Event(event) => {
                let event = *event;
                self.write(Call::Other, move |inbox| inbox.forget_event(&event)).await
            }
            LedgerSelection::Claimed(window) => {
                let forget = self.walk_window(
                    Access::Write,
                    window,
                    |inbox, slice, window| inbox.forget_claimed(slice, window),
                    |inbox, from, rows, window| inbox.forget_accepted(from, rows, window),
                );
                forget.await.complete().map_err(StoreError::new)
            }
        }
    }

    async fn pause(&self, pause: &Pause, operator: &str) -> Result<u64, StoreError> {
        let (pause, operator) = (pause.clone(), operator.to_owned());
        let run = move |inbox: &Deliveries<'_>| inbox.pause(&pause, &operator);
        self.write(Call::Other, run).await?.map(count).map_err(StoreError::new)
    }

    async fn resume(&self, pause: &Pause) -> Result<bool, StoreError> {
        let pause = pause.clone();
        self.write(Call::Other, move |inbox| inbox.resume(&pause)).await
    }

    async fn pauses(&self) -> Result<Vec<ActivePause>, StoreError> {
        self.read(|inbox| inbox.pauses()).await
    }
}

/// Returns the number of deliveries for which a call returned `true`.
fn count(done: Vec<bool>) -> u64 {
    done.into_iter().filter(|done| *done).count() as u64
}

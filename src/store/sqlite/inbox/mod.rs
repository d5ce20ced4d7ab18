//! [`InboxStore`] for a file.

mod deliveries;
mod forgetting;
mod leases;
mod lines;
mod looking;
mod picking;
mod sql;

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use self::leases::Taken;
pub(super) use self::{
    deliveries::Deliveries,
    sql::{Sql, VERSION},
};
use super::{SqliteStore, error::SqliteError, moment::whole, turn::Turn, writer::Call};
use crate::{
    dedupe::{EventKey, StoreError},
    inbox::{Acceptance, Counts, DeliveryId, Entry, InboxStore, Lease, Leased, NewDelivery},
};

/// How many entries of the ledger are looked at in one transaction, by what looks at all of them.
const LEDGER_SLICE: u32 = 1024;

/// How many deliveries are. They take longer to delete: they have bodies.
const SLICE: u32 = 128;

/// How often to pick anew what others were faster to take.
const MISSES: usize = 4;

impl SqliteStore {
    async fn write<T, F>(&self, call: Call, mut run: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Deliveries<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.writer.call(call, move |turn| run(&turn.inbox())).await.map_err(StoreError::new)
    }

    async fn read<T, F>(&self, run: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Deliveries<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.reader.call(move |turn| run(&turn.inbox())).await.map_err(StoreError::new)
    }

    async fn lease_or_bury(&self, limit: usize, time: Duration, max_attempts: u32) -> Result<Taken, StoreError> {
        let mut picked = self.read(move |inbox| inbox.pick(limit, max_attempts)).await?;
        if picked.is_empty() {
            return Ok(Taken::default());
        }
        self.write(Call::Lease, move |inbox| inbox.take(&mut picked, time, max_attempts)).await
    }

    async fn forget_window(&self, window: Range<i64>) -> Result<u64, SqliteError> {
        let mut total = 0;
        let mut next = Some(Vec::new());
        while let Some(after) = next {
            let window = window.clone();
            let run = move |turn: &Turn<'_>| {
                let slice = turn.ledger().slice(&after, LEDGER_SLICE)?;
                Ok((turn.inbox().forget_claimed(&slice, &window)?, slice.next()))
            };
            let (found, rest) = self.writer.call(Call::Other, run).await?;
            total += found;
            next = rest;
        }
        let mut next = Some(i64::MIN);
        while let Some(after) = next {
            let window = window.clone();
            let run = move |turn: &Turn<'_>| turn.inbox().forget_accepted(after, SLICE, &window);
            let (found, rest) = self.writer.call(Call::Other, run).await?;
            total += found;
            next = rest;
        }
        Ok(total)
    }
}

/// A caller that goes away while its delivery, or its lease, waits in the queue leaves it undone; everything else is done all the
/// same.
///
/// `forget_accepted` looks at everything there is, and `purge_done` at all that is over, some rows at a time, and others are
/// served in between. If they fail, what was gone through stays done.
impl InboxStore for SqliteStore {
    async fn accept(&self, delivery: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
        let new = delivery.clone();
        self.write(Call::Claim, move |inbox| inbox.accept(&new, retention)).await
    }

    async fn lease(&self, limit: u32, time: Duration, max_attempts: u32) -> Result<Vec<Leased>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut leased, mut misses) = (Vec::new(), 0);
        while leased.len() < limit && misses < MISSES {
            match self.lease_or_bury(limit - leased.len(), time, max_attempts).await {
                Ok(mut taken) => {
                    leased.append(&mut taken.leased);
                    if !taken.missed && !taken.buried {
                        break;
                    }
                    misses += usize::from(!taken.buried);
                }
                Err(error) if leased.is_empty() => return Err(error),
                // Those that were leased before are not to be lost.
                Err(_) => break,
            }
        }
        Ok(leased)
    }

    async fn extend(&self, lease: &Lease, time: Duration) -> Result<bool, StoreError> {
        let lease = *lease;
        self.write(Call::Other, move |inbox| inbox.extend(&lease, time)).await
    }

    async fn finish(&self, lease: &Lease, keep: Duration) -> Result<bool, StoreError> {
        let lease = *lease;
        self.write(Call::Other, move |inbox| inbox.finish(&lease, keep)).await
    }

    async fn postpone(&self, lease: &Lease, pause: Duration, reason: &str) -> Result<bool, StoreError> {
        let (lease, reason) = (*lease, reason.to_owned());
        self.write(Call::Other, move |inbox| inbox.postpone(&lease, pause, &reason)).await
    }

    async fn bury(&self, lease: &Lease, reason: &str) -> Result<bool, StoreError> {
        let (lease, reason) = (*lease, reason.to_owned());
        self.write(Call::Other, move |inbox| inbox.bury(&lease, &reason)).await
    }

    async fn give_back(&self, lease: &Lease) -> Result<bool, StoreError> {
        let lease = *lease;
        self.write(Call::Other, move |inbox| inbox.give_back(&lease)).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.read(|inbox| inbox.counts()).await
    }

    async fn backlog(&self, limit: u64) -> Result<u64, StoreError> {
        self.read(move |inbox| inbox.backlog(limit)).await
    }

    async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Entry>, StoreError> {
        self.read(move |inbox| inbox.dead(after, limit)).await
    }

    async fn show(&self, id: DeliveryId) -> Result<Option<Entry>, StoreError> {
        self.read(move |inbox| inbox.show(id)).await
    }

    async fn retry(&self, id: DeliveryId) -> Result<bool, StoreError> {
        self.write(Call::Other, move |inbox| inbox.retry(id)).await
    }

    async fn forget_event(&self, event: &EventKey) -> Result<u64, StoreError> {
        let event = *event;
        self.write(Call::Other, move |inbox| inbox.forget_event(&event)).await
    }

    async fn forget_accepted(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        if window.is_empty() {
            return Ok(0);
        }
        self.forget_window(whole(&window)).await.map_err(StoreError::new)
    }

    async fn purge_done(&self, limit: u32) -> Result<u64, StoreError> {
        let mut total = 0;
        while total < limit {
            let slice = SLICE.min(limit - total);
            let gone = self.write(Call::Other, move |inbox| inbox.purge(slice)).await?;
            total += u32::try_from(gone).unwrap_or(slice);
            if gone < slice.into() {
                break;
            }
        }
        Ok(total.into())
    }
}

//! The store's calls.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use tokio_postgres::Row;

use super::super::{
    connection::{Params, run_once_within, run_within},
    store::{PATIENCE, PostgresStore},
    values::{bytes, count, seconds, within_calendar},
};
use crate::{
    dedupe::{EventKey, StoreError},
    inbox::{Acceptance, Counts, DeliveryId, DeliveryState, Entry, InboxStore, Lease, Leased, NewDelivery},
};

impl InboxStore for PostgresStore {
    async fn accept(&self, delivery: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
        self.within(1, self.store(delivery, retention)).await
    }

    async fn lease(&self, limit: u32, time: Duration, max_attempts: u32) -> Result<Vec<Leased>, StoreError> {
        let mut leased = Vec::new();
        loop {
            let left = limit.saturating_sub(u32::try_from(leased.len()).unwrap_or(u32::MAX));
            if left == 0 {
                return Ok(leased);
            }
            match self.within(1, self.lease_or_bury(left, time, max_attempts)).await {
                Ok((more, buried)) => {
                    leased.extend(more);
                    if buried == 0 {
                        return Ok(leased);
                    }
                }
                // What is leased already is not to wait for the end of its lease.
                Err(_) if !leased.is_empty() => return Ok(leased),
                Err(error) => return Err(error),
            }
        }
    }

    async fn extend(&self, lease: &Lease, time: Duration) -> Result<bool, StoreError> {
        self.change_held(&self.shared.inbox.extend, lease, &[&seconds(time)]).await
    }

    async fn finish(&self, lease: &Lease, keep: Duration) -> Result<bool, StoreError> {
        if keep.is_zero() {
            self.change_held(&self.shared.inbox.finish, lease, &[]).await
        } else {
            self.change_held(&self.shared.inbox.keep, lease, &[&seconds(keep)]).await
        }
    }

    async fn postpone(&self, lease: &Lease, pause: Duration, reason: &str) -> Result<bool, StoreError> {
        self.change_held(&self.shared.inbox.postpone, lease, &[&seconds(pause), &storable(reason)]).await
    }

    async fn bury(&self, lease: &Lease, reason: &str) -> Result<bool, StoreError> {
        self.change_held(&self.shared.inbox.bury, lease, &[&storable(reason)]).await
    }

    async fn give_back(&self, lease: &Lease) -> Result<bool, StoreError> {
        self.change_held(&self.shared.inbox.give_back, lease, &[]).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let answer = self.run_long(&self.shared.inbox.counts, &[]).await?;
        let row = answer.rows.first().ok_or_else(|| StoreError::new("counts without a row"))?;
        let number = |column| u64::try_from(row.try_get::<_, i64>(column)?).map_err(BoxError::from);
        let counts = (|| {
            Ok(Counts {
                ready: number(0)?,
                leased: number(1)?,
                dead: number(2)?,
                done: number(3)?,
                oldest: row
                    .try_get::<_, Option<f64>>(4)?
                    .map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()),
            })
        })();
        counts.map_err(|error: BoxError| StoreError::new(error))
    }

    async fn backlog(&self, limit: u64) -> Result<u64, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        count(&self.run(&self.shared.inbox.backlog, &[&limit]).await?)
    }

    async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let after = after.map_or(i64::MIN, DeliveryId::get);
        let answer = self.run(&self.shared.inbox.dead, &[&after, &i64::from(limit)]).await?;
        answer.rows.iter().map(|row| entry(row).map_err(StoreError::new)).collect()
    }

    async fn show(&self, id: DeliveryId) -> Result<Option<Entry>, StoreError> {
        let answer = self.run(&self.shared.inbox.show, &[&id.get()]).await?;
        let Some(row) = answer.rows.first() else { return Ok(None) };
        let mut entry = entry(row).map_err(StoreError::new)?;
        entry.body = Some(row.try_get::<_, Vec<u8>>(6).map_err(StoreError::new)?.into());
        Ok(Some(entry))
    }

    async fn retry(&self, id: DeliveryId) -> Result<bool, StoreError> {
        let shared = &*self.shared;
        let params: Params<'_> = &[&id.get()];
        let retried = run_within(&shared.pool, &shared.inbox.begin_alone, &shared.inbox.retry, params);
        Ok(self.within(1, retried).await?.changed > 0)
    }

    async fn forget_event(&self, event: &EventKey) -> Result<u64, StoreError> {
        self.forget_those(&self.shared.inbox.forget_event, &[&bytes(event)]).await
    }

    async fn forget_accepted(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        let (start, end) = (within_calendar(window.start), within_calendar(window.end));
        self.forget_those(&self.shared.inbox.forget_accepted, &[&start, &end]).await
    }

    async fn purge_done(&self, limit: u32) -> Result<u64, StoreError> {
        count(&self.run_long(&self.shared.inbox.purge_done, &[&i64::from(limit)]).await?)
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl PostgresStore {
    /// What is leased, and how many were buried in place of it.
    async fn lease_or_bury(
        &self,
        limit: u32,
        time: Duration,
        max_attempts: u32,
    ) -> Result<(Vec<Leased>, u32), BoxError> {
        let shared = &*self.shared;
        let params: Params<'_> = &[&i64::from(limit), &seconds(time), &i64::from(max_attempts)];
        let answer = run_once_within(&shared.pool, &shared.inbox.begin_leasing, &shared.inbox.lease, params).await?;
        let (mut leased, mut buried) = (Vec::with_capacity(answer.rows.len()), 0);
        for row in &answer.rows {
            let Some(token) = row.try_get(1)? else {
                buried += 1;
                continue;
            };
            let attempt = u32::try_from(row.try_get::<_, i32>(2)?)?;
            let lease = Lease::new(DeliveryId::new(row.try_get(0)?), token, attempt);
            let taken = Leased::new(lease, row.try_get::<_, String>(3)?, row.try_get::<_, Vec<u8>>(4)?);
            leased.push(if row.try_get(5)? { taken.after_a_lease_that_ran_out() } else { taken });
        }
        Ok((leased, buried))
    }

    /// Runs a statement whose first parameters say which lease has to be held. Whether it was.
    async fn change_held(&self, sql: &str, lease: &Lease, params: Params<'_>) -> Result<bool, StoreError> {
        let (id, token) = (lease.id().get(), lease.token());
        let mut all: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = vec![&id, &token];
        all.extend(params);
        Ok(self.run(sql, &all).await?.changed > 0)
    }

    async fn forget_those(&self, sql: &str, params: Params<'_>) -> Result<u64, StoreError> {
        let shared = &*self.shared;
        count(&self.within(PATIENCE, run_within(&shared.pool, &shared.inbox.begin_long, sql, params)).await?)
    }
}

fn entry(row: &Row) -> Result<Entry, BoxError> {
    let code: i16 = row.try_get(1)?;
    let state = DeliveryState::from_code(code).ok_or_else(|| format!("{code} is no state of a delivery"))?;
    let head: &str = row.try_get(3)?;
    let mut entry = Entry::new(DeliveryId::new(row.try_get(0)?), state, row.try_get(2)?, head);
    entry.attempts = u32::try_from(row.try_get::<_, i32>(4)?)?;
    entry.reason = row.try_get(5)?;
    Ok(entry)
}

/// Postgres has no text with a zero byte in it.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

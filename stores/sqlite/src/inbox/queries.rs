//! Counting and showing deliveries.

use std::time::Duration;

use rusqlite::{OptionalExtension, Row, params};
use tower_klikit::inbox::{Counts, DeliveryId, Entry};

use super::{deliveries::Deliveries, state::state_of};
use crate::{timestamp::time, values::text};

/// How many dead deliveries are looked up at a time.
const PAGE: u32 = 256;

impl Deliveries<'_> {
    pub(crate) fn counts(&self) -> rusqlite::Result<Counts> {
        let mut counts = Counts::default();
        let now = self.timestamp.now();
        self.connection.prepare_cached(&self.sql.unfinished)?.query_row([], |row| {
            counts.ready = count(row, 0)?;
            counts.leased = count(row, 1)?;
            if counts.backlog() > 0 {
                let oldest = row.get_ref(2)?.as_i64().unwrap_or(now);
                // Never zero while something is pending.
                counts.oldest = Some(Duration::from_millis(now.saturating_sub(oldest).max(1).unsigned_abs()));
            }
            Ok(())
        })?;
        self.connection.prepare_cached(&self.sql.finished)?.query_row([], |row| {
            counts.dead = count(row, 0)?;
            counts.done = count(row, 1)?;
            Ok(())
        })?;
        Ok(counts)
    }

    pub(crate) fn backlog(&self, limit: u64) -> rusqlite::Result<u64> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connection.prepare_cached(&self.sql.backlog)?.query_row([limit], |row| count(row, 0))
    }

    pub(crate) fn stored(&self, limit: u64) -> rusqlite::Result<u64> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connection.prepare_cached(&self.sql.stored)?.query_row([limit], |row| count(row, 0))
    }

    /// Lists dead deliveries. One on a damaged page is left out.
    pub(crate) fn dead(&self, after: Option<DeliveryId>, limit: u32) -> rusqlite::Result<Vec<Entry>> {
        let mut after = after.map_or(i64::MIN, DeliveryId::get);
        let (mut entries, limit) = (Vec::new(), usize::try_from(limit).unwrap_or(usize::MAX));
        let mut dead = self.connection.prepare_cached(&self.sql.dead)?;
        while entries.len() < limit {
            let ids: Vec<i64> = dead.query_map(params![after, PAGE], |row| row.get(0))?.collect::<Result<_, _>>()?;
            for id in &ids {
                entries.extend(self.isolation.isolate(|| self.entry(*id))?.ok().flatten());
            }
            match ids.last() {
                Some(last) if ids.len() == PAGE as usize => after = *last,
                _ => break,
            }
        }
        entries.truncate(limit);
        Ok(entries)
    }

    pub(crate) fn show(&self, id: DeliveryId) -> rusqlite::Result<Option<Entry>> {
        let Some(mut entry) = self.entry(id.get())? else { return Ok(None) };
        entry.body = self.body(id.get())?.map(Into::into);
        Ok(Some(entry))
    }

    /// Reads a delivery without its body. What cannot be read of it is left out.
    fn entry(&self, id: i64) -> rusqlite::Result<Option<Entry>> {
        let head = self.head(id)?.unwrap_or_default();
        let mut state = self.connection.prepare_cached(&self.sql.show_state)?;
        let entry = state.query_row([id], |row| {
            let accepted_at = time(row.get_ref(2)?.as_i64().unwrap_or_default());
            let mut entry = Entry::new(DeliveryId::new(id), state_of(row.get_ref(0)?), accepted_at, &head);
            entry.attempts = row.get_ref(1)?.as_i64().ok().and_then(|n| n.try_into().ok()).unwrap_or_default();
            entry.reason = text(row.get_ref(3)?, "reason").ok().map(Into::into);
            Ok(entry)
        });
        entry.optional()
    }
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.unsigned_abs())
}

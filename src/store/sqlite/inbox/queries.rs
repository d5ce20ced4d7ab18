//! What an operator sees, and how much waits.

use std::time::Duration;

use rusqlite::{OptionalExtension, Row, params};

use super::deliveries::Deliveries;
use crate::{
    inbox::{Counts, DeliveryId, DeliveryState, Entry},
    store::sqlite::timestamp::time,
};

impl Deliveries<'_> {
    pub(super) fn counts(&self) -> rusqlite::Result<Counts> {
        let mut counts = Counts::default();
        let now = self.timestamp.now();
        self.connection.prepare_cached(&self.sql.unfinished)?.query_row([], |row| {
            counts.ready = count(row, 0)?;
            counts.leased = count(row, 1)?;
            // Never zero while something is pending.
            let oldest = row.get::<_, Option<i64>>(2)?.map(|oldest| now.saturating_sub(oldest).max(1));
            counts.oldest = oldest.map(|age| Duration::from_millis(age.unsigned_abs()));
            Ok(())
        })?;
        self.connection.prepare_cached(&self.sql.finished)?.query_row([], |row| {
            counts.dead = count(row, 0)?;
            counts.done = count(row, 1)?;
            Ok(())
        })?;
        Ok(counts)
    }

    pub(super) fn backlog(&self, limit: u64) -> rusqlite::Result<u64> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connection.prepare_cached(&self.sql.backlog)?.query_row([limit], |row| count(row, 0))
    }

    pub(super) fn dead(&self, after: Option<DeliveryId>, limit: u32) -> rusqlite::Result<Vec<Entry>> {
        let after = after.map_or(i64::MIN, DeliveryId::get);
        let mut dead = self.connection.prepare_cached(&self.sql.dead)?;
        dead.query_map(params![after, limit], entry)?.collect()
    }

    pub(super) fn show(&self, id: DeliveryId) -> rusqlite::Result<Option<Entry>> {
        let mut show = self.connection.prepare_cached(&self.sql.show)?;
        let shown = show.query_row([id.get()], |row| {
            let mut entry = entry(row)?;
            entry.body = Some(row.get::<_, Vec<u8>>(6)?.into());
            Ok(entry)
        });
        shown.optional()
    }
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.unsigned_abs())
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let code = row.get(1)?;
    let state = DeliveryState::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, code.into()))?;
    let head = row.get_ref(5)?.as_str()?;
    let mut entry = Entry::new(DeliveryId::new(row.get(0)?), state, time(row.get(3)?), head);
    entry.attempts = row.get(2)?;
    entry.reason = row.get(4)?;
    Ok(entry)
}

//! The calls that count, find and show deliveries.

use std::time::Duration;

use rusqlite::{OptionalExtension, Row, params};
use tower_klikit::{
    dedupe::BodyDigest,
    inbox::{Counts, DeliveryId, DeliveryState, Entry, Filter, Page},
};

use super::{deliveries::Deliveries, state::state_of};
use crate::{
    timestamp::time,
    values::{digest, text},
};

/// The number of deliveries that a call examines for one page. The limit is there because no delivery can be selected
/// to be leased meanwhile.
const EXAMINED: u32 = 1024;

impl Deliveries<'_> {
    pub(crate) fn counts(&self) -> rusqlite::Result<Counts> {
        let mut counts = Counts::default();
        let now = self.timestamp.now();
        self.connection.prepare_cached(&self.sql.admin.count_unfinished)?.query_row([], |row| {
            counts.ready = count(row, 0)?;
            counts.leased = count(row, 1)?;
            if counts.backlog() > 0 {
                let oldest = row.get_ref(2)?.as_i64().unwrap_or(now);
                // At least a millisecond: zero would mean that no delivery is pending.
                counts.oldest = Some(Duration::from_millis(now.saturating_sub(oldest).max(1).unsigned_abs()));
            }
            Ok(())
        })?;
        self.connection.prepare_cached(&self.sql.admin.count_finished)?.query_row([], |row| {
            counts.dead = count(row, 0)?;
            counts.done = count(row, 1)?;
            Ok(())
        })?;
        Ok(counts)
    }

    pub(crate) fn backlog(&self, limit: u64) -> rusqlite::Result<u64> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connection.prepare_cached(&self.sql.admin.count_backlog)?.query_row([limit], |row| count(row, 0))
    }

    pub(crate) fn stored(&self, limit: u64) -> rusqlite::Result<u64> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connection.prepare_cached(&self.sql.admin.count_stored)?.query_row([limit], |row| count(row, 0))
    }

    /// Lists the deliveries that match the filter. Leaves out deliveries on a damaged page.
    pub(crate) fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> rusqlite::Result<Page> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (ids, is_last) = self.ids_to_examine(filter, after.map_or(i64::MIN, DeliveryId::get))?;
        let mut page = Page { entries: Vec::new(), next: after };
        for id in ids {
            if page.entries.len() == limit {
                return Ok(page);
            }
            page.next = Some(DeliveryId::new(id));
            let entry = self.isolation.isolate(|| self.entry(id))?.ok().flatten();
            page.entries.extend(entry.filter(|entry| filter.matches(entry)));
        }
        if is_last {
            page.next = None;
        }
        Ok(page)
    }

    /// Returns the ids of the deliveries to examine next, in ascending order, and whether they are the last ones.
    fn ids_to_examine(&self, filter: &Filter, after: i64) -> rusqlite::Result<(Vec<i64>, bool)> {
        let only_dead = filter.states.as_deref() == Some(&[DeliveryState::Dead]);
        let list = if only_dead { &self.sql.admin.list_dead } else { &self.sql.admin.list_all };
        let mut list = self.connection.prepare_cached(list)?;
        let listed = self.isolation.isolate(|| {
            let ids = list.query_map(params![after, EXAMINED], |row| row.get(0))?;
            ids.collect::<rusqlite::Result<Vec<i64>>>()
        })?;
        if let Ok(ids) = listed {
            let is_last = ids.len() < EXAMINED as usize;
            return Ok((ids, is_last));
        }
        // Listing failed at a damaged page, so try each id. Some may not exist.
        let ids: Vec<i64> = (1..=EXAMINED.into()).map(|n| after.max(0).saturating_add(n)).collect();
        let last =
            self.connection.prepare_cached(&self.sql.admin.read_last_id)?.query_row([], |row| row.get(0)).optional()?;
        let is_last = ids.last() >= Some(&last.unwrap_or_default());
        Ok((ids, is_last))
    }

    pub(crate) fn show(&self, id: DeliveryId) -> rusqlite::Result<Option<Entry>> {
        let Some(mut entry) = self.entry(id.get())? else { return Ok(None) };
        entry.body = self.body(id.get())?.map(Into::into);
        Ok(Some(entry))
    }

    /// Reads the digest of a delivery's body. Returns `None` if it is missing or unreadable.
    fn digest(&self, id: i64) -> rusqlite::Result<Option<BodyDigest>> {
        let mut read = self.connection.prepare_cached(&self.sql.rows.read_digest)?;
        let read = self.isolation.isolate(|| read.query_row([id], |row| Ok(digest(row.get_ref(0)?)?)).optional())?;
        Ok(read.ok().flatten())
    }

    /// Reads a delivery without its body. Leaves out the parts that cannot be read.
    fn entry(&self, id: i64) -> rusqlite::Result<Option<Entry>> {
        let head = self.head(id)?.unwrap_or_default();
        let digest = self.digest(id)?;
        let mut read = self.connection.prepare_cached(&self.sql.admin.read_entry)?;
        let entry = read.query_row([id], |row| {
            let accepted_at = time(row.get_ref(2)?.as_i64().unwrap_or_default());
            let mut entry = Entry::new(DeliveryId::new(id), state_of(row.get_ref(0)?), accepted_at, &head);
            entry.attempts = row.get_ref(1)?.as_i64().ok().and_then(|n| n.try_into().ok()).unwrap_or_default();
            entry.reason = text(row.get_ref(3)?, "reason").ok().map(Into::into);
            entry.digest = digest;
            Ok(entry)
        });
        entry.optional()
    }
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.unsigned_abs())
}

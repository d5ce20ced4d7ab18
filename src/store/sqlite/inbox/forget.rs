//! What is deleted before its time, and what is deleted after it.

use std::{collections::HashSet, ops::Range};

use rusqlite::{ToSql, params};

use super::deliveries::Deliveries;
use crate::{dedupe::EventKey, store::sqlite::entries::Slice};

/// A delivery that is gone.
struct Gone {
    id: i64,
    key: Vec<u8>,
}

impl Deliveries<'_> {
    pub(super) fn forget_event(&self, event: &EventKey) -> rusqlite::Result<u64> {
        let gone = self.delete(&self.sql.forget_event, params![event.as_bytes()])?;
        let ledger = params![event.as_bytes(), self.timestamp.now()];
        let mut keys: HashSet<_> = gone.into_iter().map(|gone| gone.key).collect();
        keys.extend(self.delete_in_ledger(&self.sql.forget_event_in_ledger, ledger)?);
        Ok(keys.len() as u64)
    }

    /// Forgets the keys that were claimed in this time, among these rows of the ledger.
    pub(super) fn forget_claimed(&self, slice: &Slice, window: &Range<i64>) -> rusqlite::Result<u64> {
        let (after, last) = slice.bounds();
        let ledger = params![after, last, window.start, window.end, self.timestamp.now()];
        let keys = self.delete_in_ledger(&self.sql.forget_claimed, ledger)?;
        for key in &keys {
            self.delete_finished(key)?;
        }
        Ok(keys.len() as u64)
    }

    /// Deletes what is dead or done under this key.
    pub(super) fn delete_finished(&self, key: &[u8]) -> rusqlite::Result<()> {
        self.delete(&self.sql.forget_key, params![key]).map(drop)
    }

    /// Forgets the keys that were accepted in this time, among the next `rows` deliveries. After which id to go on.
    pub(super) fn forget_accepted(
        &self,
        after: i64,
        rows: u32,
        window: &Range<i64>,
    ) -> rusqlite::Result<(u64, Option<i64>)> {
        let mut slice = self.connection.prepare_cached(&self.sql.slice)?;
        let (last, found) =
            slice.query_row(params![after, rows], |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, u32>(1)?)))?;
        let Some(last) = last else { return Ok((0, None)) };
        let gone = self.delete(&self.sql.forget_accepted, params![after, last, window.start, window.end])?;
        let mut ledger = self.connection.prepare_cached(&self.sql.forget_key_in_ledger)?;
        for gone in &gone {
            ledger.execute([&gone.key])?;
        }
        Ok((gone.len() as u64, (found == rows).then_some(last)))
    }

    /// Deletes at most `limit` that are done and whose time is up.
    pub(super) fn purge(&self, limit: u32) -> rusqlite::Result<u64> {
        Ok(self.delete(&self.sql.purge, params![self.timestamp.now(), limit])?.len() as u64)
    }

    /// Runs what deletes states that are not in line, and deletes what belongs to them.
    fn delete(&self, sql: &str, parameters: &[&dyn ToSql]) -> rusqlite::Result<Vec<Gone>> {
        let mut delete = self.connection.prepare_cached(sql)?;
        let gone = delete.query_map(parameters, |row| Ok(Gone { id: row.get(0)?, key: row.get(1)? }))?;
        let gone: Vec<_> = gone.collect::<Result<_, _>>()?;
        gone.iter().try_for_each(|gone| self.delete_delivery(gone.id))?;
        Ok(gone)
    }

    /// Runs what deletes entries of the ledger. The keys of those that were not over.
    fn delete_in_ledger(&self, sql: &str, parameters: &[&dyn ToSql]) -> rusqlite::Result<Vec<Vec<u8>>> {
        let mut delete = self.connection.prepare_cached(sql)?;
        let keys = delete.query_map(parameters, |row| Ok(row.get::<_, bool>(1)?.then_some(row.get(0)?)))?;
        keys.filter_map(Result::transpose).collect()
    }
}

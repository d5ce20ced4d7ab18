//! The calls that delete, forget, purge and evict deliveries.

use std::{collections::HashSet, ops::Range, time::Duration};

use rusqlite::{OptionalExtension, Row, ToSql, params};
use tower_klikit::{
    dedupe::EventKey,
    inbox::{DeliveryId, DeliveryState, LedgerRows},
};

use super::{deliveries::Deliveries, ordering_keys, state::state_of};
use crate::{
    error::SqliteError,
    ledger::Slice,
    values::{blob, integer},
};

/// A finished delivery: one that is dead or done.
struct Finished {
    id: i64,
    /// `None` if the stored key is unreadable.
    key: Option<Vec<u8>>,
}

impl Finished {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get(0)?, key: blob(row.get_ref(1)?, "key").ok().map(Into::into) })
    }
}

/// A position in a walk through the finished deliveries: first the dead ones, then the kept ones.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cursor {
    /// Continues with the dead deliveries after this id.
    Dead { after: i64 },
    /// Continues with the kept deliveries after this time and id.
    Done { due: i64, after: i64 },
}

impl Cursor {
    /// The start of the walk, before the first dead delivery.
    pub(crate) const START: Self = Self::Dead { after: i64::MIN };
    /// The position before the first kept delivery.
    pub(crate) const DONE: Self = Self::Done { due: i64::MIN, after: i64::MIN };
}

/// The outcome of a part of a walk that deletes or counts finished deliveries.
pub(crate) struct FinishedPart {
    /// The number of deliveries that were deleted or counted.
    pub(crate) number: u64,
    /// The position of the next part, or `None` at the end of the walk.
    pub(crate) next: Option<Cursor>,
    /// The error if some deliveries could not be read or deleted.
    pub(crate) failed: Option<SqliteError>,
}

impl Deliveries<'_> {
    /// Deletes the ledger rows and the finished deliveries of an event. Keeps the ledger rows of unfinished deliveries.
    /// Returns the number of keys that were forgotten.
    pub(crate) fn forget_event(&self, event: &EventKey) -> rusqlite::Result<u64> {
        let deleted = self.delete_all(&self.sql.admin.list_finished_of_event, params![event.as_bytes()])?;
        let ledger_values = params![event.as_bytes(), self.timestamp.now()];
        // Count a delivery and the ledger row with its key once. A delivery whose key is unreadable counts by itself.
        let without_key = deleted.iter().filter(|deleted| deleted.key.is_none()).count();
        let mut keys: HashSet<_> = deleted.into_iter().filter_map(|deleted| deleted.key).collect();
        keys.extend(self.delete_in_ledger(&self.sql.admin.forget_event_in_ledger, ledger_values)?);
        Ok((keys.len() + without_key) as u64)
    }

    /// Deletes the deliveries that are in one of these states. Returns for each whether it was deleted. If some cannot
    /// be read or deleted, deletes the others and returns an inner error.
    pub(crate) fn delete_in(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
        ledger: LedgerRows,
    ) -> rusqlite::Result<Result<Vec<bool>, SqliteError>> {
        let mut find = self.connection.prepare_cached(&self.sql.admin.read_for_deleting)?;
        let mut forget_key = self.connection.prepare_cached(&self.sql.admin.forget_key_in_ledger)?;
        self.isolation.each(ids, |id| {
            let found = find.query_row([id.get()], |row| {
                let key = blob(row.get_ref(1)?, "key").ok().map(<[u8]>::to_vec);
                Ok((state_of(row.get_ref(0)?), key, ordering_keys::readable(row.get_ref(2)?)))
            });
            let Some((state, key, ordering_keys)) = found.optional()? else { return Ok(false) };
            if !states.contains(&state) {
                return Ok(false);
            }
            self.dequeue(id.get(), &ordering_keys)?;
            self.delete(id.get())?;
            if ledger == LedgerRows::Delete {
                forget_key.execute([key])?;
            }
            Ok(true)
        })
    }

    /// Forgets the keys in this slice of the ledger that were claimed in the window, with their finished deliveries.
    /// Returns how many were forgotten.
    pub(crate) fn forget_claimed(&self, slice: &Slice, window: &Range<i64>) -> rusqlite::Result<u64> {
        let (after, last) = slice.bounds();
        let values = params![after, last, window.start, window.end, self.timestamp.now()];
        let keys = self.delete_in_ledger(&self.sql.admin.forget_claimed_in_ledger, values)?;
        for key in &keys {
            self.delete_all(&self.sql.admin.list_finished_of_key, params![key])?;
        }
        Ok(keys.len() as u64)
    }

    /// Forgets those of the next `rows` finished deliveries that were accepted in the window.
    pub(crate) fn forget_accepted(
        &self,
        from: Cursor,
        rows: u32,
        window: &Range<i64>,
    ) -> rusqlite::Result<FinishedPart> {
        self.each_accepted(from, rows, window, |id, key| {
            self.connection.prepare_cached(&self.sql.admin.forget_key_in_ledger)?.execute([&key])?;
            self.delete(id)?;
            Ok(true)
        })
    }

    /// Calls `choose` for each of the next `rows` finished deliveries that was accepted in the window, with its key or
    /// `None` if the key is unreadable. Counts those for which `choose` returns `true`.
    pub(super) fn each_accepted(
        &self,
        from: Cursor,
        rows: u32,
        window: &Range<i64>,
        mut choose: impl FnMut(i64, Option<Vec<u8>>) -> rusqlite::Result<bool>,
    ) -> rusqlite::Result<FinishedPart> {
        let (ids, next) = self.finished(from, i64::MAX, rows)?;
        self.each_finished(&ids, next, |id| match self.key_if_accepted(id, window)? {
            Some(key) => choose(id, key),
            None => Ok(false),
        })
    }

    /// Returns the key of a delivery that was accepted in the window, or `Some(None)` if its key is unreadable. Returns
    /// `None` if the time is unreadable.
    fn key_if_accepted(&self, id: i64, window: &Range<i64>) -> rusqlite::Result<Option<Option<Vec<u8>>>> {
        let mut read = self.connection.prepare_cached(&self.sql.admin.read_key_and_accepted_at)?;
        let found = read.query_row([id], |row| {
            let key = blob(row.get_ref(0)?, "key").ok().map(<[u8]>::to_vec);
            Ok((key, integer(row.get_ref(1)?, "accepted_at").ok()))
        });
        let is_accepted = |accepted_at: Option<i64>| accepted_at.is_some_and(|at| window.contains(&at));
        Ok(found.optional()?.filter(|(_, accepted_at)| is_accepted(*accepted_at)).map(|(key, _)| key))
    }

    /// Deletes up to `rows` kept deliveries whose time has expired, or their bodies alone if their history is kept for
    /// longer.
    pub(crate) fn purge(&self, from: Cursor, rows: u32) -> rusqlite::Result<FinishedPart> {
        let now = self.timestamp.now();
        let (ids, next) = self.finished(from, now, rows)?;
        self.each_finished(&ids, next, |id| {
            let mut keep = self.connection.prepare_cached(&self.sql.admin.keep_history)?;
            if keep.execute(params![id, now])? > 0 {
                self.drop_body(id)?;
            } else {
                self.delete(id)?;
            }
            Ok(true)
        })
    }

    /// Deletes up to `rows` kept deliveries, those whose time ends soonest first.
    pub(crate) fn evict(&self, from: Cursor, rows: u32) -> rusqlite::Result<FinishedPart> {
        let (ids, next) = self.finished(from, i64::MAX, rows)?;
        self.each_finished(&ids, next, |id| self.delete(id).map(|()| true))
    }

    /// Deletes up to `rows` dead deliveries that were accepted at least `age` ago, in the order of their ids. Younger
    /// deliveries stay, and end the walk.
    pub(crate) fn purge_dead(&self, from: Cursor, rows: u32, age: Duration) -> rusqlite::Result<FinishedPart> {
        // The kept deliveries come after all dead ones.
        let Cursor::Dead { after } = from else { return Ok(FinishedPart { number: 0, next: None, failed: None }) };
        let latest = self.timestamp.before(age);
        let ids = self.list_dead(after, rows)?;
        let next = ids.last().map(|last| Cursor::Dead { after: *last });
        let mut has_younger = false;
        let mut part = self.each_finished(&ids, next, |id| {
            let mut read = self.connection.prepare_cached(&self.sql.admin.read_since)?;
            let since = read.query_row([id], |row| Ok(integer(row.get_ref(0)?, "since").ok()));
            // A delivery whose time is unreadable stays.
            let since = since.optional()?.flatten();
            has_younger |= since.is_some_and(|since| since > latest);
            let is_old = since.is_some_and(|since| since <= latest);
            if is_old {
                self.delete(id)?;
            }
            Ok(is_old)
        })?;
        if has_younger {
            part.next = None;
        }
        Ok(part)
    }

    /// Returns the ids of the next `rows` dead deliveries.
    fn list_dead(&self, after: i64, rows: u32) -> rusqlite::Result<Vec<i64>> {
        let mut list = self.connection.prepare_cached(&self.sql.admin.list_dead)?;
        list.query_map(params![after, rows], |row| row.get(0))?.collect()
    }

    /// Returns the ids of the next `rows` finished deliveries, and the next position. Of the kept deliveries, returns
    /// only those whose time ends at `until` or before.
    fn finished(&self, from: Cursor, until: i64, rows: u32) -> rusqlite::Result<(Vec<i64>, Option<Cursor>)> {
        match from {
            Cursor::Dead { after } => {
                let ids = self.list_dead(after, rows)?;
                let next = ids.last().map_or(Cursor::DONE, |last| Cursor::Dead { after: *last });
                Ok((ids, Some(next)))
            }
            Cursor::Done { due, after } => {
                let mut list = self.connection.prepare_cached(&self.sql.admin.list_done_until)?;
                let found = list.query_map(params![until, due, after, rows], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get_ref(1)?.as_i64().ok()))
                })?;
                let found: Vec<_> = found.collect::<Result<_, _>>()?;
                // A cursor cannot hold a time that is not an integer, so the walk ends there.
                let next = match found.last() {
                    Some((after, Some(due))) => Some(Cursor::Done { due: *due, after: *after }),
                    _ => None,
                };
                Ok((found.into_iter().map(|(id, _)| id).collect(), next))
            }
        }
    }

    /// Calls `choose` for each delivery, and counts those for which it returns `true`. If some cannot be read or
    /// deleted, continues with the others and returns the error as [`FinishedPart::failed`].
    fn each_finished(
        &self,
        ids: &[i64],
        next: Option<Cursor>,
        mut choose: impl FnMut(i64) -> rusqlite::Result<bool>,
    ) -> rusqlite::Result<FinishedPart> {
        let mut part = FinishedPart { number: 0, next, failed: None };
        for id in ids {
            match self.isolation.isolate(|| choose(*id))? {
                Ok(chosen) => part.number += u64::from(chosen),
                Err(fault) => part.failed = Some(fault.into()),
            }
        }
        Ok(part)
    }

    /// Deletes the finished deliveries that a statement lists. Returns them.
    fn delete_all(&self, sql: &str, parameters: &[&dyn ToSql]) -> rusqlite::Result<Vec<Finished>> {
        let mut list = self.connection.prepare_cached(sql)?;
        let finished: Vec<_> = list.query_map(parameters, Finished::from_row)?.collect::<Result<_, _>>()?;
        finished.iter().try_for_each(|finished| self.delete(finished.id))?;
        Ok(finished)
    }

    /// Deletes a delivery with its body and its records of attempts. The delivery must be in no queue.
    pub(super) fn delete(&self, id: i64) -> rusqlite::Result<()> {
        self.delete_records(id)?;
        self.connection.prepare_cached(&self.sql.rows.delete)?.execute([id])?;
        self.delete_body(id)
    }

    /// Runs a statement that deletes ledger rows and returns for each the key and whether the row was unexpired.
    /// Returns the keys of the unexpired rows.
    fn delete_in_ledger(&self, sql: &str, parameters: &[&dyn ToSql]) -> rusqlite::Result<Vec<Vec<u8>>> {
        let mut delete = self.connection.prepare_cached(sql)?;
        let keys = delete.query_map(parameters, |row| {
            let key = blob(row.get_ref(0)?, "key").unwrap_or_default().to_vec();
            Ok(row.get::<_, bool>(1)?.then_some(key))
        })?;
        keys.filter_map(Result::transpose).collect()
    }
}

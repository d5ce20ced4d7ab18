//! What might be leased, looked for where deliveries are read.
//!
//! Those without ordering keys are found by when they are due. Those in line are looked for among the first that are due, where
//! there mostly are enough. Where too many of these wait for others, as behind a delivery that fails again and again, the first of
//! each line is looked at instead: that takes as long as there are lines, and not as there are deliveries.

use std::collections::HashSet;

use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, params};

use super::{deliveries::Deliveries, lines::Lines, sql::NEAR};
use crate::inbox::DeliveryState;

/// How many are buried at once, beside those that are leased.
const BURIED: usize = 256;

/// What looked as if it could be leased, or had to be buried.
#[derive(Default)]
pub(super) struct Picked {
    pub(super) to_lease: Vec<Candidate>,
    pub(super) to_bury: Vec<(i64, i64)>,
}

pub(super) struct Candidate {
    pub(super) id: i64,
    pub(super) token: i64,
    pub(super) ordering: Option<Vec<u8>>,
    /// Whether somebody has leased it, and died.
    pub(super) ran_out: bool,
    pub(super) head: String,
    pub(super) body: Bytes,
}

impl Picked {
    pub(super) fn is_empty(&self) -> bool {
        self.to_lease.is_empty() && self.to_bury.is_empty()
    }
}

impl Deliveries<'_> {
    /// The longest due first.
    pub(super) fn pick(&self, limit: usize, max_attempts: u32) -> rusqlite::Result<Picked> {
        let mut search = Search { inbox: self, max_attempts, lines: Lines::default(), free: vec![], run_out: vec![] };
        search.look_at_loose(limit)?;
        search.look_at_lines(limit)?;
        let Search { mut free, run_out, .. } = search;
        free.sort_unstable_by_key(|free| (free.due, free.id));
        let mut picked = Picked { to_lease: vec![], to_bury: run_out };
        let mut read = self.connection.prepare_cached(&self.sql.picked)?;
        for Free { id, ordering, ran_out, .. } in free.into_iter().take(limit) {
            let row = read.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, Vec<u8>>(2)?)));
            if let Some((token, head, body)) = row.optional()? {
                picked.to_lease.push(Candidate { id, token, ordering, ran_out, head, body: body.into() });
            }
        }
        Ok(picked)
    }
}

/// What is found, line by line.
struct Search<'a> {
    inbox: &'a Deliveries<'a>,
    max_attempts: u32,
    lines: Lines,
    free: Vec<Free>,
    /// With the token that each had.
    run_out: Vec<(i64, i64)>,
}

/// One that waits for nobody.
struct Free {
    due: i64,
    id: i64,
    ordering: Option<Vec<u8>>,
    ran_out: bool,
}

impl Search<'_> {
    /// Those without ordering keys.
    fn look_at_loose(&mut self, limit: usize) -> rusqlite::Result<()> {
        let mut loose = self.inbox.connection.prepare_cached(&self.inbox.sql.loose)?;
        let mut loose = loose.query([self.inbox.moment.now()])?;
        while self.free.len() < limit
            && !self.is_full()
            && let Some(row) = loose.next()?
        {
            self.look_at(row)?;
        }
        Ok(())
    }

    fn look_at_lines(&mut self, limit: usize) -> rusqlite::Result<()> {
        let enough = self.free.len() + limit;
        let (mut seen, mut near) = (HashSet::new(), self.inbox.connection.prepare_cached(&self.inbox.sql.near)?);
        let mut near = near.query([self.inbox.moment.now()])?;
        while self.free.len() < enough
            && !self.is_full()
            && let Some(row) = near.next()?
        {
            seen.insert(self.look_at(row)?);
        }
        if seen.len() < NEAR || self.free.len() >= enough || self.is_full() {
            return Ok(());
        }
        let mut next_line = self.inbox.connection.prepare_cached(&self.inbox.sql.next_line)?;
        let mut waiting = self.inbox.connection.prepare_cached(&self.inbox.sql.waiting)?;
        let mut key = Vec::new();
        while !self.is_full()
            && let Some((next, first)) =
                next_line.query_row([&key], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?))).optional()?
        {
            key = next;
            // It may be the first of several lines.
            if seen.insert(first) {
                waiting.query_row(params![first, self.inbox.moment.now()], |row| self.look_at(row)).optional()?;
            }
        }
        Ok(())
    }

    /// Keeps the delivery of this row if it is free, or has to be buried. Its id.
    fn look_at(&mut self, row: &Row<'_>) -> rusqlite::Result<i64> {
        let (due, id) = (row.get(0)?, row.get(1)?);
        let ordering = row.get_ref(3)?.as_blob_or_null()?;
        let ran_out = row.get::<_, i16>(2)? == DeliveryState::Leased.code();
        if ran_out {
            let mut standing = self.inbox.connection.prepare_cached(&self.inbox.sql.standing)?;
            let (attempts, token) = standing.query_row([id], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
            if attempts >= self.max_attempts.into() {
                self.run_out.push((id, token));
                return Ok(id);
            }
        }
        if self.lines.is_first(self.inbox, id, ordering)? {
            self.free.push(Free { due, id, ordering: ordering.map(Into::into), ran_out });
        }
        Ok(id)
    }

    /// Whether as many are to be buried as go at once. Then there is another round.
    fn is_full(&self) -> bool {
        self.run_out.len() >= BURIED
    }
}

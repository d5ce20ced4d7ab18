//! Selecting the deliveries to lease, on the connection that reads.
//!
//! Deliveries without ordering keys are found by when they are due. Ordered ones are looked for among the first that are due, where
//! there mostly are enough. If too many of these are blocked, as behind a delivery that fails again and again, the head of each queue
//! is looked at instead: that takes as long as there are queues, and not as there are deliveries.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, named_params, params};

use super::{deliveries::Deliveries, ordering_queue::OrderingQueues, sql::SCANNED};
use crate::inbox::{DeliveryState, Lease};

/// How many deliveries are dead-lettered at once, besides those that are leased.
const DEAD_LETTERED: usize = 256;

/// What to select.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) limit: usize,
    pub(super) max_attempts: u32,
    /// The leases whose handlers the process is running.
    pub(super) held: Vec<Lease>,
}

/// What looked as if it could be leased, or had to be dead-lettered.
#[derive(Default)]
pub(super) struct Selection {
    pub(super) candidates: Vec<Candidate>,
    pub(super) expired: Vec<Expired>,
    /// The held leases that have expired.
    pub(super) held: Vec<Lease>,
}

pub(super) struct Candidate {
    pub(super) id: i64,
    pub(super) token: i64,
    pub(super) ordering: Option<Vec<u8>>,
    /// Whether its last lease expired.
    pub(super) after_expired_lease: bool,
    /// Whether leasing it counts as an attempt.
    pub(super) counted: bool,
    pub(super) head: String,
    pub(super) body: Bytes,
}

/// A delivery whose lease expired on the last attempt.
pub(super) struct Expired {
    pub(super) id: i64,
    pub(super) token: i64,
    pub(super) attempts: u32,
    pub(super) head: Option<String>,
}

impl Selection {
    pub(super) fn is_empty(&self) -> bool {
        self.candidates.is_empty() && self.expired.is_empty() && self.held.is_empty()
    }
}

impl Deliveries<'_> {
    /// Selects deliveries, longest due first.
    pub(super) fn select(&self, terms: &Terms) -> rusqlite::Result<Selection> {
        let held: HashMap<_, _> = terms.held.iter().map(|lease| (lease.id().get(), lease.token())).collect();
        let mut selection = Selection::default();
        let mut held_keys = Vec::new();
        for lease in &terms.held {
            if let Some(ordering) = self.expired_ordering(lease)? {
                selection.held.push(*lease);
                held_keys.extend(ordering);
            }
        }
        let queues = OrderingQueues::new(&held_keys);
        let mut search = Search { inbox: self, terms, held: &held, queues, free: vec![], expired: vec![] };
        search.scan_unordered()?;
        search.scan_ordered()?;
        let Search { mut free, expired, .. } = search;
        selection.expired = expired;
        free.sort_unstable_by_key(|free| (free.due, free.id));
        let mut read = self.connection.prepare_cached(&self.sql.read)?;
        for Free { id, ordering, after_expired_lease, .. } in free.into_iter().take(terms.limit) {
            let row = read.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, Vec<u8>>(2)?)));
            if let Some((token, head, body)) = row.optional()? {
                let (body, counted) = (body.into(), !held.contains_key(&id));
                selection.candidates.push(Candidate { id, token, ordering, after_expired_lease, counted, head, body });
            }
        }
        Ok(selection)
    }

    /// Returns the ordering keys of the delivery if this is its lease and has expired.
    fn expired_ordering(&self, lease: &Lease) -> rusqlite::Result<Option<Option<Vec<u8>>>> {
        let values = named_params! {
            ":id": lease.id().get(), ":token": lease.token(), ":now": self.timestamp.now(),
        };
        self.connection.prepare_cached(&self.sql.is_expired)?.query_row(values, |row| row.get(0)).optional()
    }
}

/// What is found, row by row.
struct Search<'a> {
    inbox: &'a Deliveries<'a>,
    terms: &'a Terms,
    /// The tokens of the held leases, by the ids of their deliveries.
    held: &'a HashMap<i64, i64>,
    queues: OrderingQueues<'a>,
    free: Vec<Free>,
    expired: Vec<Expired>,
}

/// A delivery that is due and not blocked.
struct Free {
    due: i64,
    id: i64,
    ordering: Option<Vec<u8>>,
    after_expired_lease: bool,
}

impl Search<'_> {
    fn scan_unordered(&mut self) -> rusqlite::Result<()> {
        let mut unordered = self.inbox.connection.prepare_cached(&self.inbox.sql.unordered)?;
        let mut rows = unordered.query([self.inbox.timestamp.now()])?;
        while self.free.len() < self.terms.limit
            && !self.is_full()
            && let Some(row) = rows.next()?
        {
            self.look_at(row)?;
        }
        Ok(())
    }

    fn scan_ordered(&mut self) -> rusqlite::Result<()> {
        let enough = self.free.len() + self.terms.limit;
        let (mut seen, mut ordered) = (HashSet::new(), self.inbox.connection.prepare_cached(&self.inbox.sql.ordered)?);
        let mut rows = ordered.query([self.inbox.timestamp.now()])?;
        while self.free.len() < enough
            && !self.is_full()
            && let Some(row) = rows.next()?
        {
            seen.insert(self.look_at(row)?);
        }
        if seen.len() < SCANNED || self.free.len() >= enough || self.is_full() {
            return Ok(());
        }
        let mut next_queue = self.inbox.connection.prepare_cached(&self.inbox.sql.next_queue)?;
        let mut due = self.inbox.connection.prepare_cached(&self.inbox.sql.due)?;
        let mut key = Vec::new();
        while !self.is_full()
            && let Some((next, head)) =
                next_queue.query_row([&key], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?))).optional()?
        {
            key = next;
            // It may be the head of several queues.
            if seen.insert(head) {
                due.query_row(params![head, self.inbox.timestamp.now()], |row| self.look_at(row)).optional()?;
            }
        }
        Ok(())
    }

    /// Keeps the delivery of this row if it is free or has to be dead-lettered. Returns its id.
    fn look_at(&mut self, row: &Row<'_>) -> rusqlite::Result<i64> {
        let (due, id) = (row.get(0)?, row.get(1)?);
        let ordering = row.get_ref(3)?.as_blob_or_null()?;
        let after_expired_lease = row.get::<_, i16>(2)? == DeliveryState::Leased.code();
        if after_expired_lease {
            let mut attempts = self.inbox.connection.prepare_cached(&self.inbox.sql.attempts)?;
            let (attempts, token) = attempts.query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            if self.held.get(&id) == Some(&token) {
                return Ok(id);
            }
            if attempts >= self.terms.max_attempts {
                let mut head = self.inbox.connection.prepare_cached(&self.inbox.sql.read_head)?;
                let head = head.query_row([id], |row| row.get(0)).optional()?;
                self.expired.push(Expired { id, token, attempts, head });
                return Ok(id);
            }
        }
        if self.queues.is_head(self.inbox, id, ordering)? {
            self.free.push(Free { due, id, ordering: ordering.map(Into::into), after_expired_lease });
        }
        Ok(id)
    }

    /// Returns whether as many are to be dead-lettered as go at once. Then there is another round.
    fn is_full(&self) -> bool {
        self.expired.len() >= DEAD_LETTERED
    }
}

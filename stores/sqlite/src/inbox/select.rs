//! The selection of deliveries to lease, on the reader's connection.
//!
//! A delivery is free if it is due and no other delivery blocks its ordering keys. Free deliveries are selected in the
//! order in which they are due.
//!
//! To find free deliveries that have ordering keys, the selection first examines the [`SCANNED`] deliveries that are
//! longest due, which usually suffices. If too many of them are blocked, for example by one delivery that keeps
//! failing, the selection then examines the head of each queue. That takes time in proportion to the number of queues,
//! not to the number of deliveries.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, named_params, params};
use tower_klikit::inbox::{DeliveryState, Lease, OrderingKey};

use super::{
    deliveries::Deliveries,
    ordering_keys,
    ordering_queue::{OrderingQueues, Repair},
    rows::{Content, UnreadableRow},
    sql::SCANNED,
    state::state_of,
};
use crate::{
    fault::Fault,
    values::{counter, integer},
};

/// The maximum number of deliveries that one selection dead-letters.
const MAX_DEAD_LETTERED: usize = 256;

/// The minimum number of free deliveries to look for after some of them were found to be unreadable.
const MIN_WANTED_AGAIN: usize = 256;

/// The terms of a selection.
#[derive(Clone)]
pub(crate) struct SelectTerms {
    /// The maximum number of deliveries to lease.
    pub(crate) limit: usize,
    /// The number of handlers that can start at once. Deliveries beyond that number are prefetched. A delivery whose
    /// lease has expired, or that has used all its attempts, is never prefetched.
    pub(crate) free_handlers: usize,
    pub(crate) max_attempts: u32,
    /// The leases whose handlers the process is running.
    pub(crate) held: Vec<Lease>,
    /// The deliveries to leave out, since they can neither be read nor dead-lettered.
    pub(crate) skip: HashSet<i64>,
}

/// The deliveries that can probably be leased, the deliveries that must be dead-lettered, and the repairs of queues.
#[derive(Default)]
pub(crate) struct Selection {
    pub(super) candidates: Vec<Candidate>,
    pub(super) expired: Vec<ExpiredLease>,
    /// The held leases that have expired, to be extended.
    pub(crate) held: Vec<Lease>,
    pub(super) unreadable: Vec<UnreadableRow>,
    pub(super) repairs: Vec<Repair>,
}

/// A delivery to lease.
pub(super) struct Candidate {
    pub(super) id: i64,
    pub(super) token: i64,
    pub(super) ordering_keys: Vec<OrderingKey>,
    /// Whether the delivery's last lease has expired.
    pub(super) after_expired_lease: bool,
    pub(super) attempt: Attempt,
    pub(super) head: String,
    pub(super) body: Bytes,
}

/// How the attempt of a new lease is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Leasing counts the attempt.
    Counted,
    /// The start of the handler counts the attempt.
    CountedAtStart,
    /// No new attempt: the process is still running the delivery's handler.
    Continued,
}

/// A delivery whose lease expired on the last allowed attempt, to be dead-lettered.
pub(super) struct ExpiredLease {
    pub(super) id: i64,
    pub(super) token: i64,
    pub(super) attempts: u32,
    pub(super) head: Option<String>,
}

impl Selection {
    /// Returns whether there is anything to write.
    pub(crate) fn has_changes(&self) -> bool {
        !(self.candidates.is_empty() && self.expired.is_empty() && self.held.is_empty() && self.repairs.is_empty())
            || self.unreadable.iter().any(|unreadable| unreadable.has_state)
    }
}

impl Deliveries<'_> {
    /// Selects deliveries to lease, longest due first.
    pub(crate) fn select(&self, terms: &SelectTerms) -> rusqlite::Result<Selection> {
        let held: HashMap<_, _> = terms.held.iter().map(|lease| (lease.id().get(), lease.token())).collect();
        let mut selection = Selection::default();
        let mut held_keys = Vec::new();
        for lease in &terms.held {
            if let Some(keys) = self.expired_keys(lease)? {
                selection.held.push(*lease);
                held_keys.extend(keys);
            }
        }
        let mut search = Search {
            inbox: self,
            max_attempts: terms.max_attempts,
            held: &held,
            skip: terms.skip.clone(),
            queues: OrderingQueues::new(&held_keys),
            free: vec![],
            expired: vec![],
            unreadable: vec![],
            to_dead_letter: 0,
            left_out: 0,
        };
        search.look_for_misdated()?;
        let mut wanted = terms.limit;
        loop {
            search.look_for_free(wanted)?;
            let found = search.free.len();
            let selected = selection.candidates.len();
            // A delivery that is left out counts toward the limit, so that the worker soon asks again with a free
            // handler.
            let limit = terms.limit - selected - search.left_out;
            let free_handlers = terms.free_handlers.saturating_sub(selected);
            selection.candidates.extend(search.read_free(limit, free_handlers)?);
            let is_enough = selection.candidates.len() + search.left_out == terms.limit;
            if is_enough || found < wanted || search.is_full() {
                break;
            }
            // Some of the free deliveries were unreadable, and there may be readable ones after them.
            wanted = (2 * wanted).max(MIN_WANTED_AGAIN);
        }
        selection.expired = search.expired;
        selection.unreadable = search.unreadable;
        selection.repairs = search.queues.repairs();
        Ok(selection)
    }

    /// Returns the ordering keys of the lease's delivery if the lease is current and has expired.
    fn expired_keys(&self, lease: &Lease) -> rusqlite::Result<Option<Vec<OrderingKey>>> {
        let values = named_params! {
            ":id": lease.id().get(), ":token": lease.token(), ":now": self.timestamp.now(),
        };
        let mut read = self.connection.prepare_cached(&self.sql.lease.read_keys_of_expired)?;
        let keys = |row: &Row<'_>| Ok(ordering_keys::readable(row.get_ref(0)?));
        let found = self.isolation.isolate(|| read.query_row(values, keys).optional())?;
        // A lease on a damaged page cannot be extended.
        Ok(found.ok().flatten())
    }
}

/// A search for deliveries, row by row.
struct Search<'a> {
    inbox: &'a Deliveries<'a>,
    max_attempts: u32,
    /// The tokens of the held leases, by the ids of their deliveries.
    held: &'a HashMap<i64, i64>,
    /// The deliveries to skip: those that were processed already, and those that must be left out.
    skip: HashSet<i64>,
    queues: OrderingQueues<'a>,
    free: Vec<FreeDelivery>,
    expired: Vec<ExpiredLease>,
    unreadable: Vec<UnreadableRow>,
    /// The number of deliveries to dead-letter.
    to_dead_letter: usize,
    /// The number of deliveries that were left out because they may be leased for free handlers only.
    left_out: usize,
}

/// A delivery that is due and not blocked. Its content was not read yet.
struct FreeDelivery {
    due: i64,
    id: i64,
    ordering_keys: Vec<OrderingKey>,
    after_expired_lease: bool,
}

impl Search<'_> {
    /// Looks for deliveries that would never be due, because their time is a value that SQLite sorts after all
    /// integers, such as text. Adds them to the unreadable deliveries.
    fn look_for_misdated(&mut self) -> rusqlite::Result<()> {
        let mut list = self.inbox.connection.prepare_cached(&self.inbox.sql.lease.list_misdated)?;
        let mut rows = list.query([])?;
        while !self.is_full()
            && let Some(row) = rows.next()?
        {
            if let Err(fault) = integer(row.get_ref(1)?, "due") {
                self.add_unreadable(row.get(0)?, fault)?;
            }
        }
        Ok(())
    }

    /// Looks for up to `wanted` free deliveries.
    fn look_for_free(&mut self, wanted: usize) -> rusqlite::Result<()> {
        self.free.clear();
        self.scan_unordered(wanted)?;
        self.scan_ordered(self.free.len() + wanted)?;
        self.free.sort_unstable_by_key(|free| (free.due, free.id));
        self.free.truncate(wanted);
        Ok(())
    }

    /// Examines the deliveries without ordering keys, until `enough` free deliveries are found.
    fn scan_unordered(&mut self, enough: usize) -> rusqlite::Result<()> {
        let mut list = self.inbox.connection.prepare_cached(&self.inbox.sql.lease.list_due_unordered)?;
        let mut rows = list.query([self.inbox.timestamp.now()])?;
        while self.free.len() < enough
            && !self.is_full()
            && let Some(row) = rows.next()?
        {
            self.examine(row)?;
        }
        Ok(())
    }

    /// Examines the deliveries with ordering keys, until `enough` free deliveries are found.
    fn scan_ordered(&mut self, enough: usize) -> rusqlite::Result<()> {
        let mut list = self.inbox.connection.prepare_cached(&self.inbox.sql.lease.list_due_ordered)?;
        let mut rows = list.query([self.inbox.timestamp.now()])?;
        let mut seen = HashSet::new();
        while self.free.len() < enough
            && !self.is_full()
            && let Some(row) = rows.next()?
        {
            seen.insert(self.examine(row)?);
        }
        // The statement lists at most `SCANNED` deliveries. If it listed fewer, all were examined.
        if seen.len() < SCANNED || self.free.len() >= enough || self.is_full() {
            return Ok(());
        }
        self.scan_queues(seen)
    }

    /// Examines the heads of all queues, except those in `seen`.
    fn scan_queues(&mut self, mut seen: HashSet<i64>) -> rusqlite::Result<()> {
        let mut find_next = self.inbox.connection.prepare_cached(&self.inbox.sql.lease.find_next_queue)?;
        let mut find_due = self.inbox.connection.prepare_cached(&self.inbox.sql.lease.find_due)?;
        let key_and_head = |row: &Row<'_>| {
            Ok((row.get_ref(0)?.as_bytes().unwrap_or_default().to_vec(), row.get_ref(1)?.as_i64().ok()))
        };
        let mut key = Vec::new();
        while !self.is_full()
            && let Some((next_key, head)) = find_next.query_row([&key], key_and_head).optional()?
        {
            key = next_key;
            // A delivery may be the head of several queues.
            if head.is_some_and(|head| seen.contains(&head)) {
                continue;
            }
            let was_examined = match head {
                None => false,
                Some(id) => {
                    let values = params![id, self.inbox.timestamp.now()];
                    let isolation = self.inbox.isolation;
                    match isolation.isolate(|| find_due.query_row(values, |row| self.examine(row)).optional())? {
                        Ok(found) => found.is_some(),
                        Err(fault) => self.add_unreadable(id, fault).map(|_| true)?,
                    }
                }
            };
            // The head is not due, or the queue's entry is stray: check whether it is stray. Skip a key that is not
            // UTF-8, because no delivery has such a key.
            if !was_examined && let Ok(key) = str::from_utf8(&key) {
                self.queues.check(self.inbox, &OrderingKey::from_text(key), head)?;
            }
            seen.extend(head);
        }
        Ok(())
    }

    /// Examines the delivery of this row. Adds it to the free deliveries, to the deliveries to dead-letter or to the
    /// unreadable deliveries, or skips it. Returns its id.
    fn examine(&mut self, row: &Row<'_>) -> rusqlite::Result<i64> {
        let id = row.get(1)?;
        if self.skip.contains(&id) {
            return Ok(id);
        }
        let (due, keys) = match (integer(row.get_ref(0)?, "due"), ordering_keys::from_value(row.get_ref(3)?)) {
            (Ok(due), Ok(keys)) => (due, keys),
            (Err(fault), _) | (_, Err(fault)) => return self.add_unreadable(id, fault),
        };
        let after_expired_lease = state_of(row.get_ref(2)?) == DeliveryState::Leased;
        if after_expired_lease {
            let mut read = self.inbox.connection.prepare_cached(&self.inbox.sql.rows.read_token_and_attempts)?;
            let found = self.inbox.isolation.isolate(|| {
                let found = read.query_row([id], |row| {
                    Ok((counter(row.get_ref(0)?, "token")?, counter(row.get_ref(1)?, "attempts")?))
                });
                found.optional()?.ok_or_else(|| Fault::new("its row is missing").into())
            });
            let (token, attempts) = match found? {
                Ok(found) => found,
                Err(fault) => return self.add_unreadable(id, fault),
            };
            // The process is still running the delivery's handler, so the store will extend the lease.
            if self.held.get(&id) == Some(&token) {
                return Ok(id);
            }
            if attempts >= self.max_attempts {
                self.skip.insert(id);
                self.to_dead_letter += 1;
                self.expired.push(ExpiredLease { id, token, attempts, head: self.inbox.head(id)? });
                return Ok(id);
            }
        }
        if self.queues.is_head(self.inbox, id, &keys)? {
            self.free.push(FreeDelivery { due, id, ordering_keys: keys, after_expired_lease });
        }
        Ok(id)
    }

    /// Reads the free deliveries, in order, until `limit` of them were read or left out. Unreadable ones do not count.
    ///
    /// The first `free_handlers` deliveries that are read start at once. After them, a delivery whose lease has
    /// expired, or that has used all its attempts, is left out.
    fn read_free(&mut self, limit: usize, free_handlers: usize) -> rusqlite::Result<Vec<Candidate>> {
        let mut candidates = Vec::with_capacity(limit.min(self.free.len()));
        let end = self.left_out + limit;
        for FreeDelivery { id, ordering_keys, after_expired_lease, .. } in std::mem::take(&mut self.free) {
            if candidates.len() + self.left_out == end || self.is_full() {
                break;
            }
            self.skip.insert(id);
            let is_for_free_handler = candidates.len() < free_handlers;
            if after_expired_lease && !is_for_free_handler {
                self.left_out += 1;
                continue;
            }
            match self.inbox.read(id)? {
                Ok(Content { attempts, .. }) if attempts >= self.max_attempts && !is_for_free_handler => {
                    self.left_out += 1;
                }
                Ok(Content { token, attempts, head, body }) => {
                    let body = body.into();
                    // The rules are those of `InboxStore::lease`: a worker that crashes must not use up the attempts of
                    // a delivery that it has not started.
                    let attempt = if self.held.contains_key(&id) {
                        Attempt::Continued
                    } else if is_for_free_handler
                        && !after_expired_lease
                        && attempts.saturating_add(1) < self.max_attempts
                    {
                        Attempt::Counted
                    } else {
                        Attempt::CountedAtStart
                    };
                    candidates.push(Candidate { id, token, ordering_keys, after_expired_lease, attempt, head, body });
                }
                Err(unreadable) => self.push_unreadable(unreadable),
            }
        }
        Ok(candidates)
    }

    /// Adds an unreadable delivery. Returns its id.
    fn add_unreadable(&mut self, id: i64, fault: Fault) -> rusqlite::Result<i64> {
        if self.skip.insert(id) {
            let unreadable = self.inbox.unreadable(id, fault)?;
            self.push_unreadable(unreadable);
        }
        Ok(id)
    }

    /// Adds an unreadable delivery, which is dead-lettered if its state can be read.
    fn push_unreadable(&mut self, unreadable: UnreadableRow) {
        self.to_dead_letter += usize::from(unreadable.has_state);
        self.unreadable.push(unreadable);
    }

    /// Returns whether this selection has found the maximum number of deliveries to dead-letter. The selection then
    /// ends, and the store selects again after it has dead-lettered them.
    fn is_full(&self) -> bool {
        self.to_dead_letter >= MAX_DEAD_LETTERED
    }
}

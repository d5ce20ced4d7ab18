//! The search for deliveries to lease, row by row.

use std::collections::{HashMap, HashSet};

use rusqlite::{OptionalExtension, Row, params};
use tower_klikit::inbox::{DeliveryState, OrderingKey};

use super::{
    deliveries::Deliveries,
    ordering_keys,
    ordering_queue::OrderingQueues,
    pauses::Pauses,
    rows::{Content, UnreadableRow},
    selection::{Attempt, Candidate, ExpiredLease, SelectTerms},
    state::state_of,
    tenant::Tenant,
    turns::{FreeDelivery, FreeQueue, Turn, Turns},
};
use crate::{
    fault::Fault,
    values::{counter, integer},
};

/// The number of deliveries with ordering keys that a selection examines before it examines the heads of the queues.
const SCANNED: usize = 500;

/// The maximum number of deliveries that one selection dead-letters.
const MAX_DEAD_LETTERED: usize = 256;

/// A search for deliveries, row by row.
pub(super) struct Search<'a> {
    inbox: &'a Deliveries<'a>,
    pauses: Pauses,
    max_attempts: u32,
    /// The tokens of the held leases, by the ids of their deliveries.
    held: HashMap<i64, i64>,
    /// The deliveries to skip: those that were processed already, and those that must be left out.
    skip: HashSet<i64>,
    pub(super) queues: OrderingQueues<'a>,
    /// The deliveries with ordering keys that were examined.
    scanned: HashSet<i64>,
    pub(super) expired: Vec<ExpiredLease>,
    pub(super) unreadable: Vec<UnreadableRow>,
    /// The number of deliveries to dead-letter.
    to_dead_letter: usize,
}

impl<'a> Search<'a> {
    /// Creates a search. `held_keys` are the ordering keys of the held leases that have expired.
    pub(super) fn new(
        inbox: &'a Deliveries<'a>,
        terms: &SelectTerms,
        held_keys: &'a [OrderingKey],
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            inbox,
            pauses: inbox.pauses_in_force()?,
            max_attempts: terms.max_attempts,
            held: terms.held.iter().map(|lease| (lease.id().get(), lease.token())).collect(),
            skip: terms.skip.clone(),
            queues: OrderingQueues::new(held_keys),
            scanned: HashSet::new(),
            expired: vec![],
            unreadable: vec![],
            to_dead_letter: 0,
        })
    }

    /// Returns the turns of the tenants that have ready or leased deliveries and are not paused. `leased` is the number
    /// of deliveries that each tenant has leased already.
    pub(super) fn turns(&self, leased: &HashMap<Tenant, usize>) -> rusqlite::Result<Turns> {
        let mut turns = Turns::new();
        let sql = &self.inbox.sql.lease;
        for list in [&sql.list_tenants_unordered, &sql.list_tenants_ordered] {
            let mut list = self.inbox.connection.prepare_cached(list)?;
            let mut rows = list.query([])?;
            while let Some(row) = rows.next()? {
                let tenant = Tenant::from_value(row.get_ref(0)?);
                let (is_paused, has_paused_types) = match self.pauses.is_empty() {
                    true => (false, false),
                    false => {
                        let name = tenant.name();
                        (self.pauses.select_tenant(&name), self.pauses.select_event_types(&name))
                    }
                };
                if !is_paused {
                    let leased = leased.get(&tenant).copied().unwrap_or_default();
                    turns.add(tenant, has_paused_types, leased);
                }
            }
        }
        Ok(turns)
    }

    /// Looks for deliveries that would never be due, because their time is a value that SQLite sorts after all
    /// integers, such as text. Adds them to the unreadable deliveries.
    pub(super) fn look_for_misdated(&mut self, turns: &Turns) -> rusqlite::Result<()> {
        let mut list = self.inbox.connection.prepare_cached(&self.inbox.sql.lease.list_misdated)?;
        for turn in turns.iter() {
            let mut rows = list.query([&turn.tenant])?;
            while !self.is_full()
                && let Some(row) = rows.next()?
            {
                let id = row.get(0)?;
                if let Err(fault) = integer(row.get_ref(1)?, "due")
                    && !self.is_paused(turn, id)?
                {
                    self.add_unreadable(id, fault)?;
                }
            }
        }
        Ok(())
    }

    /// Selects and reads up to `limit` free deliveries. Unreadable ones do not count.
    ///
    /// The first `free_handlers` deliveries start at once. After them, a delivery whose lease has expired, or that has
    /// used all its attempts, is left out. It counts toward the limit, so that the worker soon asks again with a free
    /// handler.
    pub(super) fn candidates(
        &mut self,
        turns: &mut Turns,
        limit: usize,
        free_handlers: usize,
    ) -> rusqlite::Result<Vec<Candidate>> {
        let (mut candidates, mut left_out) = (Vec::new(), 0);
        while candidates.len() + left_out < limit
            && let Some(position) = turns.next()
        {
            let rest = limit - candidates.len() - left_out;
            let free = self.next_free(turns, position, rest)?;
            if self.is_full() {
                break;
            }
            let Some(free) = free else {
                turns.end();
                continue;
            };
            self.skip.insert(free.id);
            let is_for_free_handler = candidates.len() < free_handlers;
            if free.after_expired_lease && !is_for_free_handler {
                left_out += 1;
                turns.lease();
                continue;
            }
            match self.inbox.read(free.id)? {
                Ok(Content { attempts, .. }) if attempts >= self.max_attempts && !is_for_free_handler => {
                    left_out += 1;
                    turns.lease();
                }
                Ok(content) => {
                    candidates.push(self.candidate(free, content, is_for_free_handler));
                    turns.lease();
                }
                Err(unreadable) => self.push_unreadable(unreadable),
            }
        }
        Ok(candidates)
    }

    fn candidate(&self, free: FreeDelivery, content: Content, is_for_free_handler: bool) -> Candidate {
        let FreeDelivery { id, ordering_keys, after_expired_lease, .. } = free;
        let Content { token, attempts, is_open, age, after_expiry, head, body } = content;
        // The rules are those of `InboxStore::lease`: a worker that crashes must not use up the attempts of a delivery
        // that it has not started.
        let attempt = if self.held.contains_key(&id) {
            Attempt::Continued
        } else if is_for_free_handler && !after_expired_lease && attempts.saturating_add(1) < self.max_attempts {
            Attempt::Counted
        } else {
            Attempt::CountedAtStart
        };
        // The worker of an expired lease may start the attempt before the delivery is leased again.
        let may_be_open = is_open || after_expired_lease;
        let body = body.into();
        Candidate { id, token, ordering_keys, after_expired_lease, attempt, may_be_open, age, after_expiry, head, body }
    }

    /// Returns the next free delivery of a turn. `rest` is the number of deliveries that the selection still needs.
    fn next_free(&mut self, turns: &mut Turns, position: usize, rest: usize) -> rusqlite::Result<Option<FreeDelivery>> {
        // The turn's share, so that the usual selection examines each tenant's deliveries once.
        let share = rest.div_ceil(turns.len());
        if turns.get(position).unordered.is_wanting() {
            self.scan_unordered(turns.get_mut(position), share)?;
        }
        if turns.get(position).ordered.is_wanting() {
            self.scan_ordered(turns, position, share)?;
        }
        Ok(turns.get_mut(position).take())
    }

    /// Examines deliveries without ordering keys, until `enough` free deliveries are found.
    fn scan_unordered(&mut self, turn: &mut Turn, enough: usize) -> rusqlite::Result<()> {
        let mut list = self.inbox.connection.prepare_cached(&self.inbox.sql.lease.list_due_unordered)?;
        let (due, id) = &turn.unordered.examined;
        let mut rows = list.query(params![turn.tenant, self.inbox.timestamp.now(), due, id])?;
        while turn.unordered.free.len() < enough && !self.is_full() {
            let Some(row) = rows.next()? else {
                turn.unordered.is_over = true;
                break;
            };
            turn.unordered.examined = (row.get(0)?, row.get(1)?);
            let (_, free) = self.examine(turn, row)?;
            turn.unordered.free.extend(free);
        }
        Ok(())
    }

    /// Examines deliveries with ordering keys, until `enough` free deliveries are found. Once the selection has
    /// examined [`SCANNED`] of them, examines the heads of all queues.
    fn scan_ordered(&mut self, turns: &mut Turns, position: usize, enough: usize) -> rusqlite::Result<()> {
        let mut list = self.inbox.connection.prepare_cached(&self.inbox.sql.lease.list_due_ordered)?;
        let turn = turns.get_mut(position);
        let (due, id) = &turn.ordered.examined;
        let mut rows = list.query(params![turn.tenant, self.inbox.timestamp.now(), due, id])?;
        while turn.ordered.free.len() < enough && !self.is_full() {
            let Some(row) = rows.next()? else {
                turn.ordered.is_over = true;
                break;
            };
            if self.scanned.len() == SCANNED {
                return self.scan_queues(turns);
            }
            turn.ordered.examined = (row.get(0)?, row.get(1)?);
            let (id, free) = self.examine(turn, row)?;
            self.scanned.insert(id);
            turn.ordered.free.extend(free);
        }
        Ok(())
    }

    /// Examines the heads of all queues that were not examined yet. Afterwards, the free deliveries with ordering keys
    /// of all turns are found.
    fn scan_queues(&mut self, turns: &mut Turns) -> rusqlite::Result<()> {
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
            if head.is_some_and(|head| self.scanned.contains(&head)) {
                continue;
            }
            let was_examined = match head {
                None => false,
                Some(id) => {
                    let values = params![id, self.inbox.timestamp.now()];
                    let isolation = self.inbox.isolation;
                    let examine = |row: &Row<'_>| self.examine_head(turns, row);
                    match isolation.isolate(|| find_due.query_row(values, examine).optional())? {
                        Ok(found) => found.is_some(),
                        Err(fault) => self.add_unreadable(id, fault).map(|()| true)?,
                    }
                }
            };
            // The head is not due, or the queue's entry is stray: check whether it is stray. Skip a key that is not
            // UTF-8, because no delivery has such a key.
            if !was_examined && let Ok(key) = str::from_utf8(&key) {
                self.queues.check(self.inbox, &OrderingKey::from_text(key), head)?;
            }
            self.scanned.extend(head);
        }
        for FreeQueue { free, is_over, .. } in turns.iter_mut().map(|turn| &mut turn.ordered) {
            free.make_contiguous().sort_unstable_by_key(|free| (free.due, free.id));
            *is_over = true;
        }
        Ok(())
    }

    /// Examines the head of a queue, unless its tenant is paused.
    fn examine_head(&mut self, turns: &mut Turns, row: &Row<'_>) -> rusqlite::Result<()> {
        let Some(position) = turns.position(&Tenant::from_value(row.get_ref(4)?)) else { return Ok(()) };
        let turn = turns.get_mut(position);
        if !turn.ordered.is_over {
            let (_, free) = self.examine(turn, row)?;
            turn.ordered.free.extend(free);
        }
        Ok(())
    }

    /// Examines the delivery of this row. Returns its id, and the delivery if it is free. Otherwise adds it to the
    /// deliveries to dead-letter or to the unreadable deliveries, or skips it.
    fn examine(&mut self, turn: &Turn, row: &Row<'_>) -> rusqlite::Result<(i64, Option<FreeDelivery>)> {
        let id = row.get(1)?;
        if self.skip.contains(&id) || self.is_paused(turn, id)? {
            return Ok((id, None));
        }
        let (due, keys) = match (integer(row.get_ref(0)?, "due"), ordering_keys::from_value(row.get_ref(3)?)) {
            (Ok(due), Ok(keys)) => (due, keys),
            (Err(fault), _) | (_, Err(fault)) => return self.add_unreadable(id, fault).map(|()| (id, None)),
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
                Err(fault) => return self.add_unreadable(id, fault).map(|()| (id, None)),
            };
            // The process is still running the delivery's handler, so the store will extend the lease.
            if self.held.get(&id) == Some(&token) {
                return Ok((id, None));
            }
            if attempts >= self.max_attempts {
                self.skip.insert(id);
                self.to_dead_letter += 1;
                self.expired.push(ExpiredLease { id, token, attempts, head: self.inbox.head(id)? });
                return Ok((id, None));
            }
        }
        let is_free = self.queues.is_head(self.inbox, id, &keys)?;
        Ok((id, is_free.then_some(FreeDelivery { due, id, ordering_keys: keys, after_expired_lease })))
    }

    /// Returns whether a pause of event types selects a delivery.
    fn is_paused(&self, turn: &Turn, id: i64) -> rusqlite::Result<bool> {
        if !turn.has_paused_types {
            return Ok(false);
        }
        self.inbox.is_paused(&self.pauses, id)
    }

    fn add_unreadable(&mut self, id: i64, fault: Fault) -> rusqlite::Result<()> {
        if self.skip.insert(id) {
            let unreadable = self.inbox.unreadable(id, fault)?;
            self.push_unreadable(unreadable);
        }
        Ok(())
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

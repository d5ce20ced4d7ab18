//! The table of deliveries, and its indexes.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::Duration,
};

use bytes::Bytes;

use super::super::table::{Tick, Timestamp};
use crate::{
    dedupe::{BodyDigest, EventKey, KeyMap},
    inbox::{
        Acceptance, Counts, DeadLettered, DeliveryId, DeliveryState, Entry, Filter, LEASE_EXPIRED, Lease, LeaseBatch,
        LeaseRequest, Leased, NewDelivery, OrderingKey, Page, SettleOutcome, Settlement,
    },
};

/// The maximum number of deliveries to examine for one page. Other calls wait meanwhile.
const EXAMINED: usize = 1024;

/// The deliveries of an inbox.
#[derive(Default)]
pub(in crate::store::memory) struct Deliveries {
    last_id: i64,
    rows: BTreeMap<DeliveryId, Row>,
    ids: KeyMap<DeliveryId>,
    /// The ready and leased deliveries, by the time at which they can be leased.
    due: BTreeSet<(Tick, DeliveryId)>,
    /// The ready and leased deliveries, by their ordering keys.
    ordering: BTreeSet<(OrderingKey, DeliveryId)>,
    /// The done deliveries, by the time until which they are kept.
    done: BTreeSet<(Tick, DeliveryId)>,
}

/// A stored delivery.
struct Row {
    key: EventKey,
    event: EventKey,
    digest: BodyDigest,
    state: DeliveryState,
    /// Ready or leased: the time from which the delivery can be leased. Done: the time until which it is kept.
    due: Tick,
    attempts: u32,
    token: i64,
    accepted_at: Timestamp,
    reason: Option<String>,
    head: String,
    body: Bytes,
    ordering_keys: Vec<OrderingKey>,
}

impl Row {
    fn is_held_by(&self, lease: &Lease) -> bool {
        self.state == DeliveryState::Leased && self.token == lease.token()
    }
}

/// The state of a key's delivery.
pub(super) enum KeyState {
    /// Ready or leased.
    Unfinished(BodyDigest),
    Dead(DeliveryId, BodyDigest),
    /// Handled, or never stored.
    Absent,
}

impl Deliveries {
    pub(super) fn key_state(&self, key: &EventKey) -> KeyState {
        let Some((id, row)) = self.ids.get(key).and_then(|id| Some((*id, self.rows.get(id)?))) else {
            return KeyState::Absent;
        };
        match row.state {
            DeliveryState::Ready | DeliveryState::Leased => KeyState::Unfinished(row.digest),
            DeliveryState::Dead => KeyState::Dead(id, row.digest),
            DeliveryState::Done => KeyState::Absent,
        }
    }

    /// Returns [`Acceptance::Known`] with this digest, and with the stored body if the delivery with this digest is
    /// still stored and is not the same as `new`.
    pub(super) fn known(&self, new: &NewDelivery, digest: BodyDigest) -> Acceptance {
        let row = self.ids.get(new.claim().key()).and_then(|id| self.rows.get(id));
        let body = row.filter(|row| row.digest == digest && !new.is_same_as(&digest)).map(|row| row.body.clone());
        Acceptance::Known { digest, body }
    }

    pub(super) fn head(&self, id: DeliveryId) -> Option<String> {
        self.rows.get(&id).map(|row| row.head.clone())
    }

    /// Adds a delivery. Replaces a done delivery with the same key.
    pub(super) fn add(&mut self, new: &NewDelivery, at: Timestamp) {
        self.last_id += 1;
        let id = DeliveryId::new(self.last_id);
        self.put(id, new, at, at, 0);
    }

    /// Makes a dead delivery ready again, with the new request.
    pub(super) fn revive(&mut self, id: DeliveryId, new: &NewDelivery, now: Timestamp) {
        if let Some(row) = self.rows.get(&id) {
            // A new token, so that a late outcome of the old request does not settle the new one.
            let (accepted_at, token) = (row.accepted_at, row.token + 1);
            self.put(id, new, accepted_at, now, token);
        }
    }

    fn put(&mut self, id: DeliveryId, new: &NewDelivery, accepted_at: Timestamp, due: Timestamp, token: i64) {
        let claim = new.claim();
        if let Some(old) = self.ids.get(claim.key()).copied() {
            self.remove(old);
        }
        let row = Row {
            key: *claim.key(),
            event: *claim.event(),
            digest: *claim.digest(),
            state: DeliveryState::Ready,
            due: due.tick(),
            attempts: 0,
            token,
            accepted_at,
            reason: None,
            head: new.head().into(),
            body: new.body().clone(),
            ordering_keys: new.ordering_keys().to_vec(),
        };
        self.ids.insert(row.key, id);
        self.index(id, &row);
        self.rows.insert(id, row);
    }

    /// Changes a row and updates the indexes.
    fn change<T>(&mut self, id: DeliveryId, change: impl FnOnce(&mut Row) -> T) -> Option<T> {
        let mut row = self.take(id)?;
        let result = change(&mut row);
        self.index(id, &row);
        self.rows.insert(id, row);
        Some(result)
    }

    fn index(&mut self, id: DeliveryId, row: &Row) {
        if row.state.is_unfinished() {
            self.due.insert((row.due, id));
            self.ordering.extend(row.ordering_keys.iter().map(|key| (key.clone(), id)));
        }
        if row.state == DeliveryState::Done {
            self.done.insert((row.due, id));
        }
    }

    fn take(&mut self, id: DeliveryId) -> Option<Row> {
        let row = self.rows.remove(&id)?;
        self.due.remove(&(row.due, id));
        self.done.remove(&(row.due, id));
        for key in &row.ordering_keys {
            self.ordering.remove(&(key.clone(), id));
        }
        Some(row)
    }

    fn remove(&mut self, id: DeliveryId) -> Option<Row> {
        let row = self.take(id)?;
        self.ids.remove(&row.key);
        Some(row)
    }

    pub(super) fn lease(&mut self, now: Tick, request: &LeaseRequest<'_>) -> LeaseBatch {
        let until = now.after(request.duration);
        for lease in request.held {
            if self.is_expired(lease.id(), now) {
                self.extend(lease, until);
            }
        }
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let free_handlers = usize::try_from(request.free_handlers).unwrap_or(usize::MAX);
        let mut batch = LeaseBatch::default();
        let mut left_out = 0;
        let candidates: Vec<_> = self.due.iter().take_while(|(due, _)| *due <= now).map(|(_, id)| *id).collect();
        for id in candidates {
            if batch.leased.len() + left_out >= limit {
                break;
            }
            let Some(row) = self.rows.get(&id) else { continue };
            if row.state == DeliveryState::Leased && row.attempts >= request.max_attempts {
                let (attempts, head) = (row.attempts, Some(row.head.clone()));
                let reason = LEASE_EXPIRED.to_owned();
                batch.dead_lettered.push(DeadLettered { id, attempts, head, reason });
                self.dead_letter(id, LEASE_EXPIRED);
                continue;
            }
            if row.ordering_keys.iter().any(|key| self.is_blocked(key, id, now)) {
                continue;
            }
            let is_for_free_handler = batch.leased.len() < free_handlers;
            let expired = row.state == DeliveryState::Leased;
            if !is_for_free_handler && (expired || row.attempts >= request.max_attempts) {
                left_out += 1;
                continue;
            }
            // A handler that is still running takes over the delivery, so no new attempt begins.
            let is_attempt = request.held.iter().all(|held| held.id() != id);
            let is_counted = is_attempt && is_for_free_handler && !expired && row.attempts + 1 < request.max_attempts;
            batch.leased.extend(self.change(id, |row| {
                row.state = DeliveryState::Leased;
                let attempt = row.attempts + u32::from(is_attempt);
                if is_counted {
                    row.attempts = attempt;
                }
                row.token += 1;
                row.due = until;
                let leased = Leased::new(Lease::new(id, row.token, attempt), row.head.as_str(), row.body.clone())
                    .with_ordering_keys(row.ordering_keys.clone());
                let leased = if expired { leased.after_expired_lease() } else { leased };
                if is_counted { leased.with_attempt_counted() } else { leased }
            }));
        }
        batch
    }

    /// Returns whether another delivery with this key blocks this one: an earlier unfinished delivery, or a later one
    /// that was leased while this one was dead.
    fn is_blocked(&self, key: &OrderingKey, id: DeliveryId, now: Tick) -> bool {
        let (first, last) = (DeliveryId::new(i64::MIN), DeliveryId::new(i64::MAX));
        let mut before = self.ordering.range((key.clone(), first)..(key.clone(), id));
        let mut behind = self.ordering.range((key.clone(), id)..=(key.clone(), last));
        before.next().is_some() || behind.any(|(_, other)| *other != id && self.is_leased(*other, now))
    }

    fn is_leased(&self, id: DeliveryId, now: Tick) -> bool {
        self.rows.get(&id).is_some_and(|row| row.state == DeliveryState::Leased && row.due > now)
    }

    fn is_expired(&self, id: DeliveryId, now: Tick) -> bool {
        self.rows.get(&id).is_some_and(|row| row.state == DeliveryState::Leased && row.due <= now)
    }

    /// Counts the lease's attempt. Returns whether the delivery is leased with this token.
    pub(super) fn start(&mut self, lease: &Lease) -> bool {
        let is_held = self.rows.get(&lease.id()).is_some_and(|row| row.is_held_by(lease));
        is_held && self.change(lease.id(), |row| row.attempts = row.attempts.max(lease.attempt())).is_some()
    }

    /// Returns whether the delivery is leased with this token.
    pub(super) fn extend(&mut self, lease: &Lease, until: Tick) -> bool {
        let is_held = self.rows.get(&lease.id()).is_some_and(|row| row.is_held_by(lease));
        is_held && self.change(lease.id(), |row| row.due = until).is_some()
    }

    pub(super) fn settle(&mut self, lease: &Lease, settlement: &Settlement, now: Tick) -> SettleOutcome {
        let id = lease.id();
        let Some(row) = self.rows.get(&id) else { return SettleOutcome::Gone };
        if row.token != lease.token() {
            return SettleOutcome::Superseded;
        }
        let is_dead = row.state == DeliveryState::Dead;
        match settlement {
            _ if row.state == DeliveryState::Done => {}
            _ if is_dead && settlement.leaves_dead(row.reason.as_deref()) => {}
            Settlement::Done { keep } if keep.is_zero() => {
                self.remove(id);
            }
            Settlement::Done { keep } => {
                self.change(id, |row| {
                    row.state = DeliveryState::Done;
                    row.due = now.after(*keep);
                    row.reason = None;
                });
            }
            Settlement::Reschedule { delay, reason, unordered } => {
                self.change(id, |row| {
                    row.state = DeliveryState::Ready;
                    row.due = now.after(*delay);
                    row.reason = Some(reason.clone());
                    if *unordered {
                        row.ordering_keys.clear();
                    }
                });
            }
            Settlement::DeadLetter { reason } => self.dead_letter(id, reason),
            Settlement::Release if row.state == DeliveryState::Ready => {}
            Settlement::Release => {
                self.change(id, |row| {
                    row.state = DeliveryState::Ready;
                    row.due = now;
                    row.attempts = row.attempts.min(lease.attempt().saturating_sub(1));
                });
            }
        }
        SettleOutcome::Settled
    }

    fn dead_letter(&mut self, id: DeliveryId, reason: &str) {
        self.change(id, |row| {
            row.state = DeliveryState::Dead;
            row.reason = Some(reason.into());
        });
    }

    pub(super) fn retry(&mut self, id: DeliveryId, now: Tick) -> bool {
        let is_dead = self.rows.get(&id).is_some_and(|row| row.state == DeliveryState::Dead);
        let ready = |row: &mut Row| {
            row.state = DeliveryState::Ready;
            row.due = now;
            row.attempts = 0;
        };
        is_dead && self.change(id, ready).is_some()
    }

    /// Dead-letters the deliveries with these ids that are ready or leased and in one of these states. Returns their
    /// number.
    pub(super) fn dead_letter_all(&mut self, ids: &[DeliveryId], states: &[DeliveryState], reason: &str) -> u64 {
        let mut dead_lettered = 0;
        for id in ids {
            if self.rows.get(id).is_some_and(|row| row.state.is_unfinished() && states.contains(&row.state)) {
                self.dead_letter(*id, reason);
                dead_lettered += 1;
            }
        }
        dead_lettered
    }

    /// Deletes the deliveries with these ids that are in one of these states. Returns their keys.
    pub(super) fn delete(&mut self, ids: &[DeliveryId], states: &[DeliveryState]) -> Vec<EventKey> {
        let is_in = |row: &Row| states.contains(&row.state);
        let mut deleted = Vec::new();
        for id in ids {
            if self.rows.get(id).is_some_and(is_in) {
                deleted.extend(self.remove(*id).map(|row| row.key));
            }
        }
        deleted
    }

    pub(super) fn counts(&self, now: Timestamp) -> Counts {
        let mut counts = Counts::default();
        for row in self.rows.values() {
            match row.state {
                DeliveryState::Ready => counts.ready += 1,
                DeliveryState::Leased => counts.leased += 1,
                DeliveryState::Dead => counts.dead += 1,
                DeliveryState::Done => counts.done += 1,
            }
        }
        let unfinished = self.rows.values().filter(|row| row.state.is_unfinished());
        counts.oldest = unfinished.map(|row| row.accepted_at.age(now)).max();
        counts
    }

    pub(super) fn backlog(&self) -> u64 {
        self.due.len() as u64
    }

    pub(super) fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32, now: Timestamp) -> Page {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut page = Page::default();
        let mut last = after;
        let later = self.rows.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        for (examined, (id, row)) in later.enumerate() {
            if examined == EXAMINED || page.entries.len() == limit {
                page.next = last;
                break;
            }
            last = Some(*id);
            page.entries.extend(Some(entry(*id, row, now)).filter(|entry| filter.matches(entry)));
        }
        page
    }

    pub(super) fn show(&self, id: DeliveryId, now: Timestamp) -> Option<Entry> {
        let row = self.rows.get(&id)?;
        let mut entry = entry(id, row, now);
        entry.body = Some(row.body.clone());
        Some(entry)
    }

    /// Returns whether the key has a ready or leased delivery.
    pub(super) fn is_unfinished(&self, key: &EventKey) -> bool {
        matches!(self.key_state(key), KeyState::Unfinished(_))
    }

    /// Returns the keys of the deliveries that `which` selects by their event and their time of acceptance.
    pub(super) fn keys(&self, which: impl Fn(&EventKey, Timestamp) -> bool) -> Vec<EventKey> {
        self.rows.values().filter(|row| which(&row.event, row.accepted_at)).map(|row| row.key).collect()
    }

    /// Deletes the delivery with this key.
    pub(super) fn forget(&mut self, key: &EventKey) {
        if let Some(id) = self.ids.get(key).copied() {
            self.remove(id);
        }
    }

    pub(super) fn purge_done(&mut self, now: Tick, limit: u32) -> u64 {
        let over = self.done.iter().take_while(|(due, _)| *due <= now).map(|(_, id)| *id);
        let over = first(over, limit);
        self.remove_all(over)
    }

    /// Deletes done deliveries. Starts with those whose time to be kept ends first.
    pub(super) fn evict_done(&mut self, limit: u32) -> u64 {
        let evicted = first(self.done.iter().map(|(_, id)| *id), limit);
        self.remove_all(evicted)
    }

    /// Deletes the dead deliveries that were accepted at least `age` ago, smallest id first.
    pub(super) fn purge_dead(&mut self, now: Tick, age: Duration, limit: u32) -> u64 {
        let is_old = |row: &Row| row.state == DeliveryState::Dead && row.accepted_at.tick().after(age) <= now;
        let old = first(self.rows.iter().filter(|(_, row)| is_old(row)).map(|(id, _)| *id), limit);
        self.remove_all(old)
    }

    fn remove_all(&mut self, ids: Vec<DeliveryId>) -> u64 {
        ids.into_iter().filter_map(|id| self.remove(id)).count() as u64
    }

    pub(super) fn stored(&self) -> u64 {
        self.rows.len() as u64
    }
}

fn first(ids: impl Iterator<Item = DeliveryId>, limit: u32) -> Vec<DeliveryId> {
    ids.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect()
}

fn entry(id: DeliveryId, row: &Row, now: Timestamp) -> Entry {
    let mut entry = Entry::new(id, row.state, row.accepted_at.time_of_day(now), &row.head);
    entry.attempts = row.attempts;
    entry.reason.clone_from(&row.reason);
    entry.digest = Some(row.digest);
    entry
}

//! The deliveries, and the orders in which they are looked for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::super::table::{ClaimedAt, Tick};
use crate::{
    dedupe::{BodyDigest, EventKey},
    inbox::{Counts, DeliveryId, DeliveryState, Entry, Lease, Leased, NewDelivery, OrderingKey, RAN_OUT},
};

#[derive(Default)]
pub(in super::super) struct Deliveries {
    last_id: i64,
    rows: BTreeMap<DeliveryId, Row>,
    ids: HashMap<EventKey, DeliveryId>,
    /// Those that are ready or leased.
    due: BTreeSet<(Tick, DeliveryId)>,
    /// The same, by their ordering keys.
    ordering: BTreeSet<(OrderingKey, DeliveryId)>,
}

struct Row {
    key: EventKey,
    event: EventKey,
    digest: BodyDigest,
    state: DeliveryState,
    /// Ready: not to be leased before. Leased: the lease's end. Done: the end of its time.
    due: Tick,
    attempts: u32,
    token: i64,
    accepted_at: ClaimedAt,
    reason: Option<String>,
    head: String,
    body: Bytes,
    ordering_keys: Vec<OrderingKey>,
}

impl Row {
    fn is_unfinished(&self) -> bool {
        matches!(self.state, DeliveryState::Ready | DeliveryState::Leased)
    }

    fn is_held_by(&self, lease: &Lease) -> bool {
        self.state == DeliveryState::Leased && self.token == lease.token()
    }
}

/// Where a key stands.
pub(super) enum Standing {
    Unfinished(BodyDigest),
    Dead(DeliveryId, BodyDigest),
    /// Handled, or never there.
    Absent,
}

impl Deliveries {
    pub(super) fn standing(&self, key: &EventKey) -> Standing {
        let Some((id, row)) = self.ids.get(key).and_then(|id| Some((*id, self.rows.get(id)?))) else {
            return Standing::Absent;
        };
        match row.state {
            DeliveryState::Ready | DeliveryState::Leased => Standing::Unfinished(row.digest),
            DeliveryState::Dead => Standing::Dead(id, row.digest),
            DeliveryState::Done => Standing::Absent,
        }
    }

    /// Adds one, in the place of what is done under its key.
    pub(super) fn add(&mut self, new: &NewDelivery, at: ClaimedAt) {
        self.last_id += 1;
        let id = DeliveryId::new(self.last_id);
        self.put(id, new, at, at, 0);
    }

    /// Has a dead one be handled anew.
    pub(super) fn revive(&mut self, id: DeliveryId, new: &NewDelivery, now: ClaimedAt) {
        if let Some(row) = self.rows.get(&id) {
            let (accepted_at, token) = (row.accepted_at, row.token);
            self.put(id, new, accepted_at, now, token);
        }
    }

    fn put(&mut self, id: DeliveryId, new: &NewDelivery, accepted_at: ClaimedAt, due: ClaimedAt, token: i64) {
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

    /// Takes the row out of the orders, changes it, and puts it in again.
    fn change<T>(&mut self, id: DeliveryId, change: impl FnOnce(&mut Row) -> T) -> Option<T> {
        let mut row = self.take(id)?;
        let result = change(&mut row);
        self.index(id, &row);
        self.rows.insert(id, row);
        Some(result)
    }

    fn index(&mut self, id: DeliveryId, row: &Row) {
        if row.is_unfinished() {
            self.due.insert((row.due, id));
            self.ordering.extend(row.ordering_keys.iter().map(|key| (*key, id)));
        }
    }

    fn take(&mut self, id: DeliveryId) -> Option<Row> {
        let row = self.rows.remove(&id)?;
        self.due.remove(&(row.due, id));
        for key in &row.ordering_keys {
            self.ordering.remove(&(*key, id));
        }
        Some(row)
    }

    fn remove(&mut self, id: DeliveryId) -> Option<Row> {
        let row = self.take(id)?;
        self.ids.remove(&row.key);
        Some(row)
    }

    pub(super) fn lease(&mut self, now: Tick, limit: u32, time: Duration, max_attempts: u32) -> Vec<Leased> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut leased = Vec::new();
        let candidates: Vec<_> = self.due.iter().take_while(|(due, _)| *due <= now).map(|(_, id)| *id).collect();
        for id in candidates {
            if leased.len() == limit {
                break;
            }
            let Some(row) = self.rows.get(&id) else { continue };
            if row.state == DeliveryState::Leased && row.attempts >= max_attempts {
                self.bury(id, RAN_OUT);
                continue;
            }
            if row.ordering_keys.iter().any(|key| self.is_held_up(key, id, now)) {
                continue;
            }
            leased.extend(self.change(id, |row| {
                let ran_out = row.state == DeliveryState::Leased;
                row.state = DeliveryState::Leased;
                row.attempts += 1;
                row.token += 1;
                row.due = now.after(time);
                let lease = Lease::new(id, row.token, row.attempts);
                let leased = Leased::new(lease, row.head.as_str(), row.body.clone());
                if ran_out { leased.after_a_lease_that_ran_out() } else { leased }
            }));
        }
        leased
    }

    /// By one before it, or by one behind it that was leased while it was dead.
    fn is_held_up(&self, key: &OrderingKey, id: DeliveryId, now: Tick) -> bool {
        let (first, last) = (DeliveryId::new(i64::MIN), DeliveryId::new(i64::MAX));
        let mut before = self.ordering.range((*key, first)..(*key, id));
        let mut behind = self.ordering.range((*key, id)..=(*key, last));
        before.next().is_some() || behind.any(|(_, other)| *other != id && self.is_leased(*other, now))
    }

    fn is_leased(&self, id: DeliveryId, now: Tick) -> bool {
        self.rows.get(&id).is_some_and(|row| row.state == DeliveryState::Leased && row.due > now)
    }

    /// Whether the lease was held.
    fn change_held(&mut self, lease: &Lease, change: impl FnOnce(&mut Row)) -> bool {
        let held = self.is_held(lease);
        held && self.change(lease.id(), change).is_some()
    }

    fn is_held(&self, lease: &Lease) -> bool {
        self.rows.get(&lease.id()).is_some_and(|row| row.is_held_by(lease))
    }

    pub(super) fn extend(&mut self, lease: &Lease, now: Tick, time: Duration) -> bool {
        self.is_leased(lease.id(), now) && self.change_held(lease, |row| row.due = now.after(time))
    }

    pub(super) fn finish(&mut self, lease: &Lease, keep: Option<Tick>) -> bool {
        match keep {
            Some(until) => self.change_held(lease, |row| {
                row.state = DeliveryState::Done;
                row.due = until;
                row.reason = None;
            }),
            None => self.is_held(lease) && self.remove(lease.id()).is_some(),
        }
    }

    pub(super) fn postpone(&mut self, lease: &Lease, until: Tick, reason: &str) -> bool {
        self.change_held(lease, |row| {
            row.state = DeliveryState::Ready;
            row.due = until;
            row.reason = Some(reason.into());
        })
    }

    pub(super) fn bury_held(&mut self, lease: &Lease, reason: &str) -> bool {
        let held = self.is_held(lease);
        if held {
            self.bury(lease.id(), reason);
        }
        held
    }

    fn bury(&mut self, id: DeliveryId, reason: &str) {
        self.change(id, |row| {
            row.state = DeliveryState::Dead;
            row.reason = Some(reason.into());
        });
    }

    pub(super) fn give_back(&mut self, lease: &Lease, now: Tick) -> bool {
        self.change_held(lease, |row| {
            row.state = DeliveryState::Ready;
            row.due = now;
            row.attempts -= 1;
        })
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

    pub(super) fn counts(&self, now: Tick, wall: SystemTime) -> Counts {
        let mut counts = Counts::default();
        for row in self.rows.values() {
            match row.state {
                DeliveryState::Ready => counts.ready += 1,
                DeliveryState::Leased => counts.leased += 1,
                DeliveryState::Dead => counts.dead += 1,
                DeliveryState::Done => counts.done += 1,
            }
        }
        let unfinished = self.rows.values().filter(|row| row.is_unfinished());
        let oldest = unfinished.map(|row| row.accepted_at.on_the_wall(now, wall)).min();
        counts.oldest = oldest.map(|oldest| wall.duration_since(oldest).unwrap_or_default());
        counts
    }

    pub(super) fn backlog(&self) -> u64 {
        self.due.len() as u64
    }

    pub(super) fn dead(&self, after: DeliveryId, limit: u32, now: Tick, wall: SystemTime) -> Vec<Entry> {
        let later = self.rows.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        let dead = later.filter(|(_, row)| row.state == DeliveryState::Dead);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        dead.take(limit).map(|(id, row)| entry(*id, row, now, wall)).collect()
    }

    pub(super) fn show(&self, id: DeliveryId, now: Tick, wall: SystemTime) -> Option<Entry> {
        let row = self.rows.get(&id)?;
        let mut entry = entry(id, row, now, wall);
        entry.body = Some(row.body.clone());
        Some(entry)
    }

    /// Whether it is still to be handled.
    pub(super) fn is_unfinished(&self, key: &EventKey) -> bool {
        matches!(self.standing(key), Standing::Unfinished(_))
    }

    /// The keys of those that `which` chooses by their event and the time they were accepted at.
    pub(super) fn keys(&self, which: impl Fn(&EventKey, &ClaimedAt) -> bool) -> Vec<EventKey> {
        self.rows.values().filter(|row| which(&row.event, &row.accepted_at)).map(|row| row.key).collect()
    }

    /// Deletes what is dead or done under this key.
    pub(super) fn forget(&mut self, key: &EventKey) {
        if let Some(id) = self.ids.get(key).copied() {
            self.remove(id);
        }
    }

    pub(super) fn purge_done(&mut self, now: Tick, limit: u32) -> u64 {
        let over = self.rows.iter().filter(|(_, row)| row.state == DeliveryState::Done && row.due <= now);
        let over: Vec<_> = over.map(|(id, _)| *id).take(usize::try_from(limit).unwrap_or(usize::MAX)).collect();
        over.into_iter().filter_map(|id| self.remove(id)).count() as u64
    }
}

fn entry(id: DeliveryId, row: &Row, now: Tick, wall: SystemTime) -> Entry {
    let mut entry = Entry::new(id, row.state, row.accepted_at.on_the_wall(now, wall), &row.head);
    entry.attempts = row.attempts;
    entry.reason.clone_from(&row.reason);
    entry
}

//! The table of deliveries, and its indexes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    super::table::{Tick, Timestamp},
    row::Row,
};
use crate::{
    dedupe::{BodyDigest, EventKey, KeyMap, LedgerSelection},
    inbox::{Acceptance, Counts, DeliveryId, DeliveryState, NewDelivery, OrderingKey, Pause},
};

/// The deliveries of an inbox.
#[derive(Default)]
pub(in crate::store::memory) struct Deliveries {
    last_id: i64,
    pub(super) rows: BTreeMap<DeliveryId, Row>,
    ids: KeyMap<DeliveryId>,
    /// The ready and leased deliveries of each tenant, by the time at which they can be leased.
    pub(super) due: BTreeMap<Arc<str>, BTreeSet<(Tick, DeliveryId)>>,
    /// The ready and leased deliveries, by their ordering keys.
    pub(super) ordering: BTreeSet<(OrderingKey, DeliveryId)>,
    /// The done deliveries, by the time until which they are kept.
    done: BTreeSet<(Tick, DeliveryId)>,
    /// The pauses in force, with their operators.
    pub(super) pauses: BTreeMap<Pause, (String, Timestamp)>,
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
        let body = row.filter(|row| row.digest == digest && !new.is_same_as(&digest)).and_then(|row| row.body.clone());
        Acceptance::Known { digest, body }
    }

    pub(super) fn head(&self, id: DeliveryId) -> Option<String> {
        self.rows.get(&id).map(|row| row.head.clone())
    }

    /// Adds a delivery. Replaces a done delivery with the same key.
    pub(super) fn add(&mut self, new: &NewDelivery, at: Timestamp) {
        self.last_id += 1;
        self.put(DeliveryId::new(self.last_id), Row::new(new, at, at.tick()));
    }

    /// Makes a dead delivery ready again, with the new request.
    pub(super) fn revive(&mut self, id: DeliveryId, new: &NewDelivery, now: Timestamp) {
        if let Some(dead) = self.remove(id) {
            let revived = Row::new(new, dead.accepted_at, now.tick());
            // A new token, so that a late outcome of the old request does not settle the new one.
            self.put(id, Row { token: dead.token + 1, open: dead.open, history: dead.history, ..revived });
        }
    }

    fn put(&mut self, id: DeliveryId, row: Row) {
        if let Some(old) = self.ids.insert(row.key, id) {
            self.take(old);
        }
        self.index(id, &row);
        self.rows.insert(id, row);
    }

    /// Changes a row and updates the indexes.
    pub(super) fn change<T>(&mut self, id: DeliveryId, change: impl FnOnce(&mut Row) -> T) -> Option<T> {
        let mut row = self.take(id)?;
        let result = change(&mut row);
        self.index(id, &row);
        self.rows.insert(id, row);
        Some(result)
    }

    fn index(&mut self, id: DeliveryId, row: &Row) {
        if row.state.is_unfinished() {
            self.due.entry(Arc::clone(&row.tenant)).or_default().insert((row.due, id));
            self.ordering.extend(row.ordering_keys.iter().map(|key| (key.clone(), id)));
        }
        if row.state == DeliveryState::Done {
            self.done.insert((row.due, id));
        }
    }

    fn take(&mut self, id: DeliveryId) -> Option<Row> {
        let row = self.rows.remove(&id)?;
        if let Some(due) = self.due.get_mut(&row.tenant) {
            due.remove(&(row.due, id));
            if due.is_empty() {
                self.due.remove(&row.tenant);
            }
        }
        self.done.remove(&(row.due, id));
        for key in &row.ordering_keys {
            self.ordering.remove(&(key.clone(), id));
        }
        Some(row)
    }

    pub(super) fn remove(&mut self, id: DeliveryId) -> Option<Row> {
        let row = self.take(id)?;
        self.ids.remove(&row.key);
        Some(row)
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
        self.due.values().map(|due| due.len() as u64).sum()
    }

    /// Returns whether the key has a ready or leased delivery.
    pub(super) fn is_unfinished(&self, key: &EventKey) -> bool {
        matches!(self.key_state(key), KeyState::Unfinished(_))
    }

    /// Returns the keys of the selected deliveries. A window selects deliveries that were accepted within it.
    pub(super) fn keys(&self, selection: &LedgerSelection, now: Timestamp) -> Vec<EventKey> {
        let is_selected = |row: &&Row| selection.matches(&row.event, row.accepted_at.wall_time(now));
        self.rows.values().filter(is_selected).map(|row| row.key).collect()
    }

    /// Deletes the delivery with this key.
    pub(super) fn forget(&mut self, key: &EventKey) {
        if let Some(id) = self.ids.get(key).copied() {
            self.remove(id);
        }
    }

    /// Deletes done deliveries whose time is over, or their bodies alone if their history is kept for longer.
    pub(super) fn purge_done(&mut self, now: Tick, limit: u32) -> u64 {
        let over = first(self.done.iter().take_while(|(due, _)| *due <= now).map(|(_, id)| *id), limit);
        for id in &over {
            let keeps_history = self.change(*id, |row| {
                row.body = None;
                row.due = row.history_until;
                row.history_until > now
            });
            if keeps_history == Some(false) {
                self.remove(*id);
            }
        }
        over.len() as u64
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

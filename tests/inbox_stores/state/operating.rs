//! What an operator asks of the reference.

use std::time::Duration;

use tower_klikit::{
    dedupe::{Claim, EventKey},
    inbox::DeliveryState,
};

use super::{Delivery, State};

impl State {
    /// How many are ready, leased, dead and done.
    pub(crate) fn counts(&self) -> [u64; 4] {
        let mut counts = [0; 4];
        for delivery in self.deliveries.values() {
            counts[delivery.state.code() as usize] += 1;
        }
        counts
    }

    /// How long ago the oldest was accepted that waits.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let waiting = self.deliveries.values().filter(|delivery| delivery.waits());
        waiting.map(|delivery| self.now - delivery.accepted).max()
    }

    pub(crate) fn dead(&self, after: Option<i64>, limit: u32) -> Vec<i64> {
        let is_asked_for = |(id, delivery): &(&i64, &Delivery)| {
            delivery.is(DeliveryState::Dead) && after.is_none_or(|after| **id > after)
        };
        self.deliveries.iter().filter(is_asked_for).map(|(id, _)| *id).take(limit as usize).collect()
    }

    pub(crate) fn retry(&mut self, id: i64) -> bool {
        let now = self.now;
        let Some(delivery) = self.deliveries.get_mut(&id) else { return false };
        if !delivery.is(DeliveryState::Dead) {
            return false;
        }
        delivery.make_ready(now);
        delivery.attempts = 0;
        true
    }

    /// Forgets the keys that `which` chooses, by their deliveries or their ledger rows, but for what waits.
    pub(crate) fn forget(&mut self, which: impl Fn(&Claim, Duration) -> bool) -> u64 {
        let rows = self.ledger.values().filter(|row| row.until > self.now).map(|row| (&row.claim, row.claimed));
        let deliveries = self.deliveries.values().map(|delivery| (delivery.request.claim(), delivery.accepted));
        let chosen = rows.chain(deliveries).filter(|(claim, time)| which(claim, *time)).map(|(claim, _)| *claim.key());
        let mut keys: Vec<EventKey> = chosen.collect();
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| self.id_of(key).is_none_or(|id| !self.deliveries[&id].waits()));
        for key in &keys {
            if let Some(id) = self.id_of(key) {
                self.deliveries.remove(&id);
            }
            self.ledger.remove(key);
        }
        keys.len() as u64
    }

    /// What is done and whose time is up.
    pub(crate) fn is_up(&self, id: i64) -> bool {
        let delivery = &self.deliveries[&id];
        delivery.is(DeliveryState::Done) && delivery.due <= self.now
    }

    pub(crate) fn purge_done(&mut self, limit: u32) -> u64 {
        let up = self.deliveries.keys().copied().filter(|id| self.is_up(*id));
        let up: Vec<i64> = up.take(limit as usize).collect();
        up.iter().for_each(|id| drop(self.deliveries.remove(id)));
        up.len() as u64
    }
}

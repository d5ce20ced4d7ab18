//! Admin calls and purging in the reference.

use std::{collections::BTreeSet, time::Duration};

use tower_klikit::{
    dedupe::{Claim, EventKey},
    inbox::{DeliveryState, LedgerRows},
};

use super::{Delivery, ReferenceInbox};

impl ReferenceInbox {
    /// Counts the ready, leased, dead and done deliveries.
    pub(crate) fn counts(&self) -> [u64; 4] {
        let mut counts = [0; 4];
        for delivery in self.deliveries.values() {
            counts[delivery.state.code() as usize] += 1;
        }
        counts
    }

    /// Returns how long ago the oldest pending delivery was accepted.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let pending = self.deliveries.values().filter(|delivery| delivery.is_pending());
        pending.map(|delivery| self.now - delivery.accepted).max()
    }

    #[cfg(test)]
    pub(crate) fn dead(&self) -> Vec<i64> {
        let is_dead = |(_, delivery): &(&i64, &Delivery)| delivery.is(DeliveryState::Dead);
        self.deliveries.iter().filter(is_dead).map(|(id, _)| *id).collect()
    }

    pub(crate) fn dead_letter(&mut self, ids: &[i64], states: &[DeliveryState], reason: &str) -> u64 {
        let mut dead_lettered = 0;
        for id in ids {
            let Some(delivery) = self.deliveries.get_mut(id) else { continue };
            if delivery.is_pending() && states.contains(&delivery.state) {
                delivery.dead_letter(reason);
                dead_lettered += 1;
            }
        }
        dead_lettered
    }

    pub(crate) fn delete(&mut self, ids: &[i64], states: &[DeliveryState], ledger: LedgerRows) -> u64 {
        let is_chosen = |id: &&i64| self.deliveries.get(id).is_some_and(|delivery| states.contains(&delivery.state));
        let chosen: BTreeSet<i64> = ids.iter().filter(is_chosen).copied().collect();
        if ledger == LedgerRows::Delete {
            for id in &chosen {
                self.ledger.0.remove(&self.deliveries[id].key());
            }
        }
        self.remove(&chosen.into_iter().collect::<Vec<_>>())
    }

    pub(crate) fn requeue(&mut self, ids: &[i64], states: &[DeliveryState]) -> u64 {
        let now = self.now;
        let mut requeued = 0;
        for id in ids {
            let Some(delivery) = self.deliveries.get_mut(id) else { continue };
            if !delivery.is_pending() && states.contains(&delivery.state) && delivery.has_body {
                delivery.make_ready(now);
                delivery.attempts = 0;
                requeued += 1;
            }
        }
        requeued
    }

    /// Returns every key whose delivery or ledger row `chosen` selects, except keys of pending deliveries.
    pub(crate) fn forgettable(&self, chosen: impl Fn(&Claim, Duration) -> bool) -> Vec<EventKey> {
        let rows = self.ledger.0.values().filter(|row| row.kept_until > self.now);
        let rows = rows.map(|row| (&row.claim, row.claimed_at));
        let deliveries = self.deliveries.values().map(|delivery| (delivery.request.claim(), delivery.accepted));
        let chosen = rows.chain(deliveries).filter(|(claim, time)| chosen(claim, *time));
        let mut keys: Vec<EventKey> = chosen.map(|(claim, _)| *claim.key()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| self.id_of(key).is_none_or(|id| !self.deliveries[&id].is_pending()));
        keys
    }

    /// Forgets the keys that `chosen` selects, with their deliveries and ledger rows.
    pub(crate) fn forget(&mut self, chosen: impl Fn(&Claim, Duration) -> bool) -> u64 {
        let keys = self.forgettable(chosen);
        for key in &keys {
            if let Some(id) = self.id_of(key) {
                self.deliveries.remove(&id);
            }
            self.ledger.0.remove(key);
        }
        keys.len() as u64
    }

    /// Returns whether the delivery is done and has passed its time to be kept, with its body if it has one.
    pub(crate) fn is_over(&self, id: i64) -> bool {
        let delivery = &self.deliveries[&id];
        delivery.is(DeliveryState::Done) && delivery.due <= self.now
    }

    pub(crate) fn purge_done(&mut self, limit: u32) -> u64 {
        let over = self.deliveries.keys().copied().filter(|id| self.is_over(*id));
        let over: Vec<i64> = over.take(limit as usize).collect();
        for id in &over {
            let delivery = self.deliveries.get_mut(id).expect("the delivery is done");
            delivery.remove_body();
            if delivery.history_until <= self.now {
                self.deliveries.remove(id);
            }
        }
        over.len() as u64
    }

    /// Returns the done deliveries, in the order in which their times end.
    pub(crate) fn kept(&self) -> Vec<i64> {
        let is_done = |(_, delivery): &(&i64, &Delivery)| delivery.is(DeliveryState::Done);
        let mut kept: Vec<i64> = self.deliveries.iter().filter(is_done).map(|(id, _)| *id).collect();
        kept.sort_by_key(|id| self.deliveries[id].due);
        kept
    }

    /// Returns the dead deliveries that were accepted at least `age` ago, smallest id first.
    pub(crate) fn old_dead(&self, age: Duration) -> Vec<i64> {
        let is_old =
            |(_, delivery): &(&i64, &Delivery)| delivery.is(DeliveryState::Dead) && self.now - delivery.accepted >= age;
        self.deliveries.iter().filter(is_old).map(|(id, _)| *id).collect()
    }

    pub(crate) fn purge_dead(&mut self, age: Duration, limit: u32) -> u64 {
        let old: Vec<i64> = self.old_dead(age).into_iter().take(limit as usize).collect();
        self.remove(&old)
    }

    /// Deletes these deliveries and keeps their ledger rows.
    pub(crate) fn remove(&mut self, ids: &[i64]) -> u64 {
        ids.iter().filter(|id| self.deliveries.remove(id).is_some()).count() as u64
    }

    /// Evicts kept deliveries.
    #[cfg(test)]
    pub(crate) fn evict_done(&mut self, limit: u32) -> u64 {
        let evicted: Vec<i64> = self.kept().into_iter().take(limit as usize).collect();
        self.remove(&evicted)
    }
}

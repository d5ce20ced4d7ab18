//! What a worker asks of the reference.

use std::time::Duration;

use tower_klikit::inbox::{DeliveryId, DeliveryState, Lease};

use super::{Delivery, State};

impl State {
    /// Whether another holds one of its keys: one before it that waits, or one behind it that somebody has.
    pub(crate) fn is_held_back(&self, id: i64) -> bool {
        let delivery = &self.deliveries[&id];
        let holds = |(other, rival): (&i64, &Delivery)| {
            let is_leased = rival.is(DeliveryState::Leased) && rival.due > self.now;
            rival.shares_a_key_with(delivery) && (*other < id && rival.waits() || *other > id && is_leased)
        };
        self.deliveries.iter().any(holds)
    }

    /// Those that may be leased or buried, the longest due first.
    pub(crate) fn due(&self) -> Vec<i64> {
        let is_due = |id: &i64| {
            let delivery = &self.deliveries[id];
            delivery.waits() && delivery.due <= self.now && !self.is_held_back(*id)
        };
        let mut due: Vec<i64> = self.deliveries.keys().copied().filter(is_due).collect();
        due.sort_by_key(|id| self.deliveries[id].due);
        due
    }

    /// Whether it is to be buried, should it be due.
    pub(crate) fn is_to_be_buried(&self, id: i64, max_attempts: u32) -> bool {
        let delivery = &self.deliveries[&id];
        delivery.is(DeliveryState::Leased) && delivery.attempts >= max_attempts
    }

    pub(crate) fn lease_these(&mut self, ids: &[i64], time: Duration) -> Vec<Lease> {
        let until = self.now + time;
        let mut lease = |id: &i64| {
            let delivery = self.deliveries.get_mut(id).expect("it is due");
            delivery.attempts += 1;
            delivery.token += 1;
            delivery.ran_out = delivery.is(DeliveryState::Leased);
            (delivery.state, delivery.due) = (DeliveryState::Leased, until);
            Lease::new(DeliveryId::new(*id), delivery.token, delivery.attempts)
        };
        ids.iter().map(&mut lease).collect()
    }

    pub(crate) fn bury_those_who_died(&mut self, ids: &[i64]) {
        for id in ids {
            self.deliveries.get_mut(id).expect("it is due").state = DeliveryState::Dead;
        }
    }

    pub(crate) fn lease(&mut self, limit: u32, time: Duration, max_attempts: u32) -> Vec<Lease> {
        let due = self.due();
        let (died, due): (Vec<_>, Vec<_>) = due.into_iter().partition(|id| self.is_to_be_buried(*id, max_attempts));
        self.bury_those_who_died(&died);
        self.lease_these(&due[..due.len().min(limit as usize)], time)
    }

    /// What this lease is on, if it is held.
    pub(crate) fn held(&mut self, lease: &Lease) -> Option<&mut Delivery> {
        let delivery = self.deliveries.get_mut(&lease.id().get())?;
        (delivery.is(DeliveryState::Leased) && delivery.token == lease.token()).then_some(delivery)
    }

    pub(crate) fn extend(&mut self, lease: &Lease, time: Duration) -> bool {
        let now = self.now;
        self.held(lease).filter(|held| held.due > now).map(|held| held.due = now + time).is_some()
    }

    pub(crate) fn finish(&mut self, lease: &Lease, keep: Duration) -> bool {
        let until = self.now + keep;
        let Some(delivery) = self.held(lease) else { return false };
        (delivery.state, delivery.due) = (DeliveryState::Done, until);
        if keep.is_zero() {
            self.deliveries.remove(&lease.id().get());
        }
        true
    }

    pub(crate) fn postpone(&mut self, lease: &Lease, pause: Duration, reason: &str) -> bool {
        let due = self.now + pause;
        let Some(delivery) = self.held(lease) else { return false };
        delivery.make_ready(due);
        delivery.reason = Some(reason.into());
        true
    }

    pub(crate) fn bury(&mut self, lease: &Lease, reason: &str) -> bool {
        let Some(delivery) = self.held(lease) else { return false };
        delivery.state = DeliveryState::Dead;
        delivery.reason = Some(reason.into());
        true
    }

    pub(crate) fn give_back(&mut self, lease: &Lease) -> bool {
        let now = self.now;
        let Some(delivery) = self.held(lease) else { return false };
        delivery.make_ready(now);
        delivery.attempts -= 1;
        true
    }
}

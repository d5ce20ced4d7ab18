//! Leasing, starting and extending in the reference.

use std::time::Duration;

use tower_klikit::inbox::{DeadLettered, DeliveryId, DeliveryState, LEASE_EXPIRED, Lease, LeaseRequest, OrderingKey};

use super::{Delivery, ReferenceInbox};

impl ReferenceInbox {
    /// Returns whether another delivery with one of its keys blocks it: an earlier pending one, or a later one with an unexpired lease.
    pub(crate) fn is_blocked(&self, id: i64) -> bool {
        let delivery = &self.deliveries[&id];
        let blocks = |(other, rival): (&i64, &Delivery)| {
            let is_leased = rival.is(DeliveryState::Leased) && rival.due > self.now;
            rival.shares_a_key_with(delivery) && (*other < id && rival.is_pending() || *other > id && is_leased)
        };
        self.deliveries.iter().any(blocks)
    }

    /// Returns the deliveries to lease or dead-letter, longest due first.
    pub(crate) fn due(&self) -> Vec<i64> {
        let is_due = |id: &i64| {
            let delivery = &self.deliveries[id];
            delivery.is_pending() && delivery.due <= self.now && !self.is_paused(delivery) && !self.is_blocked(*id)
        };
        let mut due: Vec<i64> = self.deliveries.keys().copied().filter(is_due).collect();
        due.sort_by_key(|id| self.deliveries[id].due);
        due
    }

    /// Returns whether a delivery that is due is dead-lettered instead of leased.
    pub(crate) fn is_exhausted(&self, id: i64, max_attempts: u32) -> bool {
        let delivery = &self.deliveries[&id];
        delivery.is(DeliveryState::Leased) && delivery.attempts >= max_attempts
    }

    /// Returns whether the delivery is READY although its current lease is held: it was settled, and the response was lost.
    pub(crate) fn is_settling(&self, id: i64, request: &LeaseRequest<'_>) -> bool {
        let delivery = &self.deliveries[&id];
        let is_own = |held: &Lease| held.id().get() == id && held.token() == delivery.token;
        delivery.is(DeliveryState::Ready) && request.held.iter().any(is_own)
    }

    /// Extends the held leases that have expired.
    pub(crate) fn extend_held(&mut self, request: &LeaseRequest<'_>) {
        let now = self.now;
        for lease in request.held {
            if self.own(lease).is_some_and(|own| own.has_expired(now)) {
                self.extend(lease, request.duration);
            }
        }
    }

    /// Leases these deliveries. The first ones are for the free handlers. A delivery of a held lease begins no attempt.
    pub(crate) fn lease_these(&mut self, ids: &[i64], request: &LeaseRequest<'_>) -> Vec<Lease> {
        let until = self.now + request.duration;
        let mut lease = |(position, id): (usize, &i64)| {
            let delivery = self.deliveries.get_mut(id).expect("the delivery is due");
            let begins = request.held.iter().all(|held| held.id().get() != *id);
            let starts = position < request.free_handlers as usize;
            let is_last = delivery.attempts.saturating_add(1) >= request.max_attempts;
            delivery.attempt_counted = begins && starts && delivery.is(DeliveryState::Ready) && !is_last;
            let attempt = delivery.attempts.saturating_add(u32::from(begins));
            if begins {
                delivery.end_unknown();
            }
            delivery.token += 1;
            if delivery.attempt_counted {
                delivery.attempts = attempt;
                delivery.open(request.worker, self.now);
            }
            delivery.after_expired_lease = delivery.is(DeliveryState::Leased);
            (delivery.state, delivery.due) = (DeliveryState::Leased, until);
            Lease::new(DeliveryId::new(*id), delivery.token, attempt)
        };
        ids.iter().enumerate().map(&mut lease).collect()
    }

    /// Returns whether the delivery may be leased ahead of need: it is READY and has attempts left.
    pub(crate) fn may_be_leased_ahead(&self, id: i64, max_attempts: u32) -> bool {
        let delivery = &self.deliveries[&id];
        delivery.is(DeliveryState::Ready) && delivery.attempts < max_attempts
    }

    /// Removes the deliveries that need a free handler and get none.
    #[cfg(test)]
    pub(crate) fn leave_out(&self, due: Vec<i64>, request: &LeaseRequest<'_>) -> Vec<i64> {
        let mut left = Vec::new();
        for id in due {
            if left.len() < request.free_handlers as usize || self.may_be_leased_ahead(id, request.max_attempts) {
                left.push(id);
            }
        }
        left
    }

    /// Dead-letters these deliveries, whose leases expired on the last attempt.
    pub(crate) fn dead_letter_these(&mut self, ids: &[i64]) -> Vec<DeadLettered> {
        let mut dead_letter = |id: &i64| {
            let delivery = self.deliveries.get_mut(id).expect("the delivery is due");
            delivery.dead_letter(LEASE_EXPIRED);
            // The attempt stays open as well: its worker may still report an outcome.
            let open = delivery.open.clone();
            delivery.end_unknown();
            delivery.open = open;
            DeadLettered {
                id: DeliveryId::new(*id),
                attempts: delivery.attempts,
                head: Some(delivery.request.head().into()),
                reason: LEASE_EXPIRED.into(),
            }
        };
        ids.iter().map(&mut dead_letter).collect()
    }

    #[cfg(test)]
    pub(crate) fn lease(&mut self, request: &LeaseRequest<'_>) -> (Vec<Lease>, Vec<DeadLettered>) {
        self.extend_held(request);
        let due = self.due();
        self.lease_due(due, request)
    }

    /// Leases or dead-letters these deliveries, and shares the leases between the tenants.
    #[cfg(test)]
    pub(crate) fn lease_due(&mut self, due: Vec<i64>, request: &LeaseRequest<'_>) -> (Vec<Lease>, Vec<DeadLettered>) {
        let (spent, due): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|id| self.is_exhausted(*id, request.max_attempts));
        let shared = self.share(due, request);
        self.lease_in_order(spent.into_iter().chain(shared).collect(), request)
    }

    /// Leases or dead-letters these deliveries, in this order.
    #[cfg(test)]
    pub(crate) fn lease_in_order(
        &mut self,
        due: Vec<i64>,
        request: &LeaseRequest<'_>,
    ) -> (Vec<Lease>, Vec<DeadLettered>) {
        let (spent, due): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|id| self.is_exhausted(*id, request.max_attempts));
        let dead_lettered = self.dead_letter_these(&spent);
        let mut due = self.leave_out(due, request);
        due.truncate(request.limit as usize);
        (self.lease_these(&due, request), dead_lettered)
    }

    /// Returns the delivery if this lease is its current one.
    pub(crate) fn own(&mut self, lease: &Lease) -> Option<&mut Delivery> {
        let delivery = self.deliveries.get_mut(&lease.id().get())?;
        (delivery.is(DeliveryState::Leased) && delivery.token == lease.token()).then_some(delivery)
    }

    pub(crate) fn start(&mut self, lease: &Lease, worker: &str) -> bool {
        let now = self.now;
        let start = |own: &mut Delivery| {
            own.attempts = own.attempts.max(lease.attempt());
            own.open(worker, now);
        };
        self.own(lease).map(start).is_some()
    }

    pub(crate) fn extend(&mut self, lease: &Lease, duration: Duration) -> bool {
        let until = self.now + duration;
        self.own(lease).map(|own| own.due = until).is_some()
    }

    pub(crate) fn ordering_keys(&self, id: i64) -> Vec<OrderingKey> {
        self.deliveries[&id].request.ordering_keys().to_vec()
    }
}

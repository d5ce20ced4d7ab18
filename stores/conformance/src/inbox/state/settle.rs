//! Settling in the reference.

use tower_klikit::inbox::{DeliveryState, EXPIRED, Lease, SettleOutcome, Settlement};

use super::{Delivery, ReferenceInbox};

impl ReferenceInbox {
    pub(crate) fn settle(&mut self, lease: &Lease, settlement: &Settlement) -> SettleOutcome {
        let now = self.now;
        let Some(delivery) = self.deliveries.get_mut(&lease.id().get()) else { return SettleOutcome::Gone };
        if delivery.token != lease.token() {
            return SettleOutcome::Superseded;
        }
        if delivery.is(DeliveryState::Done) {
            return SettleOutcome::Settled;
        }
        match settlement {
            Settlement::Done { status, .. } => delivery.end(lease.attempt().max(1), now, *status, None),
            Settlement::Reschedule { status, reason, .. } | Settlement::DeadLetter { status, reason } => {
                delivery.end(lease.attempt().max(1), now, *status, Some(reason));
            }
            Settlement::Expire | Settlement::Release => drop(delivery.take_open()),
        }
        if delivery.is(DeliveryState::Dead) && settlement.leaves_dead(delivery.reason.as_deref()) {
            return SettleOutcome::Settled;
        }
        match settlement {
            Settlement::Done { keep, history, .. } if keep.is_zero() && history.is_zero() => {
                self.deliveries.remove(&lease.id().get());
            }
            Settlement::Done { keep, history, .. } => {
                (delivery.state, delivery.reason) = (DeliveryState::Done, None);
                (delivery.due, delivery.history_until) = (now + *keep, now + *history);
                if keep.is_zero() {
                    delivery.remove_body();
                }
            }
            Settlement::Reschedule { delay, reason, unordered, .. } => {
                delivery.make_ready(now + *delay);
                delivery.reason = Some(reason.clone());
                if *unordered {
                    delivery.request = delivery.request.clone().with_ordering_keys(&[]);
                }
            }
            Settlement::DeadLetter { reason, .. } => delivery.dead_letter(reason),
            Settlement::Expire => {
                delivery.take_off(lease);
                delivery.dead_letter(EXPIRED);
            }
            Settlement::Release if delivery.is(DeliveryState::Ready) => {}
            Settlement::Release => {
                delivery.make_ready(now);
                delivery.take_off(lease);
            }
        }
        SettleOutcome::Settled
    }
}

impl Delivery {
    /// Takes the attempt of a lease off.
    fn take_off(&mut self, lease: &Lease) {
        self.attempts = self.attempts.min(lease.attempt().saturating_sub(1));
    }

    pub(crate) fn dead_letter(&mut self, reason: &str) {
        self.state = DeliveryState::Dead;
        self.reason = Some(reason.into());
    }

    /// Removes the body of a done delivery, whose history is still kept.
    pub(crate) fn remove_body(&mut self) {
        self.has_body = false;
        self.due = self.history_until;
    }
}

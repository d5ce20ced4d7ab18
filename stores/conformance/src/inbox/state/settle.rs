//! Settling in the reference.

use tower_klikit::inbox::{DeliveryState, LEASE_EXPIRED, Lease, SettleOutcome, Settlement};

use super::ReferenceInbox;

impl ReferenceInbox {
    pub(crate) fn settle(&mut self, lease: &Lease, settlement: &Settlement) -> SettleOutcome {
        let now = self.now;
        let Some(delivery) = self.deliveries.get_mut(&lease.id().get()) else { return SettleOutcome::Gone };
        if delivery.token != lease.token() {
            return SettleOutcome::Superseded;
        }
        let fails = matches!(settlement, Settlement::Reschedule { .. } | Settlement::Release);
        let is_dead_for_good = delivery.is(DeliveryState::Dead) && delivery.reason.as_deref() != Some(LEASE_EXPIRED);
        if delivery.is(DeliveryState::Done) || (fails && is_dead_for_good) {
            return SettleOutcome::Settled;
        }
        match settlement {
            Settlement::Done { keep } if keep.is_zero() => {
                self.deliveries.remove(&lease.id().get());
            }
            Settlement::Done { keep } => {
                (delivery.state, delivery.due, delivery.reason) = (DeliveryState::Done, now + *keep, None);
            }
            Settlement::Reschedule { delay, reason, unordered } => {
                delivery.make_ready(now + *delay);
                delivery.reason = Some(reason.clone());
                if *unordered {
                    delivery.request = delivery.request.clone().with_ordering_keys(&[]);
                }
            }
            Settlement::DeadLetter { reason } => {
                delivery.state = DeliveryState::Dead;
                delivery.reason = Some(reason.clone());
            }
            Settlement::Release if delivery.is(DeliveryState::Ready) => {}
            Settlement::Release => {
                delivery.make_ready(now);
                delivery.attempts = delivery.attempts.min(lease.attempt().saturating_sub(1));
            }
        }
        SettleOutcome::Settled
    }
}

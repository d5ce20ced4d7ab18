//! Settling.

use tower_klikit::inbox::{DeliveryState, Lease, SettleOutcome, Settlement};

use super::State;

impl State {
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

//! Pauses in the reference.

use tower_klikit::inbox::{DeliveryState, Pause};

use super::{Delivery, ReferenceInbox};

impl Delivery {
    pub(crate) fn is_selected_by(&self, pause: &Pause) -> bool {
        pause.matches(self.request.tenant(), self.request.event_type())
    }
}

impl ReferenceInbox {
    pub(crate) fn is_paused(&self, delivery: &Delivery) -> bool {
        self.pauses.keys().any(|pause| delivery.is_selected_by(pause))
    }

    /// Pauses the deliveries, and releases those that are leased and have not started.
    pub(crate) fn pause(&mut self, pause: &Pause, operator: &str) -> u64 {
        let now = self.now;
        self.pauses.entry(pause.clone()).or_insert_with(|| (operator.into(), now));
        let is_waiting = |d: &&mut Delivery| d.is(DeliveryState::Leased) && d.open.is_none() && d.is_selected_by(pause);
        let mut released = 0;
        for delivery in self.deliveries.values_mut().filter(is_waiting) {
            delivery.make_ready(now);
            released += 1;
        }
        released
    }

    pub(crate) fn resume(&mut self, pause: &Pause) -> bool {
        self.pauses.remove(pause).is_some()
    }
}

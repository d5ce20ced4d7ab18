//! Calls that settle deliveries.

use std::time::Duration;

use tower_klikit::inbox::{DeliveryId, InboxStore, Lease, NewDelivery, SettleOutcome, Settlement};

use super::TestedInbox;
use crate::inbox::fixtures::delivery;

impl<S: InboxStore, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    /// Settles a current lease.
    pub(crate) async fn settle(&self, lease: &Lease, settlement: Settlement) {
        self.settles(lease, settlement, SettleOutcome::Settled, "the lease is current").await;
    }

    pub(crate) async fn settles(&self, lease: &Lease, settlement: Settlement, expected: SettleOutcome, why: &str) {
        let why = format!("{settlement:?}, where {why}");
        let outcomes = self.answer("settle", self.store.settle(&[(*lease, settlement)]).await);
        self.same("settle", &outcomes, &vec![expected], &why);
    }

    /// Accepts a delivery, leases it and starts its attempt. No other delivery may be due.
    pub(crate) async fn begin(&self, new: &NewDelivery) -> Lease {
        self.accept(new).await;
        self.lease_one(new, "the delivery was accepted, and no other can be leased").await
    }

    /// Accepts, leases and dead-letters a delivery.
    pub(crate) async fn make_dead(&self, new: &NewDelivery) -> Lease {
        let lease = self.begin(new).await;
        self.settle(&lease, dead_letter()).await;
        lease
    }

    /// Accepts, leases and handles a delivery.
    pub(crate) async fn handle(&self, new: &NewDelivery, keep: Duration) -> Lease {
        let lease = self.begin(new).await;
        self.settle(&lease, done(keep)).await;
        lease
    }

    /// Accepts and handles a delivery, and returns its id.
    pub(crate) async fn next_id(&self, id: &str) -> DeliveryId {
        self.handle(&delivery("warung", id, "body"), Duration::ZERO).await.id()
    }
}

pub(crate) fn done(keep: Duration) -> Settlement {
    Settlement::Done { keep, history: Duration::ZERO, status: None }
}

pub(crate) fn reschedule(delay: Duration) -> Settlement {
    Settlement::Reschedule { delay, reason: "rescheduled".into(), unordered: false, status: None }
}

pub(crate) fn reschedule_unordered(delay: Duration) -> Settlement {
    Settlement::Reschedule { delay, reason: "rescheduled".into(), unordered: true, status: None }
}

pub(crate) fn dead_letter() -> Settlement {
    Settlement::DeadLetter { reason: "dead-lettered".into(), status: None }
}

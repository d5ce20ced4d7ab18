//! Rules for extending leases.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryId, DeliveryState, InboxAdmin, InboxStore, Lease, LeaseRequest},
};

use super::{
    delivery,
    tested::{KEEP, LEASE, MARGIN, REQUEST, TestedInbox, dead_letter, done, reschedule},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn extended_lease_counts_from_the_extension(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.begin(&new).await;
        let own = "the lease is current";
        for _ in 0..3 {
            self.advance(LEASE - MARGIN).await;
            self.extend(&lease, LEASE, own).await;
        }
        self.advance(LEASE - MARGIN).await;
        self.lease_nothing("the lease was extended").await;
        self.show(lease.id(), &new, DeliveryState::Leased, 1, "an extension does not count as an attempt").await;
        self.extend(&lease, KEEP, own).await;
        self.advance(KEEP - MARGIN).await;
        self.lease_nothing("the lease was extended for longer").await;
        self.extend(&lease, LEASE, own).await;
        self.extend(&lease, KEEP, own).await;
        self.extend(&lease, LEASE, own).await;
        self.advance(LEASE + MARGIN).await;
        let next = self.lease_one(&new, "the last extension shortened the lease").await;
        self.same("lease", &next.attempt(), &2, "an extension does not count as an attempt");
        self.cannot_extend(&lease, "another worker has leased the delivery").await;
    }

    pub(super) async fn expired_lease_can_be_extended(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.begin(&new).await;
        for _ in 0..2 {
            self.advance(LEASE + MARGIN).await;
            self.extend(&lease, LEASE, "the lease has expired, and no other worker has leased the delivery").await;
            self.lease_nothing("the lease was extended").await;
            self.advance(LEASE - MARGIN).await;
            self.lease_nothing("the extended lease has not expired").await;
        }
        self.show(lease.id(), &new, DeliveryState::Leased, 1, "an extension does not count as an attempt").await;
        self.advance(2 * MARGIN).await;
        let next = self.lease_one(&new, "the extended lease has expired").await;
        self.cannot_extend(&lease, "another worker has leased the delivery").await;
        self.advance(LEASE + MARGIN).await;
        self.cannot_extend(&lease, "another worker has leased the delivery, although that lease has expired").await;
        self.extend(&next, LEASE, "the lease has expired, and no other worker has leased the delivery").await;
        self.settle(&next, done(Duration::ZERO)).await;
    }

    pub(super) async fn settled_delivery_is_not_extended(&self) {
        let all = ["ready", "dead", "expired", "kept", "gone"].map(|id| delivery("warung", id, "body"));
        self.accept_all(all.each_ref()).await;
        let leases = self.lease(all.each_ref(), "the deliveries were accepted").await;
        let [ready, dead, expired, kept, gone] = &leases;
        self.settle(ready, reschedule(KEEP)).await;
        self.settle(dead, dead_letter()).await;
        self.settle(kept, done(KEEP)).await;
        self.settle(gone, done(Duration::ZERO)).await;
        self.advance(LEASE + MARGIN).await;
        let dead_lettered = self.try_lease(&LeaseRequest { max_attempts: 1, ..REQUEST }).await.dead_lettered;
        self.same("lease", &dead_lettered.len(), &1, "one lease has expired on the last attempt");
        self.extend_all(&leases, LEASE, &[false; 5], "none of these is leased any more").await;
        let states = [DeliveryState::Ready, DeliveryState::Dead, DeliveryState::Dead, DeliveryState::Done];
        for ((lease, new), state) in [ready, dead, expired, kept].into_iter().zip(&all).zip(states) {
            self.show(lease.id(), new, state, 1, "the delivery is not leased any more").await;
        }
        self.lease_nothing("one delivery is not due, the others are dead or handled").await;
    }

    pub(super) async fn extends_many_leases_in_order(&self) {
        self.extend_all(&[], LEASE, &[], "there are no leases").await;
        let all = ["a", "b", "c", "d", "e"].map(|id| delivery("warung", id, "body"));
        let lost = self.begin(&all[0]).await;
        self.advance(LEASE + MARGIN).await;
        self.accept_all([&all[1], &all[2], &all[3], &all[4]]).await;
        let [taken, b, c, d, e] = self.lease(all.each_ref(), "one lease has expired, the others are new").await;
        self.settle(&d, dead_letter()).await;
        self.advance(LEASE - MARGIN).await;
        let missing = Lease::new(DeliveryId::new(e.id().get() + 1), e.token(), 1);
        let why = "the second lease was taken over, the fourth has no delivery, and the delivery of the sixth is dead";
        let mixed = [b, lost, taken, missing, c, d, e];
        self.extend_all(&mixed, LEASE, &[true, false, true, false, true, false, true], why).await;
        let reversed: Vec<Lease> = mixed.into_iter().rev().collect();
        self.extend_all(&reversed, LEASE, &[true, false, true, false, true, false, true], why).await;
        let reordered = [lost, missing, b, c, taken, e, d];
        self.extend_all(&reordered, LEASE, &[false, false, true, true, true, true, false], why).await;
        self.advance(2 * MARGIN).await;
        self.lease_nothing("the leases were extended").await;
        self.counts([0, 4, 1, 0], "four deliveries are leased, and one is dead").await;
    }
}

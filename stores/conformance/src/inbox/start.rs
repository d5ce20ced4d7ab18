//! Rules for `start`, which counts an attempt when its handler starts.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryId, DeliveryState, InboxAdmin, InboxStore, Lease, LeaseRequest, Settlement},
};

use super::{
    delivery,
    tested::{AHEAD, KEEP, LEASE, MARGIN, REQUEST, SECOND, TestedInbox, dead_letter, done, reschedule},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn start_counts_the_attempt_once(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept(&new).await;
        for attempt in 1..4 {
            let [lease] = self.lease_as(&AHEAD, [&new], "the delivery is due").await;
            self.same("lease", &lease.attempt(), &attempt, "the earlier attempts were started, and failed");
            for _ in 0..3 {
                self.start(&lease).await;
                self.show(lease.id(), &new, DeliveryState::Leased, attempt, "an attempt counts once").await;
            }
            let earlier = Lease::new(lease.id(), lease.token(), 1);
            self.start(&earlier).await;
            self.show(lease.id(), &new, DeliveryState::Leased, attempt, "starting never lowers the count").await;
            self.settle(&lease, reschedule(Duration::ZERO)).await;
        }
        let lease = self.lease_one(&new, "the delivery is due").await;
        self.start(&lease).await;
        self.show(lease.id(), &new, DeliveryState::Leased, 4, "the lease counted the attempt").await;
    }

    pub(super) async fn start_does_not_extend_the_lease(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept(&new).await;
        let [lease] = self.lease_as(&AHEAD, [&new], "the delivery was accepted").await;
        self.advance(LEASE - MARGIN).await;
        self.start(&lease).await;
        self.lease_nothing("the lease has not expired").await;
        self.extend(&lease, LEASE, "the lease is current").await;
        self.show(lease.id(), &new, DeliveryState::Leased, 1, "an extension does not change the attempts").await;
        self.advance(LEASE - MARGIN).await;
        self.start(&lease).await;
        self.advance(2 * MARGIN).await;
        self.show(lease.id(), &new, DeliveryState::Leased, 1, "the lease has expired, and the attempt counts").await;
        let why = "the lease has expired, and starting does not extend it";
        let [next] = self.lease_as(&REQUEST, [&new], why).await;
        self.same("lease", &next.attempt(), &2, "the first attempt has started");
        self.show(next.id(), &new, DeliveryState::Leased, 1, "the second attempt has not started").await;
        self.advance(LEASE + MARGIN).await;
        self.starts(&[next], &[true], "the lease has expired, and no other worker has leased the delivery").await;
        self.show(next.id(), &new, DeliveryState::Leased, 2, "the second attempt has started").await;
        let [third] = self.lease_as(&REQUEST, [&new], why).await;
        self.same("lease", &third.attempt(), &3, "the second attempt has started");
    }

    pub(super) async fn start_is_fenced_by_the_token(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept(&new).await;
        let [lost] = self.lease_as(&AHEAD, [&new], "the delivery was accepted").await;
        self.advance(LEASE + MARGIN).await;
        let [lease] = self.lease_as(&REQUEST, [&new], "the lease before has expired").await;
        let foreign = [lost.token(), lease.token() + 1, i64::MIN, i64::MAX];
        let foreign = foreign.map(|token| Lease::new(lease.id(), token, 7));
        for foreign in &foreign {
            self.cannot_start(foreign, "the delivery has another token").await;
            self.show(lease.id(), &new, DeliveryState::Leased, 0, "the delivery has another token").await;
        }
        self.start(&lease).await;
        for foreign in &foreign {
            self.cannot_start(foreign, "the delivery has another token").await;
        }
        self.show(lease.id(), &new, DeliveryState::Leased, 1, "the attempt was started once").await;
        self.advance(LEASE + MARGIN).await;
        let why = "the delivery has another token, although the lease has expired";
        self.cannot_start(&foreign[0], why).await;
        self.show(lease.id(), &new, DeliveryState::Leased, 1, why).await;
    }

    pub(super) async fn unleased_delivery_is_not_started(&self) {
        let new = delivery("warung", "expired", "body");
        let expired = self.begin(&new).await;
        self.advance(LEASE + MARGIN).await;
        let last = LeaseRequest { max_attempts: 1, ..REQUEST };
        self.same("lease", &self.try_lease(&last).await.dead_lettered.len(), &1, "the lease has expired");
        let all = ["released", "failed", "dead", "retried", "kept", "gone"].map(|id| delivery("warung", id, "body"));
        self.accept_all(all.each_ref()).await;
        let leases = self.lease_as(&AHEAD, all.each_ref(), "the deliveries were accepted").await;
        let [released, failed, dead, retried, kept, gone] = &leases;
        self.settle(released, Settlement::Release).await;
        self.settle(failed, reschedule(KEEP)).await;
        self.settle(dead, dead_letter()).await;
        self.settle(retried, dead_letter()).await;
        self.advance(SECOND).await;
        self.retry(retried.id()).await;
        self.settle(kept, done(KEEP)).await;
        self.settle(gone, done(Duration::ZERO)).await;
        let missing = Lease::new(DeliveryId::new(gone.id().get() + 1), gone.token(), 1);
        let states = [
            (&expired, &new, DeliveryState::Dead, 1),
            (released, &all[0], DeliveryState::Ready, 0),
            (failed, &all[1], DeliveryState::Ready, 0),
            (dead, &all[2], DeliveryState::Dead, 0),
            (retried, &all[3], DeliveryState::Ready, 0),
            (kept, &all[4], DeliveryState::Done, 0),
        ];
        for (lease, new, state, attempts) in states {
            let later = Lease::new(lease.id(), lease.token(), 7);
            self.starts(&[*lease, later], &[false; 2], "the delivery is not leased any more").await;
            self.show(lease.id(), new, state, attempts, "the delivery is not leased any more").await;
        }
        self.starts(&[*gone, missing], &[false; 2], "one delivery was handled, and the other never existed").await;
        self.show_nothing(gone.id(), "the delivery was handled").await;
        self.counts([3, 0, 2, 1], "starting changes no delivery that is not leased").await;
        self.lease([&all[0], &all[3]], "these were released and retried, and are due").await;
    }

    pub(super) async fn starts_many_leases_in_order(&self) {
        self.starts(&[], &[], "there are no leases").await;
        let all = ["a", "b", "c", "d", "e"].map(|id| delivery("warung", id, "body"));
        let lost = self.begin(&all[0]).await;
        self.advance(LEASE + MARGIN).await;
        self.accept_all([&all[1], &all[2], &all[3], &all[4]]).await;
        let request = LeaseRequest { free_handlers: 1, ..REQUEST };
        let why = "one lease has expired, the others are new";
        let [taken, b, c, d, e] = self.lease_as(&request, all.each_ref(), why).await;
        self.settle(&d, dead_letter()).await;
        let missing = Lease::new(DeliveryId::new(e.id().get() + 1), e.token(), 1);
        let why = "the second lease was taken over, the fourth has no delivery, and the delivery of the sixth is dead";
        let mixed = [b, lost, taken, missing, c, d];
        self.starts(&mixed, &[true, false, true, false, true, false], why).await;
        let expected = [(taken, 2), (b, 1), (c, 1), (d, 0), (e, 0)];
        for ((lease, attempts), new) in expected.into_iter().zip(&all) {
            let state = if lease.id() == d.id() { DeliveryState::Dead } else { DeliveryState::Leased };
            self.show(lease.id(), new, state, attempts, why).await;
        }
        let reordered = [lost, missing, e, c, taken, b];
        self.starts(&reordered, &[false, false, true, true, true, true], why).await;
        self.show(e.id(), &all[4], DeliveryState::Leased, 1, "the attempt was started").await;
        self.show(b.id(), &all[1], DeliveryState::Leased, 1, "an attempt counts once").await;
        self.counts([0, 4, 1, 0], "four deliveries are leased, and one is dead").await;
    }
}

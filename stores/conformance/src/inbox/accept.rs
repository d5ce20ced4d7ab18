//! Rules for accepting deliveries.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxAdmin, InboxStore, SettleOutcome, Settlement},
};

use super::{
    conflict, delivery,
    tested::{HOUR, KEEP, LEASE, MARGIN, RETENTION, SECOND, TestedInbox, dead_letter, done, reschedule},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn new_delivery_is_accepted_once(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept(&new).await;
        self.is_known(&new, &new, "the delivery was accepted with the same claim").await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery was accepted").await;
        self.counts([1, 0, 0, 0], "one delivery was accepted; copies do not count").await;
        self.lease_one(&new, "the delivery was accepted, and is due at once").await;
        self.lease_nothing("one delivery was accepted; copies do not count").await;
    }

    pub(super) async fn pending_delivery_is_known(&self) {
        let new = delivery("warung", "evt", "body");
        let copies = [
            delivery("warung", "evt", "body"),
            delivery("warung", "evt", "other body"),
            delivery("warung", "evt", "another body").with_any_body(),
        ];
        self.accept(&new).await;
        for copy in &copies {
            self.is_known(copy, &new, "the delivery is ready").await;
        }
        let lease = self.lease_one(&new, "a copy changes nothing").await;
        for copy in &copies {
            self.is_known(copy, &new, "the delivery is leased").await;
        }
        self.advance(LEASE + MARGIN).await;
        for copy in &copies {
            self.is_known(copy, &new, "the delivery is leased, although the lease has expired").await;
        }
        self.show(lease.id(), &new, DeliveryState::Leased, 1, "a copy changes nothing").await;
        let lease = self.lease_one(&new, "the lease has expired").await;
        self.settle(&lease, reschedule(KEEP)).await;
        for copy in &copies {
            self.is_known(copy, &new, "the delivery is ready, although it is not due").await;
        }
        self.show(lease.id(), &new, DeliveryState::Ready, 2, "a copy changes nothing").await;
        self.lease_nothing("the delivery is not due, and a copy changes nothing").await;
        self.counts([1, 0, 0, 0], "one delivery was accepted; copies do not count").await;
    }

    pub(super) async fn handled_delivery_is_known_for_its_retention(&self) {
        let new = delivery("warung", "evt", "body");
        let old = self.handle(&new, Duration::ZERO).await;
        self.is_known(&new, &new, "the delivery was accepted with the same claim, and is handled").await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery is handled").await;
        self.is_known(&delivery("warung", "evt", "other body"), &new, "the delivery is handled, with that body").await;
        self.advance(RETENTION - MARGIN).await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the retention is not over").await;
        self.lease_nothing("a known delivery is not stored").await;
        self.advance(2 * MARGIN).await;
        let again = delivery("warung", "evt", "other body");
        self.accept_again(&again, "the retention is over").await;
        let lease = self.lease_one(&again, "the delivery was accepted").await;
        self.holds(lease.id() > old.id(), &format!("id {} came after {}", lease.id(), old.id()));
    }

    pub(super) async fn copies_do_not_extend_the_retention(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept_for(&new, 2 * LEASE).await;
        self.advance(LEASE).await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery is ready").await;
        let lease = self.lease_one(&new, "the delivery was accepted").await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery is leased").await;
        self.settle(&lease, done(Duration::ZERO)).await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery is handled").await;
        self.advance(LEASE - MARGIN).await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the retention is not over").await;
        self.advance(2 * MARGIN).await;
        let why = "the retention counts from when the delivery was accepted";
        self.accept_again(&delivery("warung", "evt", "body"), why).await;
    }

    pub(super) async fn deliveries_are_independent(&self) {
        let all = [
            delivery("warung", "evt", "body"),
            delivery("kedai", "evt", "body"),
            delivery("", "evt", "body"),
            delivery("warung", "evt-2", "body"),
            conflict("warung", "evt", "other body"),
            conflict("warung", "evt", "another body"),
            conflict("kedai", "evt", "other body"),
        ];
        self.accept_all(all.each_ref()).await;
        let leases = self.lease(all.each_ref(), "each delivery has its own key").await;
        let [handled, dead, rescheduled, released, held @ ..] = &leases;
        self.settle(handled, done(KEEP)).await;
        self.settle(dead, dead_letter()).await;
        self.settle(rescheduled, reschedule(KEEP)).await;
        self.settle(released, Settlement::Release).await;
        self.counts([2, 3, 1, 1], "one was handled, one dead-lettered, one rescheduled and one released").await;
        let why = "other deliveries were settled, not this one";
        for (lease, new) in held.iter().zip(&all[4..]) {
            self.show(lease.id(), new, DeliveryState::Leased, 1, why).await;
            self.extend(lease, LEASE, why).await;
            self.settles(lease, done(Duration::ZERO), SettleOutcome::Settled, why).await;
        }
    }

    pub(super) async fn new_delivery_replaces_a_kept_one(&self) {
        let (first, short) = (delivery("warung", "evt", "body"), delivery("warung", "short", "body"));
        let old = self.handle(&first, KEEP).await;
        self.accept_for(&short, HOUR).await;
        let old_short = self.lease_one(&short, "the delivery was accepted").await;
        self.settle(&old_short, done(KEEP)).await;
        self.is_known(&delivery("warung", "evt", "other body"), &first, "the delivery is done, and kept").await;
        self.forget_in_ledger(&first).await;
        self.advance(HOUR + MARGIN).await;
        for (id, kept) in [("evt", old), ("short", old_short)] {
            let again = delivery("warung", id, "other body");
            self.accept_again(&again, "the ledger does not know the key any more, although its delivery is kept").await;
            self.show_nothing(kept.id(), "a new delivery replaced the kept one").await;
            let lease = self.lease_one(&again, "the delivery was accepted").await;
            self.holds(lease.id() > kept.id(), &format!("id {} came after {}", lease.id(), kept.id()));
            self.same("lease", &lease.attempt(), &1, "the delivery is new");
        }
        self.counts([0, 2, 0, 0], "new deliveries replaced the kept ones").await;
    }

    pub(super) async fn later_deliveries_have_larger_ids(&self) {
        let mut last = self.next_id("evt-0").await;
        let grows = |last: &mut _, next| {
            self.holds(next > *last, &format!("id {next} came after {last}"));
            *last = next;
        };
        grows(&mut last, self.next_id("evt-1").await);
        let dead = delivery("warung", "dead", "body");
        grows(&mut last, self.make_dead(&dead).await.id());
        self.forget(&dead, 1, "one delivery is dead").await;
        grows(&mut last, self.next_id("evt-2").await);
        grows(&mut last, self.handle(&delivery("warung", "done", "body"), LEASE).await.id());
        self.advance(LEASE + MARGIN).await;
        self.same("purge_done", &self.purge(10).await, &1, "one kept delivery has passed its time");
        grows(&mut last, self.next_id("evt-3").await);
        let pending = ["a", "b", "c"].map(|id| delivery("warung", id, "body"));
        for new in &pending {
            self.accept(new).await;
            self.advance(SECOND).await;
        }
        for lease in self.lease(pending.each_ref(), "they were accepted in this order").await {
            grows(&mut last, lease.id());
        }
    }
}

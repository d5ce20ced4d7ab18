//! Rules for settling leases.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryId, DeliveryState, InboxAdmin, InboxStore, Lease, SettleOutcome, Settlement},
};

use super::{
    delivery,
    tested::{ALL, HOUR, KEEP, LEASE, MARGIN, RETENTION, TestedInbox, dead_letter, done, reschedule},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn handled_delivery_is_deleted(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.handle(&new, Duration::ZERO).await;
        self.show_nothing(lease.id(), "the delivery is handled").await;
        self.cannot_retry(lease.id(), "the delivery is handled").await;
        self.counts([0, 0, 0, 0], "the delivery is handled").await;
        self.advance(LEASE + MARGIN).await;
        self.lease_nothing("the delivery is handled").await;
        self.same("purge_done", &self.purge(ALL).await, &0, "the delivery is gone");
    }

    pub(super) async fn kept_delivery_stays_with_its_body(&self) {
        let new = delivery("warung", "evt", "body");
        let first = self.begin(&new).await;
        self.settle(&first, reschedule(Duration::ZERO)).await;
        let lease = self.lease_one(&new, "the delivery was rescheduled without a delay").await;
        self.settle(&lease, done(KEEP)).await;
        self.advance(KEEP - MARGIN).await;
        self.lease_nothing("the delivery is handled").await;
        self.same("purge_done", &self.purge(ALL).await, &0, "the time of the kept delivery is not over");
        let entry =
            self.show(lease.id(), &new, DeliveryState::Done, 2, "the time of the kept delivery is not over").await;
        self.same("show", &entry.reason, &None, "the last attempt did not fail");
        self.counts([0, 0, 0, 1], "the time of the kept delivery is not over").await;
        self.advance(2 * MARGIN).await;
        self.same("purge_done", &self.purge(ALL).await, &1, "the time of the kept delivery is over");
        self.show_nothing(lease.id(), "the kept delivery was purged").await;
        self.counts([0, 0, 0, 0], "the kept delivery was purged").await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "a purged delivery is still known").await;
    }

    pub(super) async fn purges_only_deliveries_that_are_over(&self) {
        for n in 0..5 {
            self.handle(&delivery("warung", &format!("over-{n}"), "body"), LEASE).await;
        }
        let [kept, dead, leased] = ["kept", "dead", "leased"].map(|id| delivery("warung", id, "body"));
        let kept_lease = self.handle(&kept, KEEP).await;
        let dead_lease = self.make_dead(&dead).await;
        let lease = self.begin(&leased).await;
        self.accept_for(&delivery("warung", "ready", "body"), LEASE).await;
        self.same("purge_done", &self.purge(ALL).await, &0, "the time of no kept delivery is over");
        self.advance(LEASE + MARGIN).await;
        for (limit, expected) in [(0, 0), (2, 2), (2, 2), (2, 1), (2, 0), (ALL, 0)] {
            let why = format!("the time of 5 kept deliveries was over, and up to {limit} are deleted at once");
            self.same("purge_done", &self.purge(limit).await, &expected, &why);
        }
        self.advance(2 * HOUR).await;
        self.same("purge_done", &self.purge(ALL).await, &0, "the time of the other kept delivery is not over");
        self.counts([1, 1, 1, 1], "only done deliveries are purged").await;
        self.show(kept_lease.id(), &kept, DeliveryState::Done, 1, "the time of the delivery is not over").await;
        self.show(dead_lease.id(), &dead, DeliveryState::Dead, 1, "the delivery is dead, not done").await;
        self.show(lease.id(), &leased, DeliveryState::Leased, 1, "the delivery is leased, not done").await;
        self.is_known(&kept, &kept, "purging leaves the ledger").await;
    }

    pub(super) async fn rescheduled_delivery_is_due_after_its_delay(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.begin(&new).await;
        self.settle(&lease, reschedule(HOUR)).await;
        let entry = self.show(lease.id(), &new, DeliveryState::Ready, 1, "the delivery was rescheduled").await;
        self.same("show", &entry.reason.as_deref(), &Some("rescheduled"), "this was the reason");
        self.counts([1, 0, 0, 0], "the delivery was rescheduled").await;
        self.advance(HOUR - MARGIN).await;
        self.lease_nothing("the delay is not over").await;
        self.advance(2 * MARGIN).await;
        let lease = self.lease_one(&new, "the delay is over").await;
        self.same("lease", &lease.attempt(), &2, "the first attempt failed");
        self.settle(&lease, reschedule(Duration::ZERO)).await;
        let lease = self.lease_one(&new, "the delivery was rescheduled without a delay").await;
        self.settle(&lease, done(Duration::ZERO)).await;
    }

    pub(super) async fn release_takes_its_attempt_off(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.begin(&new).await;
        self.settle(&lease, Settlement::Release).await;
        self.show(lease.id(), &new, DeliveryState::Ready, 0, "the lease was released").await;
        self.counts([1, 0, 0, 0], "the lease was released").await;
        let lease = self.lease_one(&new, "the delivery is due at once").await;
        self.same("lease", &lease.attempt(), &1, "the previous lease was released");
        self.settle(&lease, reschedule(LEASE)).await;
        self.advance(LEASE + MARGIN).await;
        let lease = self.lease_one(&new, "the delay is over").await;
        self.settle(&lease, Settlement::Release).await;
        self.show(lease.id(), &new, DeliveryState::Ready, 1, "only the second lease was released").await;
        self.lease_one(&new, "the delivery is due at once, although it was rescheduled before").await;
    }

    pub(super) async fn dead_letter_stays_until_it_is_purged(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.make_dead(&new).await;
        self.advance(RETENTION + HOUR).await;
        self.lease_nothing("the delivery is dead").await;
        let entry = self.show(lease.id(), &new, DeliveryState::Dead, 1, "the delivery is dead").await;
        self.same("show", &entry.reason.as_deref(), &Some("dead-lettered"), "this was the reason");
        self.same("purge_done", &self.purge(ALL).await, &0, "the delivery is dead, not done");
        self.answer("purge", self.store.purge(ALL).await);
        self.counts([0, 0, 1, 0], "the delivery is dead").await;
    }

    pub(super) async fn repeated_settlement_changes_nothing(&self) {
        let [failed, dead, released, kept, gone] =
            ["failed", "dead", "released", "kept", "gone"].map(|id| delivery("warung", id, "body"));
        let repeated = "the settlement is repeated, as a worker does after a lost response";
        let lease = self.begin(&failed).await;
        for _ in 0..2 {
            self.settles(&lease, reschedule(KEEP), SettleOutcome::Settled, repeated).await;
            self.show(lease.id(), &failed, DeliveryState::Ready, 1, repeated).await;
        }
        let lease = self.begin(&dead).await;
        for _ in 0..2 {
            self.settles(&lease, dead_letter(), SettleOutcome::Settled, repeated).await;
            self.show(lease.id(), &dead, DeliveryState::Dead, 1, repeated).await;
        }
        let lease = self.begin(&kept).await;
        for _ in 0..2 {
            self.settles(&lease, done(KEEP), SettleOutcome::Settled, repeated).await;
            self.show(lease.id(), &kept, DeliveryState::Done, 1, repeated).await;
        }
        let why = "the delivery is done, so nothing changes";
        for settlement in [reschedule(HOUR), dead_letter(), Settlement::Release, done(2 * KEEP), done(Duration::ZERO)] {
            self.settles(&lease, settlement, SettleOutcome::Settled, why).await;
            self.show(lease.id(), &kept, DeliveryState::Done, 1, why).await;
        }
        let lease = self.begin(&gone).await;
        self.settle(&lease, done(Duration::ZERO)).await;
        self.settles(&lease, done(Duration::ZERO), SettleOutcome::Gone, repeated).await;

        self.accept(&released).await;
        for _ in 0..2 {
            let lease = self.lease_one(&released, "the delivery is due").await;
            self.settle(&lease, reschedule(Duration::ZERO)).await;
        }
        let lease = self.lease_one(&released, "the delivery was rescheduled without a delay").await;
        for _ in 0..3 {
            self.settles(&lease, Settlement::Release, SettleOutcome::Settled, repeated).await;
            self.show(lease.id(), &released, DeliveryState::Ready, 2, "a lease is released only once").await;
        }
        self.advance(KEEP + MARGIN).await;
        self.same(
            "purge_done",
            &self.purge(ALL).await,
            &1,
            "repeated settlements do not change how long a done delivery is kept",
        );
    }

    pub(super) async fn settling_a_missing_delivery_returns_gone(&self) {
        let all = ["handled", "forgotten", "purged", "replaced"].map(|id| delivery("warung", id, "body"));
        let [handled, forgotten, purged, replaced] = &all;
        let handled = self.handle(handled, Duration::ZERO).await;
        let dead = self.make_dead(forgotten).await;
        self.forget(forgotten, 1, "one delivery is dead").await;
        let purged = self.handle(purged, LEASE).await;
        self.advance(LEASE + MARGIN).await;
        self.same("purge_done", &self.purge(ALL).await, &1, "the time of one kept delivery is over");
        let kept = self.handle(replaced, KEEP).await;
        self.forget_in_ledger(replaced).await;
        self.accept_again(&delivery("warung", "replaced", "body"), "the ledger forgot the event").await;
        let missing = Lease::new(DeliveryId::new(i64::MAX), 1, 1);
        let why = "the delivery was handled, forgotten, purged or replaced, or never existed";
        for lease in [handled, dead, purged, kept, missing] {
            for settlement in [done(Duration::ZERO), done(KEEP), reschedule(HOUR), dead_letter(), Settlement::Release] {
                self.settles(&lease, settlement, SettleOutcome::Gone, why).await;
            }
            self.cannot_extend(&lease, why).await;
            self.show_nothing(lease.id(), why).await;
        }
        self.counts([1, 0, 0, 0], "one delivery replaced a kept one").await;
    }

    pub(super) async fn settles_many_leases_in_order(&self) {
        let settled = self.answer("settle", self.store.settle(&[]).await);
        self.same("settle", &settled, &Vec::new(), "there are no settlements");
        let all = ["a", "b", "c", "d", "e", "f"].map(|id| delivery("warung", id, "body"));
        let lost = self.begin(&all[0]).await;
        self.advance(LEASE + MARGIN).await;
        self.accept_all([&all[1], &all[2], &all[3], &all[4], &all[5]]).await;
        let [a, b, c, d, e, f] = self.lease(all.each_ref(), "one lease has expired, the others are new").await;
        let missing = Lease::new(DeliveryId::new(f.id().get() + 1), f.token(), 1);
        let reason = |reason: &str| reason.to_owned();
        let settlements = [
            (d, Settlement::DeadLetter { reason: reason("d failed"), status: None }),
            (lost, done(KEEP)),
            (b, Settlement::Reschedule { delay: HOUR, reason: reason("b failed"), unordered: false, status: None }),
            (missing, dead_letter()),
            (f, Settlement::Release),
            (c, done(Duration::ZERO)),
            (e, done(KEEP)),
            (a, Settlement::Reschedule { delay: KEEP, reason: reason("a failed"), unordered: false, status: None }),
        ];
        let settled = self.answer("settle", self.store.settle(&settlements).await);
        let expected = {
            use SettleOutcome::{Gone, Settled, Superseded};
            vec![Settled, Superseded, Settled, Gone, Settled, Settled, Settled, Settled]
        };
        let why = "the second lease was taken over, and the fourth has no delivery";
        self.same("settle", &settled, &expected, why);
        self.show_nothing(c.id(), "the delivery was handled").await;
        self.show(f.id(), &all[5], DeliveryState::Ready, 0, "the lease was released").await;
        self.show(e.id(), &all[4], DeliveryState::Done, 1, "the delivery is kept").await;
        let failed = [(a, 0, DeliveryState::Ready, 2), (b, 1, DeliveryState::Ready, 1), (d, 3, DeliveryState::Dead, 1)];
        for (lease, n, state, attempts) in failed {
            let entry = self.show(lease.id(), &all[n], state, attempts, "the attempt failed").await;
            let reason = format!("{} failed", ["a", "b", "c", "d"][n]);
            self.same("show", &entry.reason, &Some(reason), "this was the reason");
        }
        self.advance(HOUR + MARGIN).await;
        self.lease([&all[5], &all[1]], "one delivery was released, and the delay of the other is over").await;
    }
}

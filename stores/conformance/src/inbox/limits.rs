//! Rules for counting, evicting and purging stored deliveries.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxAdmin, InboxStore},
};

use super::{
    delivery,
    tested::{ALL, HOUR, KEEP, LEASE, MARGIN, RETENTION, TestedInbox, dead_letter, reschedule},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn counts_all_stored_up_to_a_limit(&self) {
        let stored = async |limit: u64, expected: u64| {
            let found = self.answer("stored", self.store.stored(limit).await);
            self.same("stored", &found, &expected, &format!("the limit is {limit}"));
        };
        stored(10, 0).await;
        self.handle(&delivery("warung", "gone", "body"), Duration::ZERO).await;
        stored(10, 0).await;
        self.handle(&delivery("warung", "done", "body"), LEASE).await;
        stored(10, 1).await;
        for n in 0..2 {
            self.make_dead(&delivery("warung", &format!("dead-{n}"), "body")).await;
        }
        stored(10, 3).await;
        self.begin(&delivery("warung", "leased", "body").with_ordering_keys(&["a"])).await;
        stored(10, 4).await;
        for n in 0..3 {
            self.accept(&delivery("warung", &format!("ready-{n}"), "body")).await;
        }
        self.accept(&delivery("warung", "ordered", "body").with_ordering_keys(&["b"])).await;
        // One lease has expired, and the kept delivery has passed its time: both are still stored.
        self.advance(LEASE + MARGIN).await;
        for (limit, expected) in [(0, 0), (1, 1), (3, 3), (7, 7), (8, 8), (9, 8), (1 << 40, 8), (u64::MAX, 8)] {
            stored(limit, expected).await;
        }
    }

    pub(super) async fn evicts_only_kept_deliveries(&self) {
        self.evict(ALL, 0, "nothing was accepted").await;
        let [over, kept, dead, leased, ready] =
            ["over", "kept", "dead", "leased", "ready"].map(|id| delivery("warung", id, "body"));
        let over_lease = self.handle(&over, LEASE).await;
        let kept_lease = self.handle(&kept, KEEP).await;
        let dead_lease = self.make_dead(&dead).await;
        self.advance(LEASE + MARGIN).await;
        let lease = self.begin(&leased).await;
        self.accept(&ready).await;
        self.evict(ALL, 2, "two are kept, and the time of one is over").await;
        self.evict(ALL, 0, "all kept deliveries were evicted").await;
        self.counts([1, 1, 1, 0], "only kept deliveries are evicted").await;
        self.show_nothing(over_lease.id(), "the delivery was evicted").await;
        self.show_nothing(kept_lease.id(), "the delivery was evicted").await;
        self.show(dead_lease.id(), &dead, DeliveryState::Dead, 1, "the delivery is dead, not done").await;
        self.show(lease.id(), &leased, DeliveryState::Leased, 1, "the delivery is leased, not done").await;
        self.advance(KEEP + MARGIN).await;
        self.same("purge_done", &self.purge(ALL).await, &0, "all kept deliveries were evicted");
    }

    pub(super) async fn evicts_deliveries_that_end_soonest(&self) {
        // The deliveries end in another order than they were accepted in.
        let mut ids = Vec::new();
        for (n, hours) in [5, 1, 4, 2, 3].into_iter().enumerate() {
            let new = delivery("warung", &format!("kept-{n}"), "body");
            ids.push((hours, self.handle(&new, hours * HOUR).await.id()));
        }
        ids.sort_unstable();
        self.advance(HOUR + MARGIN).await;
        let mut gone = 0;
        for (limit, expected) in [(0, 0), (1, 1), (2, 2), (1, 1), (ALL, 1), (ALL, 0)] {
            self.evict(limit, expected, &format!("{} are kept", ids.len() - gone)).await;
            gone += usize::try_from(expected).unwrap_or_default();
            for (n, (hours, id)) in ids.iter().enumerate() {
                let is_there = self.find(*id).await.is_some();
                let why =
                    format!("{gone} were evicted, and the one that is kept for {hours} hours is number {}", n + 1);
                self.same("show", &is_there, &(n >= gone), &why);
            }
        }
    }

    pub(super) async fn evicted_delivery_is_still_known(&self) {
        let new = delivery("warung", "evt", "body");
        self.handle(&new, KEEP).await;
        self.evict(ALL, 1, "one is kept").await;
        let why = "evicting leaves the ledger";
        self.is_known(&delivery("warung", "evt", "body"), &new, why).await;
        self.is_known_with(&delivery("warung", "evt", "other body"), new.claim().digest(), None, why).await;
        self.counts([0, 0, 0, 0], "the delivery was evicted, and its copies are known").await;
        self.advance(RETENTION + MARGIN).await;
        self.accept_again(&delivery("warung", "evt", "body"), "the retention is over").await;
    }

    pub(super) async fn purges_only_dead_letters_of_the_given_age(&self) {
        self.purge_dead(Duration::ZERO, ALL, 0, "nothing was accepted").await;
        let [late, kept, young, failed, ready] =
            ["late", "kept", "young", "failed", "ready"].map(|id| delivery("warung", id, "body"));
        let lease = self.begin(&late).await;
        self.settle(&lease, reschedule(HOUR)).await;
        let kept_lease = self.handle(&kept, LEASE).await;
        let failed_lease = self.begin(&failed).await;
        self.settle(&failed_lease, reschedule(KEEP)).await;
        self.advance(HOUR + MARGIN).await;
        // Dead-lettered now, but accepted an hour ago: the age counts from acceptance.
        let late_lease = self.lease_one(&late, "the delay is over").await;
        self.settle(&late_lease, dead_letter()).await;
        let young_lease = self.make_dead(&young).await;
        self.accept(&ready).await;
        self.purge_dead(2 * HOUR, ALL, 0, "nothing was accepted two hours ago").await;
        self.purge_dead(RETENTION * 1000, ALL, 0, "nothing was accepted a century ago").await;
        self.counts([2, 0, 2, 1], "no dead letter is old enough").await;
        self.purge_dead(HOUR, ALL, 1, "one was accepted an hour ago").await;
        self.show_nothing(late_lease.id(), "the dead letter was deleted").await;
        self.show(young_lease.id(), &young, DeliveryState::Dead, 1, "the dead letter is younger").await;
        self.show(kept_lease.id(), &kept, DeliveryState::Done, 1, "the delivery is kept, not dead").await;
        self.counts([2, 0, 1, 1], "only old dead letters are deleted").await;
        self.advance(MARGIN).await;
        self.purge_dead(Duration::ZERO, ALL, 1, "every dead letter is old enough").await;
        self.counts([2, 0, 0, 1], "only dead letters are deleted").await;
    }

    pub(super) async fn purges_the_oldest_dead_letters_first(&self) {
        let mut ids = Vec::new();
        for n in 0..5 {
            ids.push(self.make_dead(&delivery("warung", &format!("dead-{n}"), "body")).await.id());
        }
        self.advance(HOUR).await;
        let mut gone = 0;
        for (limit, expected) in [(0, 0), (2, 2), (1, 1), (ALL, 2), (ALL, 0)] {
            self.purge_dead(HOUR - MARGIN, limit, expected, &format!("{} are left", ids.len() - gone)).await;
            gone += usize::try_from(expected).unwrap_or_default();
            let left: Vec<_> = self.dead(None, ALL).await.iter().map(|entry| entry.id).collect();
            self.same("dead", &left, &ids[gone..].to_vec(), &format!("the first {gone} of {ids:?} were deleted"));
        }
    }

    pub(super) async fn purged_dead_letter_is_still_known(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.make_dead(&new).await;
        self.advance(HOUR).await;
        self.purge_dead(HOUR - MARGIN, ALL, 1, "one was accepted an hour ago").await;
        let why = "purging dead letters leaves the ledger";
        self.is_known(&delivery("warung", "evt", "body"), &new, why).await;
        self.is_known_with(&delivery("warung", "evt", "other body"), new.claim().digest(), None, why).await;
        self.cannot_retry(lease.id(), "the dead letter was deleted").await;
        self.counts([0, 0, 0, 0], "the dead letter was deleted, and its copies are known").await;
        self.forget(&new, 1, "only the ledger knows the key").await;
        self.accept_again(&delivery("warung", "evt", "body"), "the event was forgotten").await;
    }
}

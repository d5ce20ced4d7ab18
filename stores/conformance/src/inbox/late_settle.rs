//! Rules for settling leases that have expired.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{
        DeliveryState, InboxAdmin, InboxStore, LEASE_EXPIRED, Lease, LeaseRequest, NewDelivery, SettleOutcome,
        Settlement,
    },
};

use super::{
    delivery,
    tested::{HOUR, KEEP, LEASE, MARGIN, REQUEST, TestedInbox, dead_letter, done, reschedule},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn expired_lease_can_be_settled(&self) {
        let all = ["handled", "kept", "failed", "dead", "released"].map(|id| delivery("warung", id, "body"));
        self.accept_all(all.each_ref()).await;
        let [handled, kept, failed, dead, released] =
            self.lease(all.each_ref(), "they were accepted in this order").await;
        self.advance(LEASE + MARGIN).await;
        self.counts([0, 5, 0, 0], "a delivery whose lease has expired is leased").await;
        let why = "the lease has expired, and no other worker has leased the delivery";
        self.settles(&handled, done(Duration::ZERO), SettleOutcome::Settled, why).await;
        self.settles(&kept, done(KEEP), SettleOutcome::Settled, why).await;
        self.settles(&failed, reschedule(LEASE), SettleOutcome::Settled, why).await;
        self.settles(&dead, dead_letter(), SettleOutcome::Settled, why).await;
        self.settles(&released, Settlement::Release, SettleOutcome::Settled, why).await;
        self.counts([2, 0, 1, 1], "each was settled differently").await;
        self.show_nothing(handled.id(), "the delivery was handled").await;
        let lease = self.lease_one(&all[4], "only this delivery was released").await;
        self.same("lease", &lease.attempt(), &1, "the lease before was released");
    }

    pub(super) async fn late_success_settles_a_dead_letter(&self) {
        let [gone, kept] = ["gone", "kept"].map(|id| delivery("warung", id, "body"));
        let [gone_lease, kept_lease] = self.expire([&gone, &kept]).await;
        let why = "the store dead-lettered the delivery while its handler was running";
        self.settles(&gone_lease, done(Duration::ZERO), SettleOutcome::Settled, why).await;
        self.show_nothing(gone_lease.id(), "the delivery was handled").await;
        self.settles(&kept_lease, done(KEEP), SettleOutcome::Settled, why).await;
        let entry = self.show(kept_lease.id(), &kept, DeliveryState::Done, 1, "the delivery was handled").await;
        self.same("show", &entry.reason, &None, "the last attempt did not fail");
        self.counts([0, 0, 0, 1], "both deliveries were handled").await;
        for new in [&gone, &kept] {
            let id = if new.claim().key() == gone.claim().key() { "gone" } else { "kept" };
            self.is_known(&delivery("warung", id, "body"), new, "the delivery was handled").await;
        }
        self.lease_nothing("both deliveries were handled").await;
    }

    pub(super) async fn late_failure_settles_a_dead_letter(&self) {
        let [failed, dead] = ["failed", "dead"].map(|id| delivery("warung", id, "body"));
        let [failed_lease, dead_lease] = self.expire([&failed, &dead]).await;
        let why = "the store dead-lettered the delivery while its handler was running";
        self.settles(&failed_lease, reschedule(HOUR), SettleOutcome::Settled, why).await;
        let entry = self.show(failed_lease.id(), &failed, DeliveryState::Ready, 1, "the attempt failed").await;
        self.same("show", &entry.reason.as_deref(), &Some("rescheduled"), "the settlement has this reason");
        self.settles(&dead_lease, dead_letter(), SettleOutcome::Settled, why).await;
        let entry = self.show(dead_lease.id(), &dead, DeliveryState::Dead, 1, "the attempt failed").await;
        self.same("show", &entry.reason.as_deref(), &Some("dead-lettered"), "the settlement has this reason");
        self.counts([1, 0, 1, 0], "one delivery was rescheduled, and one is dead").await;
        self.advance(HOUR - MARGIN).await;
        self.lease_nothing("the delay is not over").await;
        self.advance(2 * MARGIN).await;
        let lease = self.lease_one(&failed, "the delay is over").await;
        self.same("lease", &lease.attempt(), &2, "the first attempt failed");
    }

    pub(super) async fn late_release_settles_a_dead_letter(&self) {
        let new = delivery("warung", "evt", "body");
        let [lease] = self.expire([&new]).await;
        let why = "the store dead-lettered the delivery while its handler was running";
        for _ in 0..2 {
            self.settles(&lease, Settlement::Release, SettleOutcome::Settled, why).await;
            self.show(lease.id(), &new, DeliveryState::Ready, 0, "a lease is released only once").await;
        }
        let next = self.lease_one(&new, "the delivery is due at once").await;
        self.same("lease", &next.attempt(), &1, "the lease before was released");
        self.holds(next.token() > lease.token(), &format!("{next:?} has no larger token than {lease:?}"));
    }

    pub(super) async fn late_failure_keeps_its_place_in_the_queue(&self) {
        let all = ["first", "second", "third", "fourth"];
        let [first, second, third, fourth] =
            all.map(|id| delivery("warung", id, "body").with_ordering_keys(&["a", id]));
        self.accept_all([&first, &second]).await;
        let [lease] = self.expire_first(&first, &[&second]).await;
        self.settle(&lease, reschedule(HOUR)).await;
        self.lease_nothing("the first is ready again, and blocks the second").await;
        self.advance(HOUR + MARGIN).await;
        let lease = self.lease_one(&first, "the delay is over").await;
        self.lease_nothing("the first is leased, and blocks the second").await;
        self.settle(&lease, done(Duration::ZERO)).await;
        let lease = self.lease_one(&second, "the first is handled").await;
        self.settle(&lease, done(Duration::ZERO)).await;

        self.accept_all([&third, &fourth]).await;
        let [lease] = self.expire_first(&third, &[&fourth]).await;
        self.settle(&lease, Settlement::Release).await;
        let lease = self.lease_one(&third, "the third was released, and blocks the fourth").await;
        self.settle(&lease, done(Duration::ZERO)).await;
        self.lease_one(&fourth, "the third is handled").await;
    }

    pub(super) async fn late_success_unblocks_its_ordering_keys(&self) {
        let [first, second] = ["first", "second"].map(|id| delivery("warung", id, "body").with_ordering_keys(&["a"]));
        self.accept_all([&first, &second]).await;
        let [lease] = self.expire_first(&first, &[&second]).await;
        self.retry(lease.id()).await;
        self.settle(&lease, done(KEEP)).await;
        self.lease_one(&second, "the first is handled").await;
    }

    pub(super) async fn retried_delivery_can_be_settled(&self) {
        let all = ["gone", "kept", "failed", "dead", "released", "taken"].map(|id| delivery("warung", id, "body"));
        let mut leases = Vec::new();
        for new in &all {
            leases.push(self.make_dead(new).await);
        }
        let [gone, kept, failed, dead, released, taken] = leases[..] else { unreachable!("six were made") };
        for lease in &leases {
            self.retry(lease.id()).await;
        }
        self.counts([6, 0, 0, 0], "all were retried").await;
        let why = "the delivery was retried, and not leased since";
        self.settles(&gone, done(Duration::ZERO), SettleOutcome::Settled, why).await;
        self.settles(&kept, done(KEEP), SettleOutcome::Settled, why).await;
        self.settles(&failed, reschedule(HOUR), SettleOutcome::Settled, why).await;
        self.settles(&dead, dead_letter(), SettleOutcome::Settled, why).await;
        self.settles(&released, Settlement::Release, SettleOutcome::Settled, why).await;
        self.show_nothing(gone.id(), "the delivery was handled").await;
        self.show(kept.id(), &all[1], DeliveryState::Done, 0, "the delivery was handled").await;
        self.show(failed.id(), &all[2], DeliveryState::Ready, 0, "the attempt failed").await;
        self.show(dead.id(), &all[3], DeliveryState::Dead, 0, "the attempt failed").await;
        self.show(released.id(), &all[4], DeliveryState::Ready, 0, "a ready delivery cannot be released").await;
        self.settles(&dead, Settlement::Release, SettleOutcome::Settled, "the delivery is dead").await;
        self.show(dead.id(), &all[3], DeliveryState::Dead, 0, "its attempt has ended, and no lease has expired").await;
        let leased = self.try_lease(&REQUEST).await.leased;
        self.same("lease", &leased.len(), &2, "one was released, and one only retried");
        let why = "the delivery was retried, and leased since";
        self.settles(&taken, done(Duration::ZERO), SettleOutcome::Superseded, why).await;
        self.show(taken.id(), &all[5], DeliveryState::Leased, 1, why).await;
    }

    /// Accepts and leases these deliveries, and lets their leases expire so that the store dead-letters them.
    async fn expire<const N: usize>(&self, all: [&NewDelivery; N]) -> [Lease; N] {
        self.accept_all(all).await;
        self.expire_leased(self.lease(all, "they were accepted in this order").await, &[]).await
    }

    /// Leases the head of a queue, and has the store dead-letter it. If that call also leases deliveries behind the head, they are
    /// released.
    async fn expire_first(&self, first: &NewDelivery, behind: &[&NewDelivery]) -> [Lease; 1] {
        let leases = self.lease([first], "the delivery is the first of its key").await;
        self.expire_leased(leases, behind).await
    }

    async fn expire_leased<const N: usize>(&self, leases: [Lease; N], behind: &[&NewDelivery]) -> [Lease; N] {
        self.advance(LEASE + MARGIN).await;
        let last = LeaseRequest { max_attempts: 1, ..REQUEST };
        let batch = self.try_lease(&last).await;
        self.same("lease", &batch.dead_lettered.len(), &N, "these leases have expired on the last attempt");
        let is_behind = |head: &str| behind.iter().any(|new| new.head() == head);
        for leased in &batch.leased {
            self.holds(is_behind(leased.head()), &format!("lease returned {leased:?}, whose lease has expired"));
            self.settle(leased.lease(), Settlement::Release).await;
        }
        for lease in &leases {
            let reason = self.find(lease.id()).await.and_then(|entry| entry.reason);
            self.same("show", &reason.as_deref(), &Some(LEASE_EXPIRED), "the lease has expired on the last attempt");
        }
        leases
    }
}

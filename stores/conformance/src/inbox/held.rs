//! Rules for [`LeaseRequest::held`], the leases that the requesting process still holds.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxAdmin, InboxStore, Lease, LeaseRequest, NewDelivery, SettleOutcome},
};

use super::{
    delivery,
    tested::{KEEP, LEASE, MARGIN, REQUEST, TestedInbox, dead_letter, done, reschedule},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn held_lease_is_extended(&self) {
        let [held, neighbor] = ["held", "neighbor"].map(|id| delivery("warung", id, "body"));
        self.accept_all([&held, &neighbor]).await;
        let [lease, other] = self.lease([&held, &neighbor], "the deliveries were accepted").await;
        self.extend(&other, LEASE / 2, "the lease is current").await;
        self.advance(LEASE + MARGIN).await;
        let why = "the lease of one delivery is held, and the other lease has expired";
        let request = LeaseRequest { held: &[lease], duration: 2 * LEASE, ..REQUEST };
        self.lease_as(&request, [&neighbor], why).await;
        self.show(
            lease.id(),
            &held,
            DeliveryState::Leased,
            1,
            "a held lease is extended, which does not count as an attempt",
        )
        .await;
        self.advance(2 * LEASE - MARGIN).await;
        self.lease_nothing("the held lease was extended").await;
        self.lease_as(&request, [], "the held lease has not expired").await;
        self.advance(2 * MARGIN).await;
        self.lease_as(
            &LeaseRequest { limit: 0, ..request },
            [],
            "the held lease is extended even if no deliveries are requested",
        )
        .await;
        self.advance(2 * LEASE - MARGIN).await;
        let [next] = self.lease([&neighbor], "only the held lease was extended again").await;
        self.extend(&next, KEEP, "the lease is current").await;
        self.advance(2 * MARGIN).await;
        let next = self.lease_one(&held, "the lease has expired, and is not held").await;
        self.same("lease", &next.attempt(), &2, "an extension does not count as an attempt");

        // A held lease that has not expired is not changed.
        self.extend(&next, KEEP / 2, "the lease is current").await;
        self.lease_as(&LeaseRequest { held: &[next], ..REQUEST }, [], "the held lease has not expired").await;
        self.advance(KEEP / 2 - MARGIN).await;
        self.lease_nothing("the held lease was longer than the requested one").await;
    }

    pub(super) async fn held_lease_is_not_dead_lettered(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.begin(&new).await;
        let last = LeaseRequest { max_attempts: 1, ..REQUEST };
        for _ in 0..3 {
            self.advance(LEASE + MARGIN).await;
            self.lease_as(&LeaseRequest { held: &[lease], ..last }, [], "the lease is held").await;
            self.show(lease.id(), &new, DeliveryState::Leased, 1, "the lease is held").await;
        }
        self.lease_as(&last, [], "the held lease was extended").await;
        self.advance(LEASE + MARGIN).await;
        let batch = self.try_lease(&last).await;
        self.same(
            "lease",
            &batch.dead_lettered.len(),
            &1,
            "the lease has expired on the last attempt, and is not held",
        );
    }

    pub(super) async fn held_lease_blocks_its_ordering_keys(&self) {
        let [first, second, free] = [keyed("first", "a"), keyed("second", "a"), keyed("free", "b")];
        self.accept_all([&first, &second]).await;
        let lease = self.lease_one(&first, "the delivery is the first of its key").await;
        self.advance(LEASE + MARGIN).await;
        self.accept(&free).await;
        let request = LeaseRequest { held: &[lease], ..REQUEST };
        let why = "the lease of the first is held, and blocks the second; the third has another key";
        self.lease_as(&request, [&free], why).await;
        self.settle(&lease, done(Duration::ZERO)).await;
        self.lease_as(&request, [&second], "the first of the key is handled").await;
    }

    pub(super) async fn held_lease_blocks_a_retried_delivery(&self) {
        let [first, second] = [keyed("first", "a"), keyed("second", "a")];
        self.accept_all([&first, &second]).await;
        let dead = self.lease_one(&first, "the delivery is the first of its key").await;
        self.settle(&dead, dead_letter()).await;
        let held = self.lease_one(&second, "the first is dead").await;
        self.advance(LEASE + MARGIN).await;
        self.retry(dead.id()).await;
        let request = LeaseRequest { held: &[held], ..REQUEST };
        self.lease_as(&request, [], "the lease of the second is held, and blocks the first").await;
        self.show(held.id(), &second, DeliveryState::Leased, 1, "the lease is held").await;
        self.lease_nothing("the held lease was extended").await;
        self.advance(LEASE + MARGIN).await;
        self.lease_as(&request, [], "the lease of the second is held, and blocks the first").await;
        self.settle(&held, done(Duration::ZERO)).await;
        self.lease_as(&request, [&first], "the second is handled").await;
    }

    pub(super) async fn held_delivery_is_leased_without_an_attempt(&self) {
        let [expired, failed] = ["expired", "failed"].map(|id| delivery("warung", id, "body"));
        self.accept_all([&expired, &failed]).await;
        let held = self.lease([&expired, &failed], "the deliveries were accepted").await;
        self.advance(LEASE + MARGIN).await;
        let batch = self.try_lease(&REQUEST).await;
        self.same("lease", &batch.leased.len(), &2, "the leases have expired");
        for leased in &batch.leased {
            self.start(leased.lease()).await;
        }
        let [expired_lease, failed_lease] = held.map(|held| {
            let of = batch.leased.iter().map(|leased| *leased.lease()).find(|lease| lease.id() == held.id());
            of.unwrap_or_else(|| self.broken("lease did not return a delivery whose lease has expired"))
        });
        self.advance(LEASE + MARGIN).await;
        self.settle(&failed_lease, reschedule(Duration::ZERO)).await;

        let why = "the other worker's lease has expired, or the other worker rescheduled the delivery";
        let request = LeaseRequest { held: &held, ..REQUEST };
        let [again, _] = self.lease_as(&request, [&expired, &failed], why).await;
        self.holds(
            again.token() > expired_lease.token(),
            &format!("{again:?} has no larger token than {expired_lease:?}"),
        );
        let why = "the running handler takes the lease over, so no attempt begins";
        for (held, new) in held.iter().zip([&expired, &failed]) {
            self.show(held.id(), new, DeliveryState::Leased, 2, why).await;
        }
        self.same("lease", &again.attempt(), &2, why);
        for lost in [&held[0], &expired_lease] {
            self.settles(lost, done(Duration::ZERO), SettleOutcome::Superseded, "the delivery has a new lease").await;
        }
        self.settle(&again, done(Duration::ZERO)).await;
    }

    pub(super) async fn stale_held_lease_protects_nothing(&self) {
        let new = delivery("warung", "evt", "body");
        let stale = self.begin(&new).await;
        self.advance(LEASE + MARGIN).await;
        let foreign = self.lease_one(&new, "the lease has expired").await;
        let last = LeaseRequest { max_attempts: 2, held: &[stale], ..REQUEST };
        self.advance(LEASE - MARGIN).await;
        self.lease_as(&last, [], "another worker has the delivery").await;
        self.show(foreign.id(), &new, DeliveryState::Leased, 2, "another worker has the delivery").await;
        self.advance(2 * MARGIN).await;
        let batch = self.try_lease(&last).await;
        let why = "the lease of the other worker has expired on the last attempt, and was not extended";
        self.are(&batch.leased, [], why);
        self.same("lease", &batch.dead_lettered.len(), &1, why);
        self.show(foreign.id(), &new, DeliveryState::Dead, 2, why).await;
        self.lease_as(&LeaseRequest { held: &[stale, foreign], ..REQUEST }, [], "the delivery is dead").await;
        let missing = Lease::new(foreign.id(), foreign.token() + 7, 1);
        self.lease_as(&LeaseRequest { held: &[missing], ..REQUEST }, [], "the delivery is dead").await;
        self.show(foreign.id(), &new, DeliveryState::Dead, 2, "a held lease does not revive a dead delivery").await;
    }
}

fn keyed(id: &str, key: &str) -> NewDelivery {
    delivery("warung", id, "body").with_ordering_keys(&[key])
}

//! Rules for leasing deliveries.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{
        DeadLettered, DeliveryState, InboxAdmin, InboxStore, LEASE_EXPIRED, Lease, LeaseRequest, NewDelivery,
        SettleOutcome, Settlement,
    },
};

use super::{
    delivery,
    tested::{HOUR, KEEP, LEASE, MARGIN, REQUEST, SECOND, TestedInbox, dead_letter, done, reschedule},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn leases_longest_due_first(&self) {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| delivery("warung", id, "body"));
        let lease = self.begin(&a).await;
        self.settle(&lease, reschedule(LEASE)).await;
        let lease = self.begin(&b).await;
        self.extend(&lease, LEASE / 2, "the lease is current").await;
        self.accept_all([&c, &d]).await;
        self.advance(LEASE + MARGIN).await;
        let why = "c and d are due since they were accepted, b since its lease expired, and a since its delay was over";
        let [c_lease, d_lease, ..] = self.lease([&c, &d, &b, &a], why).await;
        self.settle(&d_lease, reschedule(SECOND)).await;
        self.settle(&c_lease, reschedule(2 * SECOND)).await;
        self.advance(MARGIN).await;
        self.lease([&d, &c], "d has a shorter delay than c").await;
    }

    pub(super) async fn leases_no_more_than_requested(&self) {
        let all = ["a", "b", "c", "d", "e", "f"].map(|id| delivery("warung", id, "body"));
        self.accept_all(all.each_ref()).await;
        let [a, b, c, d, e, f] = &all;
        let limit = |limit| LeaseRequest { limit, ..REQUEST };
        self.lease_as(&limit(0), [], "none was requested").await;
        self.lease_as(&limit(1), [a], "one was requested, and a is due the longest").await;
        self.lease_as(&limit(3), [b, c, d], "three were requested").await;
        self.counts([2, 4, 0, 0], "four were requested").await;
        self.lease_as(&limit(u32::MAX), [e, f], "as many as there are were requested").await;
    }

    pub(super) async fn leased_delivery_is_not_leased_again(&self) {
        let new = delivery("warung", "evt", "body");
        self.lease_nothing("nothing was accepted").await;
        let lease = self.begin(&new).await;
        self.lease_nothing("the delivery is leased").await;
        self.advance(LEASE - MARGIN).await;
        self.lease_nothing("the lease has not expired").await;
        let last = LeaseRequest { max_attempts: 1, ..REQUEST };
        self.lease_as(&last, [], "the lease has not expired, although it is the last attempt").await;
        self.show(lease.id(), &new, DeliveryState::Leased, 1, "the delivery is leased").await;
    }

    pub(super) async fn expired_lease_can_be_taken_over(&self) {
        let new = delivery("warung", "evt", "body");
        let lost = self.begin(&new).await;
        self.advance(LEASE + MARGIN).await;
        let lease = self.lease_one(&new, "the lease has expired").await;
        let why = "another worker has leased the delivery";
        self.settles(&lost, done(Duration::ZERO), SettleOutcome::Superseded, why).await;
        self.lease_nothing("the delivery is leased again").await;
        self.advance(LEASE - MARGIN).await;
        self.lease_nothing("the new lease has not expired").await;
        self.settle(&lease, done(Duration::ZERO)).await;
    }

    pub(super) async fn marks_deliveries_whose_lease_expired(&self) {
        let [expired, failed, new] = ["expired", "failed", "new"].map(|id| delivery("warung", id, "body"));
        self.begin(&expired).await;
        let lease = self.begin(&failed).await;
        self.settle(&lease, reschedule(Duration::ZERO)).await;
        let lease = self.lease_one(&failed, "the delivery is due").await;
        self.settle(&lease, reschedule(Duration::ZERO)).await;
        self.accept(&new).await;
        self.advance(LEASE + MARGIN).await;
        let leased = self.try_lease(&REQUEST).await.leased;
        let marked = leased.iter().filter(|leased| leased.is_after_expired_lease());
        let marked: Vec<_> = marked.map(|leased| leased.head()).collect();
        self.same("lease", &leased.len(), &3, "one lease has expired, one delivery was rescheduled, one is new");
        self.same("lease", &marked, &vec![expired.head()], "only this delivery is marked: its lease has expired");
    }

    pub(super) async fn attempts_and_tokens_grow(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept(&new).await;
        let mut last = None;
        let mut attempts = 0;
        for round in 0..3 {
            for step in 0..5 {
                let lease = self.lease_one(&new, "the delivery is due").await;
                attempts += 1;
                self.same("lease", &lease.attempt(), &attempts, "each lease began an attempt");
                let grows = last.is_none_or(|last| lease.token() > last);
                self.holds(grows, &format!("the token {} came after {last:?}", lease.token()));
                last = Some(lease.token());
                self.show(lease.id(), &new, DeliveryState::Leased, attempts, "each attempt was started").await;
                match step {
                    0 => self.settle(&lease, reschedule(Duration::ZERO)).await,
                    1 => self.advance(LEASE + MARGIN).await,
                    2 | 3 => {
                        self.settle(&lease, Settlement::Release).await;
                        attempts -= 1;
                    }
                    _ => {
                        self.settle(&lease, dead_letter()).await;
                        attempts = 0;
                        match round {
                            0 => self.retry(lease.id()).await,
                            _ => self.revive(&delivery("warung", "evt", "body")).await,
                        }
                    }
                }
            }
        }
    }

    pub(super) async fn last_expired_attempt_is_dead_lettered(&self) {
        let [crashed, neighbor] = ["crashed", "neighbor"].map(|id| delivery("warung", id, "body"));
        let two = LeaseRequest { limit: 1, max_attempts: 2, ..REQUEST };
        self.begin(&crashed).await;
        self.advance(LEASE + MARGIN).await;
        let [last] = self.lease_as(&two, [&crashed], "the lease has expired after 1 of 2 attempts").await;
        self.start(&last).await;
        self.accept(&neighbor).await;
        self.advance(LEASE + MARGIN).await;
        // A dead letter may count towards the limit.
        let mut leased = self.try_lease(&two).await.leased;
        leased.extend(self.try_lease(&two).await.leased);
        self.are(&leased, [&neighbor], "the lease of the other delivery has expired after 2 of 2 attempts");
        self.show(last.id(), &crashed, DeliveryState::Dead, 2, "the lease has expired after 2 of 2 attempts").await;
        self.counts([0, 1, 1, 0], "one delivery was dead-lettered").await;
    }

    pub(super) async fn lease_reports_its_dead_letters(&self) {
        let [one, other, failed, spent] = ["one", "other", "failed", "spent"].map(|id| delivery("warung", id, "body"));
        let last = LeaseRequest { max_attempts: 1, ..REQUEST };
        let first = self.begin(&one).await;
        self.advance(LEASE + MARGIN).await;
        let second = self.lease_one(&one, "the lease has expired").await;
        let other_lease = self.begin(&other).await;
        self.make_dead(&failed).await;
        let spent_lease = self.begin(&spent).await;
        self.settle(&spent_lease, reschedule(HOUR)).await;
        self.lease_as(&last, [], "no lease has expired, one delivery was dead-lettered, and one is not due").await;
        self.advance(LEASE + MARGIN).await;
        // Dead letters may count towards the limit, so a second call may be needed.
        let mut reported = self.try_lease(&last).await.dead_lettered;
        reported.extend(self.try_lease(&last).await.dead_lettered);
        reported.sort_by_key(|dead| dead.id);
        let dead = |lease: &Lease, attempts, new: &NewDelivery| DeadLettered {
            id: lease.id(),
            attempts,
            head: Some(new.head().to_owned()),
            reason: LEASE_EXPIRED.to_owned(),
        };
        let expected = vec![dead(&first, 2, &one), dead(&other_lease, 1, &other)];
        self.same("lease", &reported, &expected, "the leases of these two have expired on the last attempt");
        for (lease, new, attempts) in [(&second, &one, 2), (&other_lease, &other, 1)] {
            let entry =
                self.show(lease.id(), new, DeliveryState::Dead, attempts, "the delivery was dead-lettered").await;
            self.same(
                "show",
                &entry.reason.as_deref(),
                &Some(LEASE_EXPIRED),
                "the delivery was dead-lettered for this reason",
            );
        }
        self.lease_as(&last, [], "the dead letters were reported before").await;
        self.advance(KEEP).await;
        self.lease_as(&last, [&spent], "a ready delivery is leased even if it has no attempts left").await;
    }

    pub(super) async fn ready_delivery_is_leased_after_max_attempts(&self) {
        let new = delivery("warung", "evt", "body");
        let last = LeaseRequest { max_attempts: 1, ..REQUEST };
        self.accept(&new).await;
        for attempt in 1..5 {
            let [lease] = self.lease_as(&last, [&new], "the delivery is ready").await;
            self.same("lease", &lease.attempt(), &attempt, "each attempt was started");
            self.start(&lease).await;
            self.settle(&lease, reschedule(Duration::ZERO)).await;
        }
        self.counts([1, 0, 0, 0], "the delivery is ready").await;
    }
}

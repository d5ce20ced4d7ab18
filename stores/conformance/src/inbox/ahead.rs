//! Rules for leasing ahead of need, and for the attempts that the lease counts.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxAdmin, InboxStore, LeaseRequest, Leased, NewDelivery, Settlement},
};

use super::{
    delivery,
    tested::{AHEAD, LEASE, MARGIN, REQUEST, SECOND, TestedInbox, done, reschedule},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn lease_counts_attempts_for_free_handlers(&self) {
        let all = ["a", "b", "c"].map(|id| delivery("warung", id, "body"));
        self.accept_all(all.each_ref()).await;
        for attempt in 1..4 {
            let leased = self.lease_marked(&REQUEST, all.each_ref(), [true; 3], "each has a free handler").await;
            for (leased, new) in leased.iter().zip(&all) {
                let lease = leased.lease();
                self.same("lease", &lease.attempt(), &attempt, "the delivery is ready, and has a free handler");
                self.show(lease.id(), new, DeliveryState::Leased, attempt, "a handler was free").await;
                self.settle(lease, reschedule(Duration::ZERO)).await;
                self.advance(SECOND).await;
            }
        }
    }

    pub(super) async fn lease_ahead_counts_no_attempt(&self) {
        let all = ["a", "b", "c", "d"].map(|id| delivery("warung", id, "body"));
        let [a, b, c, d] = &all;
        self.accept_all(all.each_ref()).await;
        let why = "one handler was free, and it gets the delivery that is due the longest";
        let request = LeaseRequest { limit: 3, free_handlers: 1, ..REQUEST };
        let mut leased = Vec::from(self.lease_marked(&request, [a, b, c], [true, false, false], why).await);
        leased.extend(self.lease_marked(&AHEAD, [d], [false], "no handler was free").await);
        for (n, (leased, new)) in leased.iter().zip(&all).enumerate() {
            let lease = leased.lease();
            self.same("lease", &lease.attempt(), &1, "the lease has the number of its attempt, counted or not");
            self.show(lease.id(), new, DeliveryState::Leased, u32::from(n == 0), why).await;
        }
        self.counts([0, 4, 0, 0], "the deliveries are leased, for a free handler or ahead of need").await;
        self.lease_as(&AHEAD, [], "the deliveries are leased").await;
        // The rules hold for second attempts too.
        for leased in &leased {
            self.start(leased.lease()).await;
            self.settle(leased.lease(), reschedule(Duration::ZERO)).await;
            self.advance(SECOND).await;
        }
        let request = LeaseRequest { free_handlers: 2, ..REQUEST };
        let why = "two handlers were free";
        let leased = self.lease_marked(&request, all.each_ref(), [true, true, false, false], why).await;
        for (n, (leased, new)) in leased.iter().zip(&all).enumerate() {
            self.same("lease", &leased.lease().attempt(), &2, "the first attempt failed");
            self.show(leased.lease().id(), new, DeliveryState::Leased, 1 + u32::from(n < 2), why).await;
        }
    }

    pub(super) async fn expired_lease_is_not_leased_ahead(&self) {
        let [first, second] = ["first", "second"].map(|id| delivery("warung", id, "body"));
        self.accept_all([&first, &second]).await;
        let expired = self.lease([&first, &second], "the deliveries were accepted").await;
        self.advance(LEASE + MARGIN).await;
        let [third, fourth, fifth] = ["third", "fourth", "fifth"].map(|id| delivery("warung", id, "body"));
        self.accept(&third).await;
        let why = "no handler was free, so deliveries with expired leases are left out";
        self.lease_marked(&AHEAD, [&third], [false], why).await;
        for (lease, new) in expired.iter().zip([&first, &second]) {
            self.show(lease.id(), new, DeliveryState::Leased, 1, why).await;
            self.extend(lease, Duration::ZERO, "the lease is current").await;
            self.advance(SECOND).await;
        }
        self.accept_all([&fourth, &fifth]).await;
        let why = "one handler was free, so the second delivery with an expired lease is left out";
        let request = LeaseRequest { free_handlers: 1, ..REQUEST };
        self.lease_marked(&request, [&first, &fourth, &fifth], [false; 3], why).await;
        self.lease_as(&AHEAD, [], "no handler was free, and the remaining delivery has an expired lease").await;
        self.lease_as(&request, [&second], "one handler was free").await;
    }

    pub(super) async fn exhausted_delivery_is_not_leased_ahead(&self) {
        let [first, second] = ["first", "second"].map(|id| delivery("warung", id, "body"));
        self.accept(&first).await;
        let lease = self.lease_one(&first, "the delivery was accepted").await;
        self.settle(&lease, reschedule(Duration::ZERO)).await;
        self.accept(&second).await;
        let last = LeaseRequest { max_attempts: 1, ..AHEAD };
        self.lease_as(&last, [&second], "no handler was free, and the first has had all its attempts").await;
        let why = "a handler was free, although the delivery has had all its attempts";
        self.lease_as(&LeaseRequest { max_attempts: 1, ..REQUEST }, [&first], why).await;
    }

    pub(super) async fn last_attempt_counts_when_it_starts(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept(&new).await;
        let three = LeaseRequest { max_attempts: 3, ..REQUEST };
        for attempt in 1..6 {
            let why = format!("this is attempt {attempt} of 3, and a handler was free");
            let is_counted = attempt < 3;
            let [leased] = self.lease_marked(&three, [&new], [is_counted], &why).await;
            let lease = leased.lease();
            self.same("lease", &lease.attempt(), &attempt, &why);
            let counted = if is_counted { attempt } else { attempt - 1 };
            self.show(lease.id(), &new, DeliveryState::Leased, counted, &why).await;
            self.start(lease).await;
            self.show(lease.id(), &new, DeliveryState::Leased, attempt, &why).await;
            self.settle(lease, reschedule(Duration::ZERO)).await;
        }
    }

    pub(super) async fn expired_lease_counts_when_it_starts(&self) {
        let new = delivery("warung", "evt", "body");
        let first = self.begin(&new).await;
        for _ in 0..3 {
            self.advance(LEASE + MARGIN).await;
            let why = "the lease has expired, so the attempt does not count with the lease";
            let [leased] = self.lease_marked(&REQUEST, [&new], [false], why).await;
            self.same("lease", &leased.lease().attempt(), &2, "only one attempt was counted");
            self.show(first.id(), &new, DeliveryState::Leased, 1, why).await;
        }
    }

    pub(super) async fn unstarted_attempts_do_not_dead_letter(&self) {
        let [ahead, crashed] = ["ahead", "crashed"].map(|id| delivery("warung", id, "body"));
        let last = LeaseRequest { max_attempts: 1, ..REQUEST };
        self.accept(&ahead).await;
        let [first] = self.lease_as(&LeaseRequest { free_handlers: 0, ..last }, [&ahead], "it was accepted").await;
        self.accept(&crashed).await;
        let [crashed_lease] = self.lease_as(&last, [&crashed], "the delivery was accepted").await;
        self.start(&crashed_lease).await;
        for _ in 0..3 {
            self.advance(LEASE + MARGIN).await;
            // A dead letter may count towards the limit, so a second call may be needed.
            let mut leased = self.try_lease(&last).await.leased;
            leased.extend(self.try_lease(&last).await.leased);
            self.are(&leased, [&ahead], "this delivery's attempts never started; the other's attempt did");
            self.show(first.id(), &ahead, DeliveryState::Leased, 0, "no attempt ever started").await;
            self.show(crashed_lease.id(), &crashed, DeliveryState::Dead, 1, "the attempt had started").await;
        }
        self.advance(LEASE + MARGIN).await;
        let [lease] = self.lease_as(&last, [&ahead], "no attempt ever started").await;
        self.start(&lease).await;
        self.advance(LEASE + MARGIN).await;
        self.same("lease", &self.try_lease(&last).await.dead_lettered.len(), &1, "the only attempt had started");
    }

    pub(super) async fn release_keeps_earlier_attempts(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept(&new).await;
        for _ in 0..2 {
            let lease = self.lease_one(&new, "the delivery is due").await;
            self.settle(&lease, reschedule(Duration::ZERO)).await;
        }
        for starts in [false, true, false] {
            let [lease] = self.lease_as(&AHEAD, [&new], "the delivery is due").await;
            self.same("lease", &lease.attempt(), &3, "two attempts failed, and all later ones were released");
            if starts {
                self.start(&lease).await;
            }
            for _ in 0..2 {
                self.settle(&lease, Settlement::Release).await;
                let why = "two attempts failed, and the third was released";
                self.show(lease.id(), &new, DeliveryState::Ready, 2, why).await;
            }
        }
        let lease = self.lease_one(&new, "the delivery is due").await;
        self.advance(LEASE + MARGIN).await;
        let [taken] = self.lease_as(&REQUEST, [&new], "the lease has expired").await;
        self.settle(&taken, Settlement::Release).await;
        self.show(lease.id(), &new, DeliveryState::Ready, 3, "the third attempt started, and not the fourth").await;

        let [lease] = self.lease_as(&AHEAD, [&new], "the delivery is due").await;
        self.start(&lease).await;
        self.settle(&lease, Settlement::DeadLetter { reason: "failed".into(), status: None }).await;
        self.retry(lease.id()).await;
        for _ in 0..2 {
            self.settle(&lease, Settlement::Release).await;
            let why = "the delivery was retried, and a ready delivery cannot be released";
            self.show(lease.id(), &new, DeliveryState::Ready, 0, why).await;
        }
        let lease = self.lease_one(&new, "the delivery was retried").await;
        self.same("lease", &lease.attempt(), &1, "the delivery was retried");
        self.settle(&lease, done(Duration::ZERO)).await;
    }

    /// Makes this request and checks which deliveries are leased, and which of their attempts are counted.
    async fn lease_marked<const N: usize>(
        &self,
        request: &LeaseRequest<'_>,
        expected: [&NewDelivery; N],
        counted: [bool; N],
        why: &str,
    ) -> [Leased; N] {
        let leased = self.try_lease(request).await.leased;
        self.are(&leased, expected, why);
        let leased: [Leased; N] = leased.try_into().unwrap_or_else(|_| unreachable!("there are as many as expected"));
        let marked = leased.each_ref().map(Leased::is_attempt_counted);
        self.same("lease (is_attempt_counted)", &marked, &counted, why);
        leased
    }
}

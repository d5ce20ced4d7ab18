//! Rules for what is leased, and for how long.

use std::time::Duration;

use super::{
    delivery,
    subject::{ALL, KEEP, LEASE, MANY_ATTEMPTS, MARGIN, Subject},
};
use crate::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxStore},
};

const SECOND: Duration = Duration::from_secs(1);

impl<S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Subject<'_, S, A> {
    pub(super) async fn the_longest_due_is_leased_first(&self) {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| delivery("warung", id, "body"));
        let postponed = self.take_up(&a).await;
        self.postpone(&postponed, LEASE, true, "its lease is held").await;
        let lapsing = self.take_up(&b).await;
        self.extend(&lapsing, LEASE / 2, true, "its lease is held").await;
        self.accept(&c, "its key is not known").await;
        self.pass(SECOND).await;
        self.accept(&d, "its key is not known").await;
        self.pass(LEASE + MARGIN).await;
        let why = "c and d are due since they were accepted, b since its lease ran out, and a since its pause was over";
        let [c_lease, d_lease, ..] = self.lease([&c, &d, &b, &a], why).await;
        self.postpone(&d_lease, SECOND, true, "its lease is held").await;
        self.postpone(&c_lease, 2 * SECOND, true, "its lease is held").await;
        self.pass(MARGIN).await;
        self.lease([&d, &c], "d was postponed for less than c").await;
    }

    pub(super) async fn no_more_are_leased_than_asked_for(&self) {
        let all = ["a", "b", "c", "d", "e", "f"].map(|id| delivery("warung", id, "body"));
        for new in &all {
            self.accept(new, "its key is not known").await;
            self.pass(SECOND).await;
        }
        let [a, b, c, d, e, f] = &all;
        self.leased(&self.try_lease(0, MANY_ATTEMPTS).await, [], "none was asked for");
        self.leased(&self.try_lease(1, MANY_ATTEMPTS).await, [a], "one was asked for, and this is due the longest");
        self.leased(&self.try_lease(3, MANY_ATTEMPTS).await, [b, c, d], "three were asked for");
        self.counts([2, 4, 0, 0], "four were asked for").await;
        self.leased(&self.try_lease(u32::MAX, MANY_ATTEMPTS).await, [e, f], "as many as there are were asked for");
    }

    pub(super) async fn what_is_leased_is_not_leased_again(&self) {
        let new = delivery("warung", "evt", "body");
        self.lease_nothing("nothing was accepted").await;
        let lease = self.take_up(&new).await;
        self.lease_nothing("it is leased").await;
        self.pass(LEASE - MARGIN).await;
        self.lease_nothing("its lease has not run out").await;
        self.leased(&self.try_lease(ALL, 1).await, [], "its lease has not run out, if it was the last attempt");
        self.show(lease.id(), &new, DeliveryState::Leased, 1, "it is leased").await;
    }

    pub(super) async fn a_lease_ends(&self) {
        let new = delivery("warung", "evt", "body");
        let lost = self.take_up(&new).await;
        self.pass(LEASE + MARGIN).await;
        let lease = self.lease_one(&new, "its lease has run out").await;
        self.finish(&lost, Duration::ZERO, false, "another has leased it").await;
        self.lease_nothing("it is leased anew").await;
        self.pass(LEASE - MARGIN).await;
        self.lease_nothing("the new lease has not run out").await;
        self.finish(&lease, Duration::ZERO, true, "its lease is held").await;
    }

    pub(super) async fn what_ran_out_is_marked(&self) {
        let [lost, failed, given_back] = ["lost", "failed", "given back"].map(|id| delivery("warung", id, "body"));
        self.take_up(&lost).await;
        let lease = self.take_up(&failed).await;
        self.postpone(&lease, Duration::ZERO, true, "its lease is held").await;
        let lease = self.lease_one(&failed, "it is due").await;
        self.postpone(&lease, Duration::ZERO, true, "its lease is held").await;
        self.accept(&given_back, "its key is not known").await;
        self.pass(LEASE + MARGIN).await;
        let leased = self.try_lease(3, 25).await;
        let marked = leased.iter().filter(|leased| leased.is_after_a_lease_that_ran_out());
        let marked: Vec<_> = marked.map(|leased| leased.head()).collect();
        self.same("lease", &leased.len(), &3, "one has run out, one is tried again, one is new");
        self.same("lease", &marked, &vec![lost.head()], "only the lease of this one ran out");
    }

    pub(super) async fn attempts_and_tokens_grow(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept(&new, "its key is not known").await;
        let mut last = None;
        let mut attempts = 0;
        for round in 0..3 {
            for step in 0..5 {
                let lease = self.lease_one(&new, "it is due").await;
                attempts += 1;
                self.same("lease", &lease.attempt(), &attempts, "each lease counts as an attempt");
                let grows = last.is_none_or(|last| lease.token() > last);
                self.holds(grows, &format!("the token {} came after {last:?}", lease.token()));
                last = Some(lease.token());
                self.show(lease.id(), &new, DeliveryState::Leased, attempts, "each lease counts as an attempt").await;
                match step {
                    0 => self.postpone(&lease, Duration::ZERO, true, "its lease is held").await,
                    1 => self.pass(LEASE + MARGIN).await,
                    2 | 3 => {
                        self.give_back(&lease, true, "its lease is held").await;
                        attempts -= 1;
                    }
                    _ => {
                        self.bury(&lease, true, "its lease is held").await;
                        attempts = 0;
                        match round {
                            0 => self.retry(lease.id(), true, "it is dead").await,
                            _ => self.revive(&delivery("warung", "evt", "body"), "it is dead").await,
                        }
                    }
                }
            }
        }
    }

    pub(super) async fn an_extended_lease_starts_anew(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.take_up(&new).await;
        for _ in 0..3 {
            self.pass(LEASE - MARGIN).await;
            self.extend(&lease, LEASE, true, "its lease is held").await;
        }
        self.pass(LEASE - MARGIN).await;
        self.lease_nothing("its lease was extended").await;
        self.show(lease.id(), &new, DeliveryState::Leased, 1, "an extension is no attempt").await;
        self.extend(&lease, KEEP, true, "its lease is held").await;
        self.pass(KEEP - MARGIN).await;
        self.lease_nothing("its lease was extended for longer").await;
        self.extend(&lease, LEASE, true, "its lease is held").await;
        self.extend(&lease, KEEP, true, "its lease is held").await;
        self.extend(&lease, LEASE, true, "its lease is held").await;
        self.pass(LEASE + MARGIN).await;
        let next = self.lease_one(&new, "the lease counts from its extension, if it was longer before").await;
        self.same("lease", &next.attempt(), &2, "an extension is no attempt");
        self.extend(&lease, LEASE, false, "another has leased it").await;
    }

    pub(super) async fn who_died_of_the_last_attempt_is_buried(&self) {
        let [dying, beside] = ["dying", "beside"].map(|id| delivery("warung", id, "body"));
        let first = self.take_up(&dying).await;
        self.pass(LEASE + MARGIN).await;
        let [last] = self.leased(&self.try_lease(ALL, 2).await, [&dying], "its lease ran out after 1 of 2 attempts");
        self.accept(&beside, "its key is not known").await;
        self.pass(LEASE + MARGIN).await;
        // A burial may use up what was asked for.
        let mut leased = self.try_lease(1, 2).await;
        leased.extend(self.try_lease(1, 2).await);
        self.leased(&leased, [&beside], "the lease of the other ran out after 2 of 2 attempts, and of this none did");
        self.show(last.id(), &dying, DeliveryState::Dead, 2, "its lease ran out after 2 of 2 attempts").await;
        self.counts([0, 1, 1, 0], "one was buried").await;
        self.finish(&first, Duration::ZERO, false, "it is dead").await;
        self.finish(&last, Duration::ZERO, false, "it is dead").await;
        self.retry(last.id(), true, "it is dead").await;
        let again = self.lease_one(&dying, "it was retried").await;
        self.same("lease", &again.attempt(), &1, "it was retried");
    }

    pub(super) async fn what_is_ready_is_leased_however_many_attempts_it_has(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept(&new, "its key is not known").await;
        for attempt in 1..5 {
            let [lease] = self.leased(&self.try_lease(ALL, 1).await, [&new], "it is ready, and so leased");
            self.same("lease", &lease.attempt(), &attempt, "each lease counts as an attempt");
            self.postpone(&lease, Duration::ZERO, true, "its lease is held").await;
        }
        self.counts([1, 0, 0, 0], "it waits").await;
    }
}

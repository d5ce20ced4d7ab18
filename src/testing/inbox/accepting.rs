//! Rules for what is accepted, and under which id.

use std::time::Duration;

use super::{
    conflict, delivery,
    subject::{KEEP, LEASE, MARGIN, RETENTION, Subject},
};
use crate::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxStore},
};

impl<S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Subject<'_, S, A> {
    pub(super) async fn what_is_new_is_accepted_once(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept(&new, "its key is not known").await;
        self.known(&new, &new, "it was accepted, under this very claim").await;
        self.known(&delivery("warung", "evt", "body"), &new, "it was accepted").await;
        self.counts([1, 0, 0, 0], "one was accepted, and its copies are none").await;
        self.lease_one(&new, "it was accepted, and is due at once").await;
        self.lease_nothing("one was accepted, and its copies are none").await;
    }

    pub(super) async fn what_is_not_finished_is_known(&self) {
        let new = delivery("warung", "evt", "body");
        let copies = [
            delivery("warung", "evt", "body"),
            delivery("warung", "evt", "other body"),
            delivery("warung", "evt", "another body").with_any_body(),
        ];
        self.accept(&new, "its key is not known").await;
        for copy in &copies {
            self.known(copy, &new, "it waits").await;
        }
        let lease = self.lease_one(&new, "a copy changes nothing").await;
        for copy in &copies {
            self.known(copy, &new, "it is leased").await;
        }
        self.pass(LEASE + MARGIN).await;
        for copy in &copies {
            self.known(copy, &new, "it is leased, if its lease has run out").await;
        }
        self.show(lease.id(), &new, DeliveryState::Leased, 1, "a copy changes nothing").await;
        self.postpone(&lease, KEEP, true, "a copy does not take the lease").await;
        for copy in &copies {
            self.known(copy, &new, "it waits, if it is not due").await;
        }
        self.show(lease.id(), &new, DeliveryState::Ready, 1, "a copy changes nothing").await;
        self.lease_nothing("it is not due, and a copy changes nothing").await;
        self.counts([1, 0, 0, 0], "one was accepted, and its copies are none").await;
    }

    pub(super) async fn what_is_finished_is_known_for_its_retention(&self) {
        let new = delivery("warung", "evt", "body");
        let old = self.handle(&new, Duration::ZERO).await;
        self.known(&new, &new, "it was accepted under this very claim, and is finished").await;
        self.known(&delivery("warung", "evt", "body"), &new, "it is finished").await;
        self.known(&delivery("warung", "evt", "other body"), &new, "it is finished, with that body").await;
        self.pass(RETENTION - MARGIN).await;
        self.known(&delivery("warung", "evt", "body"), &new, "its retention is not over").await;
        self.lease_nothing("what is known is not stored").await;
        self.pass(2 * MARGIN).await;
        let again = delivery("warung", "evt", "other body");
        self.accept(&again, "the retention is over").await;
        let lease = self.lease_one(&again, "it was accepted").await;
        self.holds(lease.id() > old.id(), &format!("id {} came after {}", lease.id(), old.id()));
    }

    pub(super) async fn a_copy_does_not_prolong_what_is_known(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept_for(&new, 2 * LEASE, "its key is not known").await;
        self.pass(LEASE).await;
        self.known(&delivery("warung", "evt", "body"), &new, "it waits").await;
        let lease = self.lease_one(&new, "it was accepted").await;
        self.known(&delivery("warung", "evt", "body"), &new, "it is leased").await;
        self.finish(&lease, Duration::ZERO, true, "its lease is held").await;
        self.known(&delivery("warung", "evt", "body"), &new, "it is finished").await;
        self.pass(LEASE - MARGIN).await;
        self.known(&delivery("warung", "evt", "body"), &new, "the retention is not over").await;
        self.pass(2 * MARGIN).await;
        self.accept(&delivery("warung", "evt", "body"), "the retention counts from when it was accepted").await;
    }

    pub(super) async fn deliveries_do_not_touch_each_other(&self) {
        let all = [
            delivery("warung", "evt", "body"),
            delivery("kedai", "evt", "body"),
            delivery("", "evt", "body"),
            delivery("warung", "evt-2", "body"),
            conflict("warung", "evt", "other body"),
            conflict("warung", "evt", "another body"),
            conflict("kedai", "evt", "other body"),
        ];
        for new in &all {
            self.accept(new, "it has a key of its own").await;
            self.pass(Duration::from_secs(1)).await;
        }
        let leases = self.lease(all.each_ref(), "each has a key of its own").await;
        let [finished, buried, postponed, given_back, held @ ..] = &leases;
        self.finish(finished, KEEP, true, "its lease is held").await;
        self.bury(buried, true, "its lease is held").await;
        self.postpone(postponed, KEEP, true, "its lease is held").await;
        self.give_back(given_back, true, "its lease is held").await;
        self.counts([2, 3, 1, 1], "one of each was finished, buried, postponed and given back").await;
        for (lease, new) in held.iter().zip(&all[4..]) {
            self.show(lease.id(), new, DeliveryState::Leased, 1, "others were touched, not this").await;
            self.extend(lease, LEASE, true, "others were touched, not this").await;
            self.finish(lease, Duration::ZERO, true, "others were touched, not this").await;
        }
    }

    pub(super) async fn what_is_kept_gives_way(&self) {
        let (first, short) = (delivery("warung", "evt", "body"), delivery("warung", "short", "body"));
        let old = self.handle(&first, KEEP).await;
        self.accept_for(&short, LEASE, "its key is not known").await;
        let old_short = self.lease_one(&short, "it was accepted").await;
        self.finish(&old_short, KEEP, true, "its lease is held").await;
        self.known(&delivery("warung", "evt", "other body"), &first, "it is done, and kept").await;
        self.forget_in_ledger(&first, 1, "it is done").await;
        self.pass(LEASE + MARGIN).await;
        for (id, kept) in [("evt", old), ("short", old_short)] {
            let again = delivery("warung", id, "other body");
            self.accept(&again, "the ledger does not know it any more, if its body is kept").await;
            self.show_nothing(kept.id(), "another was accepted in its place").await;
            let lease = self.lease_one(&again, "it was accepted").await;
            self.holds(lease.id() > kept.id(), &format!("id {} came after {}", lease.id(), kept.id()));
            self.same("lease", &lease.attempt(), &1, "it is a new delivery");
            self.finish(&kept, KEEP, false, "another was accepted in its place").await;
        }
        self.counts([0, 2, 0, 0], "what was kept has given way").await;
    }

    pub(super) async fn ids_grow(&self) {
        let mut last = self.next_id("evt-0").await;
        let grows = |last: &mut _, next| {
            self.holds(next > *last, &format!("id {next} came after {last}"));
            *last = next;
        };
        grows(&mut last, self.next_id("evt-1").await);
        let dead = delivery("warung", "dead", "body");
        grows(&mut last, self.give_up(&dead).await.id());
        self.forget(&dead, 1, "one was dead").await;
        grows(&mut last, self.next_id("evt-2").await);
        let done = delivery("warung", "done", "body");
        grows(&mut last, self.handle(&done, LEASE).await.id());
        self.pass(LEASE + MARGIN).await;
        self.same("purge_done", &self.purge(10).await, &1, "the time of one is up");
        grows(&mut last, self.next_id("evt-3").await);
        let waiting = ["a", "b", "c"].map(|id| delivery("warung", id, "body"));
        for new in &waiting {
            self.accept(new, "its key is not known").await;
            self.pass(Duration::from_secs(1)).await;
        }
        for lease in self.lease(waiting.each_ref(), "they were accepted in this order").await {
            grows(&mut last, lease.id());
        }
    }
}

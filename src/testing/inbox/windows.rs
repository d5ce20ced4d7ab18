//! Rules for forgetting what was accepted in some time.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use super::{
    conflict, delivery,
    ledger::claim,
    subject::{HOUR, KEEP, LEASE, MARGIN, Subject},
};
use crate::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxStore, NewDelivery},
};

impl<S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Subject<'_, S, A> {
    pub(super) async fn a_window_forgets_what_was_accepted_in_it(&self) {
        let old = [
            delivery("warung", "dead", "body"),
            delivery("kedai", "kept", "body"),
            conflict("warung", "dead", "other body"),
            delivery("warung", "handled", "body"),
        ];
        let dead = self.give_up(&old[0]).await;
        let kept = self.handle(&old[1], KEEP).await;
        self.handle(&old[2], Duration::ZERO).await;
        self.claim(old[3].claim(), "there is no entry").await;
        self.complete(old[3].claim(), true, "it holds the entry").await;
        self.accept_for(&delivery("warung", "lapsed", "body"), LEASE, "its key is not known").await;
        let lapsed = self.lease_one(&delivery("warung", "lapsed", "body"), "it was accepted").await;
        self.finish(&lapsed, Duration::ZERO, true, "its lease is held").await;
        self.pass(2 * HOUR).await;
        let [new_dead, new_gone] = ["new-dead", "new-gone"].map(|id| delivery("warung", id, "body"));
        let new = self.give_up(&new_dead).await;
        self.handle(&new_gone, Duration::ZERO).await;
        self.pass(2 * HOUR).await;

        self.forget_accepted(hours_ago(8, 5), 0, "nothing was accepted as early as that").await;
        self.forget_accepted(hours_ago(3, 3), 0, "nothing was accepted in no time").await;
        self.counts([0, 0, 2, 1], "nothing was forgotten").await;
        let why = "4 hours ago one was accepted that is dead, one that is kept, one that is known from before, and one \
                   was claimed; a fifth has gone since";
        self.forget_accepted(hours_ago(5, 3), 4, why).await;
        self.show_nothing(dead.id(), "it was forgotten").await;
        self.show_nothing(kept.id(), "it was forgotten").await;
        self.show(new.id(), &new_dead, DeliveryState::Dead, 1, "it was accepted later").await;
        self.known(&delivery("warung", "new-gone", "body"), &new_gone, "it was accepted later").await;
        for forgotten in &old {
            let lease = self.take_up(forgotten).await;
            self.finish(&lease, Duration::ZERO, true, "its lease is held").await;
        }
        let all = SystemTime::UNIX_EPOCH..SystemTime::now() + HOUR;
        self.forget_accepted(all, 6, "two were accepted 2 hours ago, and four just now").await;
        self.counts([0, 0, 0, 0], "all was forgotten").await;
    }

    pub(super) async fn a_window_leaves_what_is_not_finished(&self) {
        let [ready, leased, lapsed, dead] =
            ["ready", "leased", "lapsed", "dead"].map(|id| delivery("warung", id, "body"));
        let dead_lease = self.give_up(&dead).await;
        let lapsed_lease = self.take_up(&lapsed).await;
        let lease = self.take_up(&leased).await;
        self.extend(&lease, KEEP, true, "its lease is held").await;
        self.accept(&ready, "its key is not known").await;
        self.pass(4 * HOUR).await;
        let held = claim("warung", "held", "body");
        self.claim(&held, "there is no entry").await;
        self.forget_accepted(hours_ago(5, 3), 1, "of four that were accepted 4 hours ago, one is dead").await;
        self.show_nothing(dead_lease.id(), "it was forgotten").await;
        self.counts([1, 2, 0, 0], "the others are not finished").await;
        self.show(lapsed_lease.id(), &lapsed, DeliveryState::Leased, 1, "it is not finished").await;
        for waiting in ["ready", "leased", "lapsed"].map(|id| delivery("warung", id, "body")) {
            self.done(waiting.claim(), &waiting, "its ledger row stays with what waits").await;
            self.known(&waiting, &waiting, "it is going to be handled").await;
        }
        self.extend(&lease, LEASE, true, "its lease is held").await;
        self.pass(MARGIN).await;
        let all = SystemTime::UNIX_EPOCH..SystemTime::now() + HOUR;
        self.forget_accepted(all, 1, "one is claimed, and the others are not finished").await;
        self.complete(&held, false, "it was forgotten").await;
        self.finish(&lease, Duration::ZERO, true, "its lease is held").await;
        self.known(&delivery("warung", "leased", "body"), &leased, "it is finished, and was not forgotten").await;
    }

    pub(super) async fn a_window_takes_what_was_accepted_in_it_and_came_again_since(&self) {
        let [dead, kept, gone, waiting] = &self.come_again().await;
        let why = "6 hours ago all were accepted, of which one is dead, one is kept, and one waits; of a fourth there is \
                   only a ledger row from 4 hours ago";
        self.forget_accepted(hours_ago(7, 5), 2, why).await;
        self.counts([1, 0, 0, 0], why).await;
        self.known(gone, gone, "it was claimed later").await;
        self.is_left(waiting).await;
        self.are_forgotten([dead, kept]).await;
    }

    pub(super) async fn a_window_does_not_go_by_a_ledger_row_whose_time_is_up(&self) {
        let new = delivery("warung", "evt", "body");
        let dead = self.give_up(&new).await;
        self.pass(2 * HOUR).await;
        self.forget_in_ledger(&new, 1, "it is done").await;
        self.claim(&claim("warung", "evt", "body"), "the ledger has forgotten it").await;
        self.pass(4 * HOUR).await;
        let why = "what was claimed 4 hours ago has run out, and counts as absent";
        self.forget_accepted(hours_ago(5, 3), 0, why).await;
        self.show(dead.id(), &new, DeliveryState::Dead, 1, "it was accepted 6 hours ago").await;
        self.forget_accepted(hours_ago(7, 5), 1, "it was accepted 6 hours ago").await;
        self.show_nothing(dead.id(), "it was forgotten").await;
    }

    pub(super) async fn a_window_takes_what_came_again_in_it(&self) {
        let [dead, kept, gone, waiting] = &self.come_again().await;
        let why = "4 hours ago all came again, of which one is dead, one is kept, one is known, and one waits";
        self.forget_accepted(hours_ago(5, 3), 3, why).await;
        self.counts([1, 0, 0, 0], why).await;
        self.is_left(waiting).await;
        self.are_forgotten([dead, kept, gone]).await;
    }

    pub(super) async fn what_came_again_was_claimed_anew(&self) {
        let all = self.come_again().await;
        self.forget_claimed(hours_ago(7, 5), 0, "what was claimed then was claimed anew 4 hours ago").await;
        for new in &all {
            self.done(new.claim(), new, "nothing was forgotten").await;
        }
        self.forget_claimed(hours_ago(5, 3), 4, "4 hours ago all four came again").await;
        for new in &all {
            self.claim(new.claim(), "the ledger has forgotten it").await;
        }
        self.counts([1, 0, 1, 1], "the ledger's calls leave deliveries alone").await;
    }

    /// One that is dead, one that is kept, one of which there is a ledger row alone, and one that waits: all were accepted 6
    /// hours ago, and came again 4 hours ago, dead or when their ledger rows had gone.
    async fn come_again(&self) -> [NewDelivery; 4] {
        let all = ["dead", "kept", "gone", "waiting"].map(|id| delivery("warung", id, "body"));
        let [dead, kept, gone, waiting] = &all;
        self.give_up(dead).await;
        self.give_up(waiting).await;
        let [kept_lease, gone_lease] = [self.take_up(kept).await, self.take_up(gone).await];
        self.pass(2 * HOUR).await;
        self.revive(dead, "it was dead").await;
        for new in [kept, gone] {
            self.forget_in_ledger(new, 1, "it is done").await;
            self.known(new, new, "it is leased, if its lease has run out").await;
        }
        self.finish(&kept_lease, KEEP, true, "its lease is held").await;
        self.finish(&gone_lease, Duration::ZERO, true, "its lease is held").await;
        let lease = self.lease_one(dead, "it was revived").await;
        self.bury(&lease, true, "its lease is held").await;
        self.revive(waiting, "it was dead").await;
        self.pass(4 * HOUR).await;
        all
    }

    async fn is_left(&self, waiting: &NewDelivery) {
        self.done(waiting.claim(), waiting, "its ledger row stays with what waits").await;
        let lease = self.lease_one(waiting, "it is going to be handled").await;
        self.finish(&lease, Duration::ZERO, true, "its lease is held").await;
    }

    async fn are_forgotten<const N: usize>(&self, forgotten: [&NewDelivery; N]) {
        for new in forgotten {
            let lease = self.take_up(new).await;
            self.finish(&lease, Duration::ZERO, true, "its lease is held").await;
        }
    }
}

fn hours_ago(start: u32, end: u32) -> Range<SystemTime> {
    let now = SystemTime::now();
    now - start * HOUR..now - end * HOUR
}

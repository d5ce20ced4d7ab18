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
    inbox::{DeliveryState, InboxStore},
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
}

fn hours_ago(start: u32, end: u32) -> Range<SystemTime> {
    let now = SystemTime::now();
    now - start * HOUR..now - end * HOUR
}

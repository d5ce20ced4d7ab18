//! Rules for forgetting the deliveries that were accepted within a window.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use tower_klikit::{
    dedupe::{ClaimTerms, Ledger},
    inbox::{DeliveryState, InboxAdmin, InboxStore, NewDelivery},
};

use super::{
    conflict, delivery,
    tested::{HOUR, KEEP, LEASE, MARGIN, TERMS, TestedInbox, dead_letter, done},
};
use crate::ledger::claim;

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn window_forgets_deliveries_accepted_in_it(&self) {
        let old = [
            delivery("warung", "dead", "body"),
            delivery("kedai", "kept", "body"),
            conflict("warung", "dead", "other body"),
            delivery("warung", "handled", "body"),
            delivery("warung", "expired", "body"),
        ];
        let dead = self.make_dead(&old[0]).await;
        let kept = self.handle(&old[1], KEEP).await;
        self.handle(&old[2], Duration::ZERO).await;
        self.claim(old[3].claim(), "there is no entry").await;
        self.complete(old[3].claim(), "the token holds the entry").await;
        let long_grace = ClaimTerms { grace: KEEP, ..TERMS };
        self.answer("claim", self.store.claim(old[4].claim(), &long_grace).await);
        self.accept_for(&delivery("warung", "over", "body"), LEASE).await;
        let over = self.lease_one(&delivery("warung", "over", "body"), "the delivery was accepted").await;
        self.settle(&over, done(Duration::ZERO)).await;
        self.advance(2 * HOUR).await;
        let [new_dead, new_gone] = ["new-dead", "new-gone"].map(|id| delivery("warung", id, "body"));
        let new = self.make_dead(&new_dead).await;
        self.handle(&new_gone, Duration::ZERO).await;
        self.advance(2 * HOUR).await;

        self.forget_accepted(hours_ago(8, 5), 0, "nothing was accepted as early as that").await;
        self.forget_accepted(hours_ago(3, 3), 0, "the window is empty").await;
        self.counts([0, 0, 2, 1], "nothing was forgotten").await;
        let why = "of six deliveries from 4 hours ago one is dead, one kept, one known to the ledger, and two claimed; the \
                   retention of the sixth is over";
        self.forget_accepted(hours_ago(5, 3), 5, why).await;
        self.show_nothing(dead.id(), "the delivery was forgotten").await;
        self.show_nothing(kept.id(), "the delivery was forgotten").await;
        self.show(new.id(), &new_dead, DeliveryState::Dead, 1, "the delivery was accepted later").await;
        self.is_known(&delivery("warung", "new-gone", "body"), &new_gone, "the delivery was accepted later").await;
        self.cannot_complete(old[4].claim(), "the claim was forgotten").await;
        self.are_forgotten(old.each_ref()).await;
        let all = SystemTime::UNIX_EPOCH..SystemTime::now() + HOUR;
        self.forget_accepted(all, 7, "two were accepted 2 hours ago, and five just now").await;
        self.counts([0, 0, 0, 0], "all deliveries were forgotten").await;
    }

    pub(super) async fn window_keeps_pending_deliveries(&self) {
        let [ready, leased, expired, dead] =
            ["ready", "leased", "expired", "dead"].map(|id| delivery("warung", id, "body"));
        let dead_lease = self.make_dead(&dead).await;
        let expired_lease = self.begin(&expired).await;
        let lease = self.begin(&leased).await;
        self.extend(&lease, KEEP, "the lease is current").await;
        self.accept(&ready).await;
        self.advance(4 * HOUR).await;
        let held = claim("warung", "held", "body");
        self.claim(&held, "there is no entry").await;
        self.forget_accepted(hours_ago(5, 3), 1, "of four that were accepted 4 hours ago, one is dead").await;
        self.show_nothing(dead_lease.id(), "the delivery was forgotten").await;
        self.counts([1, 2, 0, 0], "the others are pending").await;
        self.show(expired_lease.id(), &expired, DeliveryState::Leased, 1, "the delivery is pending").await;
        for pending in ["ready", "leased", "expired"].map(|id| delivery("warung", id, "body")) {
            self.is_done(pending.claim(), &pending, "the ledger row of a pending delivery stays").await;
            self.is_known(&pending, &pending, "the delivery is pending").await;
        }
        self.extend(&lease, LEASE, "the lease is current").await;
        self.advance(MARGIN).await;
        let all = SystemTime::UNIX_EPOCH..SystemTime::now() + HOUR;
        self.forget_accepted(all, 1, "one entry is claimed, and the others are pending").await;
        self.cannot_complete(&held, "the claim was forgotten").await;
        self.settle(&lease, done(Duration::ZERO)).await;
        self.is_known(&delivery("warung", "leased", "body"), &leased, "the delivery is handled, and not forgotten")
            .await;
    }

    pub(super) async fn window_compares_the_time_of_acceptance(&self) {
        let [dead, kept, gone, pending] = &self.make_with_later_copies().await;
        let why = "all were accepted 6 hours ago: one is dead, one kept, and one pending; the fourth has only a ledger row, \
                   from 4 hours ago";
        self.forget_accepted(hours_ago(7, 5), 2, why).await;
        self.counts([1, 0, 0, 0], why).await;
        self.is_known(gone, gone, "the ledger row was claimed later").await;
        self.is_still_pending(pending).await;
        self.are_forgotten([dead, kept]).await;
    }

    pub(super) async fn window_compares_the_ledger_row_too(&self) {
        let [dead, kept, gone, pending] = &self.make_with_later_copies().await;
        let why = "copies of all came 4 hours ago: one is dead, one kept, one known to the ledger, and one pending";
        self.forget_accepted(hours_ago(5, 3), 3, why).await;
        self.counts([1, 0, 0, 0], why).await;
        self.is_still_pending(pending).await;
        self.are_forgotten([dead, kept, gone]).await;
    }

    pub(super) async fn window_ignores_ledger_rows_that_are_over(&self) {
        let new = delivery("warung", "evt", "body");
        let dead = self.make_dead(&new).await;
        self.advance(2 * HOUR).await;
        self.forget_in_ledger(&new).await;
        self.claim(&claim("warung", "evt", "body"), "the ledger forgot the event").await;
        self.advance(4 * HOUR).await;
        self.forget_accepted(hours_ago(5, 3), 0, "the grace of the claim from 4 hours ago is over").await;
        self.show(dead.id(), &new, DeliveryState::Dead, 1, "the delivery was accepted 6 hours ago").await;
        self.forget_accepted(hours_ago(7, 5), 1, "the delivery was accepted 6 hours ago").await;
        self.show_nothing(dead.id(), "the delivery was forgotten").await;
    }

    pub(super) async fn counts_the_keys_of_a_window(&self) {
        self.make_with_later_copies().await;
        let why = "all were accepted 6 hours ago, and copies of all came 4 hours ago: one is dead, one kept, one known to \
                   the ledger since then, and one pending";
        for _ in 0..2 {
            self.count_keys(hours_ago(9, 7), 0, why).await;
            self.count_keys(hours_ago(7, 5), 2, why).await;
            self.count_keys(hours_ago(5, 5), 0, "the window is empty").await;
            self.count_keys(hours_ago(5, 3), 3, why).await;
            self.count_keys(hours_ago(7, 3), 3, why).await;
            self.count_keys(hours_ago(3, 1), 0, why).await;
            self.counts([1, 0, 1, 1], "counting changes nothing").await;
        }
        self.forget_accepted(hours_ago(5, 3), 3, why).await;
        self.count_keys(hours_ago(7, 3), 0, "all were forgotten, except the pending one").await;
    }

    pub(super) async fn restored_ledger_row_has_a_new_claim_time(&self) {
        let all = self.make_with_later_copies().await;
        self.forget_claimed(hours_ago(7, 5), 0, "the entries from 6 hours ago were claimed anew 4 hours ago").await;
        for new in &all {
            self.is_done(new.claim(), new, "nothing was forgotten").await;
        }
        self.forget_claimed(hours_ago(5, 3), 4, "copies of all four came 4 hours ago").await;
        for new in &all {
            self.claim(new.claim(), "the ledger forgot the event").await;
        }
        self.counts([1, 0, 1, 1], "calls of the ledger leave deliveries alone").await;
    }

    /// Makes a dead delivery, a kept one, a handled one with only a ledger row, and a pending one. All were accepted 6 hours ago.
    /// Copies came 4 hours ago, when the originals were dead or the ledger had forgotten them.
    async fn make_with_later_copies(&self) -> [NewDelivery; 4] {
        let all = ["dead", "kept", "gone", "pending"].map(|id| delivery("warung", id, "body"));
        let [dead, kept, gone, pending] = &all;
        self.make_dead(dead).await;
        self.make_dead(pending).await;
        let [kept_lease, gone_lease] = [self.begin(kept).await, self.begin(gone).await];
        self.advance(2 * HOUR).await;
        self.revive(dead).await;
        for new in [kept, gone] {
            self.forget_in_ledger(new).await;
            self.is_known(new, new, "the delivery is leased, although the lease has expired").await;
        }
        self.settle(&kept_lease, done(KEEP)).await;
        self.settle(&gone_lease, done(Duration::ZERO)).await;
        let lease = self.lease_one(dead, "the delivery was revived").await;
        self.settle(&lease, dead_letter()).await;
        self.revive(pending).await;
        self.advance(4 * HOUR).await;
        all
    }

    async fn is_still_pending(&self, pending: &NewDelivery) {
        self.is_done(pending.claim(), pending, "the ledger row of a pending delivery stays").await;
        let lease = self.lease_one(pending, "the delivery is pending").await;
        self.settle(&lease, done(Duration::ZERO)).await;
    }

    async fn are_forgotten<const N: usize>(&self, forgotten: [&NewDelivery; N]) {
        for new in forgotten {
            self.handle(new, Duration::ZERO).await;
        }
    }
}

fn hours_ago(start: u32, end: u32) -> Range<SystemTime> {
    let now = SystemTime::now();
    now - start * HOUR..now - end * HOUR
}

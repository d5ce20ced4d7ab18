//! Rules for the ledger row of a delivery.

use std::time::Duration;

use super::{
    delivery,
    ledger::{claim, conflict},
    subject::{LEASE, MARGIN, RETENTION, Subject, roughly},
};
use crate::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxStore},
};

impl<S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Subject<'_, S, A> {
    pub(super) async fn the_ledger_knows_what_was_accepted(&self) {
        let (new, rival) = (delivery("warung", "evt", "body"), claim("warung", "evt", "other body"));
        self.accept(&new, "its key is not known").await;
        self.done(&rival, &new, "what was accepted is done from the start").await;
        self.complete(new.claim(), true, "its ledger row has the token of its claim").await;
        self.complete(&rival, false, "its ledger row has the token of its claim").await;
        self.answer("release", self.store.release(new.claim()).await);
        self.done(&rival, &new, "what is done cannot be released").await;
        let lease = self.lease_one(&new, "the ledger's calls leave deliveries alone").await;
        self.done(&rival, &new, "it is leased").await;
        self.finish(&lease, Duration::ZERO, true, "its lease is held").await;
        self.done(&rival, &new, "it is finished").await;
        self.pass(RETENTION - MARGIN).await;
        self.done(&rival, &new, "its retention is not over").await;
        self.pass(2 * MARGIN).await;
        self.claim(&rival, "the retention is over").await;

        let dead = delivery("warung", "dead", "body");
        self.give_up(&dead).await;
        self.done(&claim("warung", "dead", "body"), &dead, "it is dead").await;
        self.claim(&conflict("warung", "dead", "other body"), "it has an entry of its own").await;
    }

    pub(super) async fn what_the_ledger_has_done_is_known(&self) {
        let handled = claim("warung", "evt", "body");
        let (copy, other) = (delivery("warung", "evt", "body"), delivery("warung", "evt", "other body"));
        self.claim(&handled, "there is no entry").await;
        self.complete(&handled, true, "it holds the entry").await;
        self.known(&copy, &copy, "the ledger has it done").await;
        self.known(&other, &copy, "the ledger has it done, with that body").await;
        self.known(&other.with_any_body(), &copy, "the ledger has it done, with that body").await;
        self.counts([0, 0, 0, 0], "nothing was accepted").await;
        self.pass(RETENTION + MARGIN).await;
        self.accept(&copy, "the retention is over").await;
        self.complete(&handled, false, "its retention is over, and it was accepted since").await;
    }

    pub(super) async fn what_the_ledger_holds_is_in_flight(&self) {
        let (lapsing, released) = (claim("warung", "evt", "body"), claim("warung", "released", "body"));
        self.claim(&lapsing, "there is no entry").await;
        self.claim(&released, "there is no entry").await;
        let (copy, why) = (delivery("warung", "evt", "other body"), "the ledger has it claimed, with that body");
        let remaining = self.in_flight(&copy, lapsing.digest(), why).await;
        self.holds(roughly(remaining, LEASE), &format!("{remaining:?} remain of a claim for {LEASE:?}"));
        self.pass(MARGIN).await;
        let remaining = self.in_flight(&copy, lapsing.digest(), why).await;
        self.holds(roughly(remaining, LEASE - MARGIN), &format!("{remaining:?} remain after {MARGIN:?} of {LEASE:?}"));
        self.counts([0, 0, 0, 0], "nothing was accepted").await;
        self.in_flight(&delivery("warung", "released", "body"), released.digest(), why).await;
        self.answer("release", self.store.release(&released).await);
        self.accept(&delivery("warung", "released", "body"), "the claim was released").await;
        self.pass(LEASE).await;
        self.accept(&copy, "the claim has run out").await;
        self.complete(&lapsing, false, "its claim has run out, and the delivery was accepted since").await;
        self.done(&claim("warung", "evt", "body"), &copy, "it was accepted").await;
    }

    pub(super) async fn a_ledger_row_that_has_gone_is_there_again(&self) {
        let new = delivery("warung", "evt", "body");
        let (copy, rival) = (delivery("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.accept_for(&new, LEASE, "its key is not known").await;
        self.pass(LEASE + MARGIN).await;
        self.known(&copy, &new, "it waits, if its retention is over").await;
        self.done(&rival, &new, "it came again, and its ledger row with it").await;
        self.pass(RETENTION - MARGIN).await;
        self.done(&rival, &new, "it came again, and its ledger row with it, for the new retention").await;
        let lease = self.lease_one(&new, "it was accepted").await;
        self.forget_in_ledger(&new, 1, "it is done").await;
        self.known(&copy, &new, "it is leased, if the ledger has forgotten it").await;
        self.done(&rival, &new, "it came again, and its ledger row with it").await;
        self.show(lease.id(), &new, DeliveryState::Leased, 1, "nothing else changes").await;
        self.finish(&lease, Duration::ZERO, true, "its lease is held").await;
        self.known(&copy, &new, "its ledger row is there again").await;
    }

    pub(super) async fn a_ledger_row_that_has_gone_gets_its_own_digest_back(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept(&new, "its key is not known").await;
        self.forget_in_ledger(&new, 1, "it is done").await;
        self.known(&delivery("warung", "evt", "other body"), &new, "it waits, with that body").await;
        self.done(&claim("warung", "evt", "body"), &new, "another body came, and the row is that of what waits").await;
        self.lease_one(&new, "nothing else changes").await;
    }
}

//! Rules for the ledger row of a delivery.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxAdmin, InboxStore},
};

use super::{
    delivery,
    tested::{HOUR, LEASE, MARGIN, RETENTION, TestedInbox, done, roughly},
};
use crate::ledger::{claim, conflict};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn ledger_knows_accepted_deliveries(&self) {
        let (new, rival) = (delivery("warung", "evt", "body"), claim("warung", "evt", "other body"));
        self.accept(&new).await;
        self.is_done(&rival, &new, "the ledger row of an accepted delivery is done from the start").await;
        self.complete(new.claim(), "the ledger row has the token of the delivery's claim").await;
        self.cannot_complete(&rival, "the ledger row has the token of the delivery's claim").await;
        self.release_claim(new.claim()).await;
        self.is_done(&rival, &new, "a done entry cannot be released").await;
        let lease = self.lease_one(&new, "calls of the ledger leave deliveries alone").await;
        self.is_done(&rival, &new, "the delivery is leased").await;
        self.settle(&lease, done(Duration::ZERO)).await;
        self.is_done(&rival, &new, "the delivery is handled").await;
        self.advance(RETENTION - MARGIN).await;
        self.is_done(&rival, &new, "the retention is not over").await;
        self.advance(2 * MARGIN).await;
        self.claim(&rival, "the retention is over").await;

        let dead = delivery("warung", "dead", "body");
        self.make_dead(&dead).await;
        self.is_done(&claim("warung", "dead", "body"), &dead, "the delivery is dead").await;
        self.claim(&conflict("warung", "dead", "other body"), "a conflict has its own entry").await;
    }

    pub(super) async fn deliveries_done_in_the_ledger_are_known(&self) {
        let handled = claim("warung", "evt", "body");
        let (copy, other) = (delivery("warung", "evt", "body"), delivery("warung", "evt", "other body"));
        self.claim(&handled, "there is no entry").await;
        self.complete(&handled, "the token holds the entry").await;
        self.is_known(&copy, &copy, "the entry is done").await;
        self.is_known(&other, &copy, "the entry is done, with that body").await;
        self.is_known(&other.with_any_body(), &copy, "the entry is done, with that body").await;
        self.counts([0, 0, 0, 0], "nothing was accepted").await;
        self.advance(RETENTION + MARGIN).await;
        self.accept_again(&copy, "the retention is over").await;
        self.cannot_complete(&handled, "the retention is over, and the delivery was accepted").await;
    }

    pub(super) async fn claimed_deliveries_are_in_flight(&self) {
        let (held, released) = (claim("warung", "evt", "body"), claim("warung", "released", "body"));
        self.claim(&held, "there is no entry").await;
        self.claim(&released, "there is no entry").await;
        let (copy, why) = (delivery("warung", "evt", "other body"), "the entry is claimed, with that body");
        let remaining = self.in_flight(&copy, held.digest(), why).await;
        self.holds(roughly(remaining, LEASE), &format!("{remaining:?} remain of a lease of {LEASE:?} that just began"));
        self.advance(MARGIN).await;
        let remaining = self.in_flight(&copy, held.digest(), why).await;
        self.holds(roughly(remaining, LEASE - MARGIN), &format!("{remaining:?} remain after {MARGIN:?} of {LEASE:?}"));
        self.counts([0, 0, 0, 0], "nothing was accepted").await;
        self.in_flight(&delivery("warung", "released", "body"), released.digest(), why).await;
        self.release_claim(&released).await;
        self.accept_again(&delivery("warung", "released", "body"), "the claim was released").await;
        self.complete(&held, "a rejected delivery does not change the claim").await;
    }

    pub(super) async fn expired_claim_does_not_block_accepting(&self) {
        let expired = claim("warung", "evt", "body");
        self.claim(&expired, "there is no entry").await;
        self.advance(LEASE + MARGIN).await;
        let new = delivery("warung", "evt", "other body");
        self.accept_again(&new, "the lease of the claim is over").await;
        self.cannot_complete(&expired, "the lease was over, and the delivery was accepted").await;
        self.release_claim(&expired).await;
        self.is_done(&claim("warung", "evt", "body"), &new, "the delivery was accepted").await;
    }

    pub(super) async fn missing_ledger_row_is_restored(&self) {
        let new = delivery("warung", "evt", "body");
        let (copy, rival) = (delivery("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.accept_for(&new, LEASE).await;
        self.advance(LEASE + MARGIN).await;
        self.is_known(&copy, &new, "the delivery is ready, although its retention is over").await;
        self.is_done(&rival, &new, "a copy came, and restored the ledger row").await;
        self.advance(RETENTION - MARGIN).await;
        self.is_done(&rival, &new, "the ledger row was restored for the retention of the copy").await;
        let lease = self.lease_one(&new, "the delivery was accepted").await;
        self.forget_in_ledger(&new).await;
        self.is_known(&copy, &new, "the delivery is leased, although the ledger forgot it").await;
        self.is_done(&rival, &new, "a copy came, and restored the ledger row").await;
        self.show(lease.id(), &new, DeliveryState::Leased, 1, "nothing else changes").await;
        self.settle(&lease, done(Duration::ZERO)).await;
        self.is_known(&copy, &new, "its ledger row was restored").await;
    }

    pub(super) async fn restored_ledger_row_has_the_stored_digest(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept(&new).await;
        self.forget_in_ledger(&new).await;
        self.is_known(&delivery("warung", "evt", "other body"), &new, "the delivery is ready, with that body").await;
        let why = "another body came, and restored the row of the stored delivery";
        self.is_done(&claim("warung", "evt", "body"), &new, why).await;
        self.lease_one(&new, "nothing else changes").await;
    }

    pub(super) async fn claimed_ledger_row_is_not_replaced(&self) {
        let (new, other) = (delivery("warung", "evt", "body"), delivery("warung", "evt", "other body"));
        self.accept(&new).await;
        self.forget_in_ledger(&new).await;
        self.claim(other.claim(), "the ledger forgot the event").await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery is ready, although its key is claimed")
            .await;
        let lease = self.lease_one(&new, "the claim leaves the delivery alone").await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery is leased, although its key is claimed")
            .await;
        self.complete(other.claim(), "the token holds the entry, and no copy takes it").await;
        self.is_done(&claim("warung", "evt", "body"), &other, "the entry was completed, with that body").await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery is leased, with that body").await;
        self.settle(&lease, done(Duration::ZERO)).await;
        self.is_known(&delivery("warung", "evt", "body"), &other, "only the ledger knows the key, with that body")
            .await;
    }

    pub(super) async fn expired_claim_on_a_ledger_row_is_replaced(&self) {
        let (new, other) = (delivery("warung", "evt", "body"), delivery("warung", "evt", "other body"));
        self.accept(&new).await;
        self.forget_in_ledger(&new).await;
        self.claim(other.claim(), "the ledger forgot the event").await;
        self.advance(LEASE + MARGIN).await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery is ready").await;
        self.is_done(&claim("warung", "evt", "body"), &new, "the claim had expired, and a copy restored the row").await;
        self.cannot_complete(other.claim(), "the claim had expired, and a copy restored the row").await;
        self.advance(HOUR).await;
        self.is_done(&claim("warung", "evt", "body"), &new, "the ledger row is done").await;
    }
}

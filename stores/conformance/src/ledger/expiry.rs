//! Rules for expired claims: claims whose lease is over, during their grace and after it.

use std::time::Duration;

use tower_klikit::dedupe::{ClaimTerms, Ledger, LedgerAdmin};

use super::{
    claim,
    tested::{GRACE, LEASE, MARGIN, RETENTION, TERMS, TestedLedger, roughly},
};

impl<L: Ledger + LedgerAdmin, A: AsyncFn(&L, Duration)> TestedLedger<'_, L, A> {
    pub(super) async fn expired_claim_can_be_taken_over(&self) {
        let (old, new) = (claim("warung", "evt", "body"), claim("warung", "evt", "other body"));
        self.claim(&old, "there is no entry").await;
        self.advance(LEASE + MARGIN).await;
        self.claim(&new, "the lease is over").await;
        let remaining = self.in_flight(&old, new.digest(), "another token took the entry over").await;
        self.holds(roughly(remaining, LEASE), &format!("{remaining:?} remain of a lease of {LEASE:?} that just began"));
    }

    pub(super) async fn expired_claim_can_be_completed(&self) {
        let [early, late] = ["early", "late"].map(|id| claim("warung", id, "body"));
        let why = "the lease is over, and no other token has taken the entry over";
        self.claim(&early, "there is no entry").await;
        self.claim(&late, "there is no entry").await;
        self.advance(LEASE + MARGIN).await;
        self.complete(&early, why).await;
        self.is_done(&claim("warung", "early", "other body"), early.digest(), "the late completion counts").await;
        self.advance(GRACE - 2 * MARGIN).await;
        self.complete(&late, why).await;
        let rival = claim("warung", "late", "other body");
        self.is_done(&rival, late.digest(), "the late completion counts").await;
        self.advance(RETENTION - MARGIN).await;
        self.is_done(&rival, late.digest(), "the retention counts from the completion").await;
        self.advance(2 * MARGIN).await;
        self.claim(&rival, "the retention is over").await;
    }

    pub(super) async fn expired_claim_can_be_renewed(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "other body"));
        self.claim(&holder, "there is no entry").await;
        self.advance(LEASE + MARGIN).await;
        self.renew(&holder, "the lease is over, and no other token has taken the entry over").await;
        let remaining = self.in_flight(&rival, holder.digest(), "the claim was renewed").await;
        self.holds(roughly(remaining, LEASE), &format!("{remaining:?} remain of a lease of {LEASE:?} that just began"));
        self.advance(LEASE - MARGIN).await;
        self.in_flight(&rival, holder.digest(), "the renewed lease is not over").await;
        self.complete(&holder, "the token holds the entry").await;
    }

    pub(super) async fn expired_claim_can_be_claimed_again(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "other body"));
        self.claim(&holder, "there is no entry").await;
        self.advance(LEASE + MARGIN).await;
        self.claim(&holder, "the lease is over, and no other token has taken the entry over").await;
        let remaining = self.in_flight(&rival, holder.digest(), "the entry was claimed again").await;
        self.holds(roughly(remaining, LEASE), &format!("{remaining:?} remain of a lease of {LEASE:?} that just began"));
        self.complete(&holder, "the token holds the entry").await;
    }

    pub(super) async fn expired_claim_can_be_released(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "other body"));
        self.claim(&holder, "there is no entry").await;
        self.advance(LEASE + MARGIN).await;
        self.release(&rival).await;
        self.renew(&holder, "only its holder can release the entry").await;
        self.advance(LEASE + MARGIN).await;
        self.release(&holder).await;
        self.cannot_renew(&holder, "the claim was released").await;
        self.cannot_complete(&holder, "the claim was released").await;
        self.forget(&holder, 0, "the claim was released").await;
        self.claim(&rival, "the claim was released").await;
    }

    pub(super) async fn lost_claim_cannot_change_the_new_claim(&self) {
        let (old, new) = (claim("warung", "evt", "body"), claim("warung", "evt", "other body"));
        self.claim(&old, "there is no entry").await;
        self.advance(LEASE + MARGIN).await;
        self.claim(&new, "the lease is over").await;
        // Try first while the lease of the new claim lasts, and then after it.
        for why in [
            "another token has taken the entry over",
            "another token has taken the entry over, and its claim has expired",
        ] {
            self.cannot_renew(&old, why).await;
            self.cannot_complete(&old, why).await;
            self.release(&old).await;
            self.advance(LEASE + MARGIN).await;
        }
        self.complete(&new, "the old token has changed nothing").await;
        self.is_done(&old, new.digest(), "another token has completed the entry").await;
    }

    pub(super) async fn claim_is_absent_after_its_grace(&self) {
        let holder = claim("warung", "evt", "body");
        let without_grace = claim("warung", "without grace", "body");
        self.claim(&holder, "there is no entry").await;
        self.claim_on(&without_grace, &ClaimTerms { grace: Duration::ZERO, ..TERMS }, "there is no entry").await;
        self.advance(LEASE + MARGIN).await;
        self.cannot_complete(&without_grace, "the lease is over, and the claim has no grace").await;
        self.advance(GRACE).await;
        self.cannot_renew(&holder, "the grace is over").await;
        self.cannot_complete(&holder, "the grace is over").await;
        self.release(&holder).await;
        self.forget(&holder, 0, "the grace is over").await;
        self.claim(&holder, "the grace is over").await;
        self.complete(&holder, "the entry was claimed again").await;
    }

    pub(super) async fn renewed_claim_has_a_new_grace(&self) {
        let ids = ["renewed", "claimed again", "shortened"];
        let [renewed, claimed_again, shortened] = ids.map(|id| claim("warung", id, "body"));
        self.claim(&renewed, "there is no entry").await;
        self.claim(&claimed_again, "there is no entry").await;
        self.claim_on(&shortened, &ClaimTerms { grace: 10 * GRACE, ..TERMS }, "there is no entry").await;
        self.advance(LEASE - MARGIN).await;
        self.renew(&renewed, "the token holds the entry").await;
        self.claim(&claimed_again, "the token holds the entry").await;
        self.renew(&shortened, "the token holds the entry").await;
        self.advance(LEASE + GRACE - MARGIN).await;
        self.complete(&renewed, "the grace counts from the end of the renewed lease").await;
        self.complete(&claimed_again, "the grace counts from the end of the new lease").await;
        self.advance(2 * MARGIN).await;
        self.cannot_complete(&shortened, "the renewal set a shorter grace, which is over").await;
    }
}

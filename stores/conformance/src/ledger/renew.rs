//! Rules for renewing claims.

use std::time::Duration;

use tower_klikit::dedupe::{Claim, ClaimTerms, Ledger, LedgerAdmin};

use super::{
    claim, conflict,
    tested::{LEASE, MARGIN, TERMS, TestedLedger, roughly},
    with_fresh_token,
};

impl<L: Ledger + LedgerAdmin, A: AsyncFn(&L, Duration)> TestedLedger<'_, L, A> {
    pub(super) async fn renewed_lease_counts_from_the_renewal(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.claim(&holder, "there is no entry").await;
        for _ in 0..3 {
            self.advance(LEASE - MARGIN).await;
            self.renew(&holder, "the token holds the entry").await;
        }
        self.advance(LEASE - MARGIN).await;
        let remaining = self.in_flight(&rival, holder.digest(), "the lease was renewed").await;
        self.holds(
            roughly(remaining, MARGIN),
            &format!("{remaining:?} remain {MARGIN:?} before the end of the renewed lease"),
        );
        self.advance(2 * MARGIN).await;
        self.claim(&rival, "the renewed lease is over").await;
        self.cannot_renew(&holder, "another token has taken the entry over").await;

        let long = claim("warung", "long", "body");
        self.claim_on(&long, &ClaimTerms { lease: 10 * LEASE, ..TERMS }, "there is no entry").await;
        self.renew(&long, "the token holds the entry").await;
        self.advance(LEASE + MARGIN).await;
        self.claim(&claim("warung", "long", "body"), "the lease counts from its renewal, although it was longer").await;
    }

    pub(super) async fn only_holder_can_renew(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.cannot_renew(&holder, "there is no entry").await;
        self.claim(&holder, "renewing an absent entry leaves it absent").await;
        self.advance(LEASE - MARGIN).await;
        self.cannot_renew(&rival, "another token holds the entry").await;
        self.advance(2 * MARGIN).await;
        self.cannot_renew(&rival, "the claim of another token has expired, and renewing does not take it over").await;
        self.claim(&rival, "the lease is over, and only its holder can renew it").await;
    }

    pub(super) async fn done_entry_cannot_be_renewed(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.claim(&holder, "there is no entry").await;
        self.complete(&holder, "the token holds the entry").await;
        self.cannot_renew(&holder, "the entry is done").await;
        self.cannot_renew(&rival, "the entry is done").await;
        self.advance(LEASE + MARGIN).await;
        self.is_done(&rival, holder.digest(), "renewing does not end the retention").await;
    }

    pub(super) async fn renews_many_claims_in_order(&self) {
        let held = ["a", "b", "c"].map(|id| claim("warung", id, "body"));
        let conflict = conflict("warung", "a", "other body");
        let [expired, foreign, done] = ["expired", "foreign", "done"].map(|id| claim("warung", id, "body"));
        let rival = claim("warung", "foreign", "body");
        let absent = claim("warung", "absent", "body");
        self.renew_all(&[], &[], "there are no claims").await;

        self.claim(&expired, "there is no entry").await;
        self.advance(LEASE + MARGIN).await;
        for claim in held.iter().chain([&conflict, &rival, &done]) {
            self.claim(claim, "there is no entry").await;
        }
        self.complete(&done, "the token holds the entry").await;
        self.advance(LEASE - MARGIN).await;

        let [a, b, c] = held.clone();
        let mixed = [a, foreign, b, absent.clone(), expired.clone(), done.clone(), conflict.clone(), c];
        let why = "of the claims, the second is another token's, the fourth is absent, the sixth is done";
        self.renew_all(&mixed, &[true, false, true, false, true, false, true, true], why).await;
        let reversed: Vec<Claim> = mixed.iter().rev().cloned().collect();
        self.renew_all(&reversed, &[true, true, false, true, false, true, false, true], why).await;

        self.advance(2 * MARGIN).await;
        for claim in held.iter().chain([&conflict, &expired]) {
            self.in_flight(&rival_of(claim), claim.digest(), "the claim was renewed").await;
        }
        self.is_done(&rival_of(&done), done.digest(), "the entry is done").await;
        self.claim(&absent, "renewing an absent entry leaves it absent").await;
        self.claim(&rival_of(&rival), "only its holder can renew a lease").await;
    }
}

/// Makes a claim on the same entry with a fresh token.
fn rival_of(of: &Claim) -> Claim {
    with_fresh_token(*of.key(), *of.event(), *of.digest())
}

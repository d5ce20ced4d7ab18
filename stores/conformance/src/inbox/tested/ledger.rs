//! Calls to the ledger.

use std::{ops::Range, time::SystemTime};

use tower_klikit::{
    dedupe::{Claim, ClaimOutcome, Ledger},
    inbox::NewDelivery,
};

use super::{RETENTION, TERMS, TestedInbox};

impl<S: Ledger, A> TestedInbox<'_, S, A> {
    /// Checks that the ledger lets this claim have its entry.
    pub(crate) async fn claim(&self, claim: &Claim, why: &str) {
        let outcome = self.answer("claim", self.store.claim(claim, &TERMS).await);
        self.same("claim", &outcome, &ClaimOutcome::Claimed, why);
    }

    /// Checks that the entry is done, with the digest of `known`.
    pub(crate) async fn is_done(&self, claim: &Claim, known: &NewDelivery, why: &str) {
        let outcome = self.answer("claim", self.store.claim(claim, &TERMS).await);
        self.same("claim", &outcome, &ClaimOutcome::Done { digest: *known.claim().digest() }, why);
    }

    pub(crate) async fn complete(&self, claim: &Claim, why: &str) {
        let completed = self.answer("complete", self.store.complete(claim, RETENTION).await);
        self.same("complete", &completed, &true, why);
    }

    pub(crate) async fn cannot_complete(&self, claim: &Claim, why: &str) {
        let completed = self.answer("complete", self.store.complete(claim, RETENTION).await);
        self.same("complete", &completed, &false, why);
    }

    pub(crate) async fn release_claim(&self, claim: &Claim) {
        self.answer("release", self.store.release(claim).await);
    }

    /// Forgets the ledger entries that were claimed in this window, and no deliveries.
    pub(crate) async fn forget_claimed(&self, window: Range<SystemTime>, expected: u64, why: &str) {
        let forgotten = self.answer("forget", self.store.forget(&window.into()).await);
        self.same("forget", &forgotten, &expected, why);
    }

    /// Forgets the event of a delivery in the ledger, where it has one entry, and no deliveries.
    pub(crate) async fn forget_in_ledger(&self, of: &NewDelivery) {
        let forgotten = self.answer("forget", self.store.forget(&of.claim().event().into()).await);
        self.same("forget", &forgotten, &1, "the ledger has one entry of the event");
    }
}

//! The store under test, with every call turned into a check.

use std::{
    error::Error,
    fmt::Debug,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::dedupe::{BodyDigest, Claim, ClaimOutcome, Ledger, StoreError};

pub(super) const LEASE: Duration = Duration::from_secs(60);
pub(super) const RETENTION: Duration = Duration::from_secs(35 * 24 * 60 * 60);
/// More than passes by itself while a rule is checked.
pub(super) const MARGIN: Duration = Duration::from_secs(20);

pub(super) struct Subject<'a, L, A> {
    rule: &'static str,
    pub(super) store: Arc<L>,
    advance: &'a A,
}

impl<'a, L: Ledger, A: AsyncFn(&L, Duration)> Subject<'a, L, A> {
    pub(super) fn new(rule: &'static str, store: L, advance: &'a A) -> Self {
        Self { rule, store: Arc::new(store), advance }
    }

    /// Lets time pass.
    pub(super) async fn pass(&self, time: Duration) {
        (self.advance)(&self.store, time).await;
    }

    /// Claims what is to be absent, or this token's own.
    pub(super) async fn claim(&self, claim: &Claim, why: &str) {
        self.claim_for(claim, LEASE, why).await;
    }

    pub(super) async fn claim_for(&self, claim: &Claim, lease: Duration, why: &str) {
        let outcome = self.answer("claim", self.store.claim(claim, lease).await);
        self.same("claim", &outcome, &ClaimOutcome::Claimed, why);
    }

    /// Claims what another is to hold. How much longer it does.
    pub(super) async fn in_flight(&self, claim: &Claim, digest: &BodyDigest, why: &str) -> Duration {
        let outcome = self.answer("claim", self.store.claim(claim, LEASE).await);
        match outcome {
            ClaimOutcome::InFlight { digest: found, remaining } if found == *digest => remaining,
            other => self.broken(&format!("claim gave {other:?}, not InFlight with digest {digest:?}: {why}")),
        }
    }

    /// Claims what is to be done.
    pub(super) async fn done(&self, claim: &Claim, digest: &BodyDigest, why: &str) {
        let outcome = self.answer("claim", self.store.claim(claim, LEASE).await);
        self.same("claim", &outcome, &ClaimOutcome::Done { digest: *digest }, why);
    }

    pub(super) async fn complete(&self, claim: &Claim, expected: bool, why: &str) {
        self.complete_for(claim, RETENTION, expected, why).await;
    }

    pub(super) async fn complete_for(&self, claim: &Claim, retention: Duration, expected: bool, why: &str) {
        let completed = self.answer("complete", self.store.complete(claim, retention).await);
        self.same("complete", &completed, &expected, why);
    }

    pub(super) async fn release(&self, claim: &Claim) {
        self.answer("release", self.store.release(claim).await);
    }

    pub(super) async fn renew(&self, claim: &Claim, expected: bool, why: &str) {
        let renewed = self.answer("renew", self.store.renew(claim, LEASE).await);
        self.same("renew", &renewed, &expected, why);
    }

    pub(super) async fn forget(&self, claim: &Claim, expected: u64, why: &str) {
        let forgotten = self.answer("forget", self.store.forget(claim.event()).await);
        self.same("forget", &forgotten, &expected, why);
    }

    pub(super) async fn forget_claimed(&self, window: Range<SystemTime>, expected: u64, why: &str) {
        let forgotten = self.answer("forget_claimed", self.store.forget_claimed(window).await);
        self.same("forget_claimed", &forgotten, &expected, why);
    }

    pub(super) async fn purge(&self, limit: u32) -> u64 {
        let gone = self.answer("purge", self.store.purge(limit).await);
        self.holds(gone <= u64::from(limit), &format!("purge({limit}) gave {gone}"));
        gone
    }

    pub(super) fn holds(&self, holds: bool, otherwise: &str) {
        if !holds {
            self.broken(otherwise);
        }
    }

    pub(super) fn answer<T>(&self, call: &str, answer: Result<T, StoreError>) -> T {
        answer.unwrap_or_else(|error| match error.source() {
            Some(source) => self.broken(&format!("{call} failed: {error}: {source}")),
            None => self.broken(&format!("{call} failed: {error}")),
        })
    }

    fn same<T: PartialEq + Debug>(&self, call: &str, found: &T, expected: &T, why: &str) {
        self.holds(found == expected, &format!("{call} gave {found:?}, not {expected:?}: {why}"));
    }

    pub(super) fn broken(&self, how: &str) -> ! {
        panic!("this ledger breaks the rule `{}`: {how}", self.rule)
    }
}

//! The store under test. Each method makes a call and checks its result.

use std::{
    error::Error,
    fmt::Debug,
    ops::Range,
    slice,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tower_klikit::dedupe::{
    BodyDigest, Claim, ClaimOutcome, ClaimTerms, Ledger, LedgerAdmin, LedgerSelection, StoreError,
};

pub(super) const LEASE: Duration = Duration::from_secs(60);
pub(super) const GRACE: Duration = Duration::from_secs(5 * 60);
pub(super) const TERMS: ClaimTerms = ClaimTerms { lease: LEASE, grace: GRACE };
pub(super) const RETENTION: Duration = Duration::from_secs(35 * 24 * 60 * 60);
/// More than the real time that passes while a rule is checked.
pub(super) const MARGIN: Duration = Duration::from_secs(20);

/// The store under test, and the rule that is checked.
pub(super) struct TestedLedger<'a, L, A> {
    rule: &'static str,
    pub(super) store: Arc<L>,
    advance: &'a A,
}

impl<'a, L: Ledger + LedgerAdmin, A: AsyncFn(&L, Duration)> TestedLedger<'a, L, A> {
    pub(super) fn new(rule: &'static str, store: L, advance: &'a A) -> Self {
        Self { rule, store: Arc::new(store), advance }
    }

    /// Makes time pass for the store.
    pub(super) async fn advance(&self, time: Duration) {
        (self.advance)(&self.store, time).await;
    }

    /// Claims an entry that is absent, expired, or held by this token.
    pub(super) async fn claim(&self, claim: &Claim, why: &str) {
        self.claim_on(claim, &TERMS, why).await;
    }

    pub(super) async fn claim_on(&self, claim: &Claim, terms: &ClaimTerms, why: &str) {
        let outcome = self.answer("claim", self.store.claim(claim, terms).await);
        self.same("claim", &outcome, &ClaimOutcome::Claimed, why);
    }

    /// Checks that another token holds the entry with this digest. Returns the time that remains of its lease.
    pub(super) async fn in_flight(&self, claim: &Claim, digest: &BodyDigest, why: &str) -> Duration {
        let outcome = self.answer("claim", self.store.claim(claim, &TERMS).await);
        match outcome {
            ClaimOutcome::InFlight { digest: found, remaining } if found == *digest => remaining,
            other => self.broken(&format!("claim returned {other:?}, not InFlight with digest {digest:?}: {why}")),
        }
    }

    /// Checks that the entry is done, with this digest.
    pub(super) async fn is_done(&self, claim: &Claim, digest: &BodyDigest, why: &str) {
        let outcome = self.answer("claim", self.store.claim(claim, &TERMS).await);
        self.same("claim", &outcome, &ClaimOutcome::Done { digest: *digest }, why);
    }

    pub(super) async fn complete(&self, claim: &Claim, why: &str) {
        self.complete_for(claim, RETENTION, why).await;
    }

    pub(super) async fn complete_for(&self, claim: &Claim, retention: Duration, why: &str) {
        let completed = self.answer("complete", self.store.complete(claim, retention).await);
        self.same("complete", &completed, &true, why);
    }

    pub(super) async fn cannot_complete(&self, claim: &Claim, why: &str) {
        let completed = self.answer("complete", self.store.complete(claim, RETENTION).await);
        self.same("complete", &completed, &false, why);
    }

    pub(super) async fn release(&self, claim: &Claim) {
        self.answer("release", self.store.release(claim).await);
    }

    pub(super) async fn renew(&self, claim: &Claim, why: &str) {
        self.renew_all(slice::from_ref(claim), &[true], why).await;
    }

    pub(super) async fn cannot_renew(&self, claim: &Claim, why: &str) {
        self.renew_all(slice::from_ref(claim), &[false], why).await;
    }

    pub(super) async fn renew_all(&self, claims: &[Claim], expected: &[bool], why: &str) {
        let renewed = self.answer("renew", self.store.renew(claims, &TERMS).await);
        self.same("renew", &renewed, &expected.to_vec(), why);
    }

    /// Counts the entries of this claim's event, and then forgets the event.
    pub(super) async fn forget(&self, claim: &Claim, expected: u64, why: &str) {
        self.forget_selected(&claim.event().into(), expected, why).await;
    }

    /// Counts the entries that were claimed in a window, and then forgets them.
    pub(super) async fn forget_claimed(&self, window: Range<SystemTime>, expected: u64, why: &str) {
        self.forget_selected(&window.into(), expected, why).await;
    }

    async fn forget_selected(&self, selection: &LedgerSelection, expected: u64, why: &str) {
        let counted = self.answer("count", self.store.count(selection).await);
        self.same("count", &counted, &expected, why);
        let forgotten = self.answer("forget", self.store.forget(selection).await);
        self.same("forget", &forgotten, &expected, why);
    }

    pub(super) async fn purge(&self, limit: u32) -> u64 {
        let purged = self.answer("purge", self.store.purge(limit).await);
        self.holds(purged <= u64::from(limit), &format!("purge({limit}) returned {purged}"));
        purged
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

    pub(super) fn same<T: PartialEq + Debug>(&self, call: &str, found: &T, expected: &T, why: &str) {
        self.holds(found == expected, &format!("{call} returned {found:?}, not {expected:?}: {why}"));
    }

    pub(super) fn broken(&self, how: &str) -> ! {
        panic!("this ledger breaks the rule `{}`: {how}", self.rule)
    }
}

/// Returns whether `remaining` is `expected`, with tolerance for real time that passes and for the store's rounding.
pub(super) fn roughly(remaining: Duration, expected: Duration) -> bool {
    remaining <= expected + Duration::from_secs(1) && remaining + MARGIN > expected
}

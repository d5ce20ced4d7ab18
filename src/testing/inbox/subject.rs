//! The store under test, with every call turned into a check.

use std::{error::Error, fmt::Debug, ops::Range, sync::Arc, time::Duration, time::SystemTime};

use super::delivery;
use crate::{
    dedupe::{BodyDigest, Claim, ClaimOutcome, Ledger, StoreError},
    inbox::{Acceptance, Counts, DeliveryId, DeliveryState, Entry, InboxStore, Lease, Leased, NewDelivery},
};

pub(super) const LEASE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(super) const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);
pub(super) const RETENTION: Duration = Duration::from_secs(35 * 24 * 60 * 60);
/// More than passes by itself while a rule is checked.
pub(super) const MARGIN: Duration = Duration::from_secs(20);
/// More than any rule leases.
pub(super) const ALL: u32 = 1000;
/// More than any rule makes.
pub(super) const MANY_ATTEMPTS: u32 = 100;

pub(super) struct Subject<'a, S, A> {
    rule: &'static str,
    pub(super) store: Arc<S>,
    advance: &'a A,
}

/// Accepting, and what the ledger has.
impl<'a, S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Subject<'a, S, A> {
    pub(super) fn new(rule: &'static str, store: S, advance: &'a A) -> Self {
        Self { rule, store: Arc::new(store), advance }
    }

    pub(super) fn renamed(self, rule: &'static str) -> Self {
        Self { rule, ..self }
    }

    /// Lets time pass.
    pub(super) async fn pass(&self, time: Duration) {
        (self.advance)(&self.store, time).await;
    }

    pub(super) async fn accept(&self, new: &NewDelivery, why: &str) {
        self.accept_for(new, RETENTION, why).await;
    }

    pub(super) async fn accept_for(&self, new: &NewDelivery, retention: Duration, why: &str) {
        let acceptance = self.answer("accept", self.store.accept(new, retention).await);
        self.same("accept", &acceptance, &Acceptance::Accepted, why);
    }

    pub(super) async fn revive(&self, new: &NewDelivery, why: &str) {
        let acceptance = self.answer("accept", self.store.accept(new, RETENTION).await);
        self.same("accept", &acceptance, &Acceptance::Revived, why);
    }

    /// Accepts what is to be known with the body of `held`.
    pub(super) async fn known(&self, new: &NewDelivery, held: &NewDelivery, why: &str) {
        let acceptance = self.answer("accept", self.store.accept(new, RETENTION).await);
        self.same("accept", &acceptance, &Acceptance::Known { digest: *held.claim().digest() }, why);
    }

    /// Accepts what the ledger is to have claimed. How much longer it has.
    pub(super) async fn in_flight(&self, new: &NewDelivery, digest: &BodyDigest, why: &str) -> Duration {
        match self.answer("accept", self.store.accept(new, RETENTION).await) {
            Acceptance::InFlight { digest: found, remaining } if found == *digest => remaining,
            other => self.broken(&format!("accept gave {other:?}, not InFlight with digest {digest:?}: {why}")),
        }
    }

    /// Claims what is to be absent from the ledger.
    pub(super) async fn claim(&self, claim: &Claim, why: &str) {
        let outcome = self.answer("claim", self.store.claim(claim, LEASE).await);
        self.same("claim", &outcome, &ClaimOutcome::Claimed, why);
    }

    /// Claims what is to be done, with the body of `held`.
    pub(super) async fn done(&self, claim: &Claim, held: &NewDelivery, why: &str) {
        let outcome = self.answer("claim", self.store.claim(claim, LEASE).await);
        self.same("claim", &outcome, &ClaimOutcome::Done { digest: *held.claim().digest() }, why);
    }

    pub(super) async fn complete(&self, claim: &Claim, expected: bool, why: &str) {
        let completed = self.answer("complete", self.store.complete(claim, RETENTION).await);
        self.same("complete", &completed, &expected, why);
    }

    /// Forgets in the ledger alone.
    pub(super) async fn forget_in_ledger(&self, of: &NewDelivery, expected: u64, why: &str) {
        let forgotten = self.answer("forget", self.store.forget(of.claim().event()).await);
        self.same("forget", &forgotten, &expected, why);
    }
}

/// Leasing.
impl<S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Subject<'_, S, A> {
    pub(super) async fn try_lease(&self, limit: u32, max_attempts: u32) -> Vec<Leased> {
        self.answer("lease", self.store.lease(limit, LEASE, max_attempts).await)
    }

    /// Leases all that can be, which is to be these, the first first.
    pub(super) async fn lease<const N: usize>(&self, expected: [&NewDelivery; N], why: &str) -> [Lease; N] {
        let leased = self.try_lease(ALL, MANY_ATTEMPTS).await;
        self.leased(&leased, expected, why)
    }

    /// That these were leased, the first first.
    pub(super) fn leased<const N: usize>(
        &self,
        leased: &[Leased],
        expected: [&NewDelivery; N],
        why: &str,
    ) -> [Lease; N] {
        let is = |leased: &Leased, expected: &NewDelivery| {
            leased.head() == expected.head() && leased.body() == expected.body()
        };
        let same = leased.len() == N && leased.iter().zip(expected).all(|(leased, expected)| is(leased, expected));
        self.holds(same, &format!("lease gave {leased:?}, not {expected:?}: {why}"));
        std::array::from_fn(|n| *leased[n].lease())
    }

    pub(super) async fn lease_one(&self, expected: &NewDelivery, why: &str) -> Lease {
        let [lease] = self.lease([expected], why).await;
        lease
    }

    pub(super) async fn lease_nothing(&self, why: &str) {
        self.lease([], why).await;
    }

    pub(super) async fn extend(&self, lease: &Lease, time: Duration, expected: bool, why: &str) {
        let extended = self.answer("extend", self.store.extend(lease, time).await);
        self.same("extend", &extended, &expected, why);
    }

    pub(super) async fn finish(&self, lease: &Lease, keep: Duration, expected: bool, why: &str) {
        let finished = self.answer("finish", self.store.finish(lease, keep).await);
        self.same("finish", &finished, &expected, why);
    }

    pub(super) async fn postpone(&self, lease: &Lease, pause: Duration, expected: bool, why: &str) {
        let postponed = self.answer("postpone", self.store.postpone(lease, pause, "postponed").await);
        self.same("postpone", &postponed, &expected, why);
    }

    pub(super) async fn bury(&self, lease: &Lease, expected: bool, why: &str) {
        let buried = self.answer("bury", self.store.bury(lease, "buried").await);
        self.same("bury", &buried, &expected, why);
    }

    pub(super) async fn give_back(&self, lease: &Lease, expected: bool, why: &str) {
        let given_back = self.answer("give_back", self.store.give_back(lease).await);
        self.same("give_back", &given_back, &expected, why);
    }

    /// Accepts and leases, when nothing else can be leased.
    pub(super) async fn take_up(&self, new: &NewDelivery) -> Lease {
        self.accept(new, "its key is not known").await;
        self.lease_one(new, "it was accepted").await
    }

    /// The same, and gives it up.
    pub(super) async fn give_up(&self, new: &NewDelivery) -> Lease {
        let lease = self.take_up(new).await;
        self.bury(&lease, true, "its lease is held").await;
        lease
    }

    /// The same, and handles it.
    pub(super) async fn handle(&self, new: &NewDelivery, keep: Duration) -> Lease {
        let lease = self.take_up(new).await;
        self.finish(&lease, keep, true, "its lease is held").await;
        lease
    }

    /// What the store gives as an id to one that is accepted now.
    pub(super) async fn next_id(&self, id: &str) -> DeliveryId {
        self.handle(&delivery("warung", id, "body"), Duration::ZERO).await.id()
    }
}

/// Operating.
impl<S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Subject<'_, S, A> {
    /// How many are ready, leased, dead and done.
    pub(super) async fn counts(&self, expected: [u64; 4], why: &str) -> Counts {
        let counts = self.answer("counts", self.store.counts().await);
        let found = [counts.ready, counts.leased, counts.dead, counts.done];
        let [ready, leased, dead, done] = expected;
        let expected = format!("{ready} ready, {leased} leased, {dead} dead, {done} done");
        self.holds(found == [ready, leased, dead, done], &format!("counts gave {counts:?}, not {expected}: {why}"));
        counts
    }

    pub(super) async fn shown(&self, id: DeliveryId) -> Option<Entry> {
        self.answer("show", self.store.show(id).await)
    }

    /// Shows one that is in this state, after so many attempts, with the body of `of`.
    pub(super) async fn show(
        &self,
        id: DeliveryId,
        of: &NewDelivery,
        state: DeliveryState,
        attempts: u32,
        why: &str,
    ) -> Entry {
        let entry = self.shown(id).await;
        let Some(entry) = entry else { self.broken(&format!("show({id}) gave nothing: {why}")) };
        let has_body = entry.body.as_ref() == Some(of.body());
        self.holds(entry.id == id && has_body, &format!("show({id}) gave {:?} with another body: {why}", entry.id));
        self.same("show", &(entry.state, entry.attempts), &(state, attempts), why);
        entry
    }

    pub(super) async fn show_nothing(&self, id: DeliveryId, why: &str) {
        let entry = self.shown(id).await;
        self.holds(entry.is_none(), &format!("show({id}) gave what should be gone: {why}"));
    }

    pub(super) async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Vec<Entry> {
        self.answer("dead", self.store.dead(after, limit).await)
    }

    pub(super) async fn retry(&self, id: DeliveryId, expected: bool, why: &str) {
        let retried = self.answer("retry", self.store.retry(id).await);
        self.same("retry", &retried, &expected, why);
    }

    pub(super) async fn forget(&self, of: &NewDelivery, expected: u64, why: &str) {
        let forgotten = self.answer("forget_event", self.store.forget_event(of.claim().event()).await);
        self.same("forget_event", &forgotten, &expected, why);
    }

    pub(super) async fn forget_accepted(&self, window: Range<SystemTime>, expected: u64, why: &str) {
        let forgotten = self.answer("forget_accepted", self.store.forget_accepted(window).await);
        self.same("forget_accepted", &forgotten, &expected, why);
    }

    pub(super) async fn purge(&self, limit: u32) -> u64 {
        let gone = self.answer("purge_done", self.store.purge_done(limit).await);
        self.holds(gone <= u64::from(limit), &format!("purge_done({limit}) gave {gone}"));
        gone
    }
}

impl<S, A> Subject<'_, S, A> {
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
        self.holds(found == expected, &format!("{call} gave {found:?}, not {expected:?}: {why}"));
    }

    pub(super) fn broken(&self, how: &str) -> ! {
        panic!("this store breaks the rule `{}`: {how}", self.rule)
    }
}

/// Whether it is as much as `expected`, give or take what passes by itself and what a clock rounds.
pub(super) fn roughly(found: Duration, expected: Duration) -> bool {
    found.abs_diff(expected) < MARGIN
}

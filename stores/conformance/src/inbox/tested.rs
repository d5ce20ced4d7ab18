//! The store under test. Each method makes a call and checks its result.

use std::{
    error::Error,
    fmt::Debug,
    iter,
    ops::Range,
    slice,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tower_klikit::{
    dedupe::{BodyDigest, Claim, ClaimOutcome, ClaimTerms, Ledger, StoreError},
    inbox::{
        Acceptance, Counts, DeliveryId, DeliveryState, Entry, Filter, InboxAdmin, InboxStore, Lease, LeaseBatch,
        LeaseRequest, Leased, NewDelivery, SettleOutcome, Settlement,
    },
};

use super::fixtures::delivery;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const LEASE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(super) const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);
pub(super) const RETENTION: Duration = Duration::from_secs(35 * 24 * 60 * 60);
/// More than the real time that passes while a rule is checked.
pub(super) const MARGIN: Duration = Duration::from_secs(20);
/// More deliveries than any rule makes.
pub(super) const ALL: u32 = 1000;
/// A request for all deliveries, with enough free handlers and attempts.
pub(super) const REQUEST: LeaseRequest<'static> =
    LeaseRequest { limit: ALL, free_handlers: ALL, duration: LEASE, max_attempts: 100, held: &[] };
/// A request for all deliveries ahead of need.
pub(super) const AHEAD: LeaseRequest<'static> = LeaseRequest { free_handlers: 0, ..REQUEST };
pub(super) const TERMS: ClaimTerms = ClaimTerms { lease: LEASE, grace: HOUR };

/// The store under test, and the rule that is checked.
pub(super) struct TestedInbox<'a, S, A> {
    rule: &'static str,
    pub(super) store: Arc<S>,
    /// More handles on the store, for concurrent calls.
    others: Vec<Arc<S>>,
    advance: &'a A,
}

impl<'a, S, A> TestedInbox<'a, S, A> {
    pub(super) fn new(rule: &'static str, store: S, advance: &'a A) -> Self {
        Self { rule, store: Arc::new(store), others: Vec::new(), advance }
    }

    pub(super) fn with_others(self, others: impl IntoIterator<Item = S>) -> Self {
        Self { others: others.into_iter().map(Arc::new).collect(), ..self }
    }

    /// Returns an endless iterator over the handles, in turn.
    pub(super) fn handles(&self) -> impl Iterator<Item = &Arc<S>> {
        iter::once(&self.store).chain(&self.others).cycle()
    }

    pub(super) fn renamed(self, rule: &'static str) -> Self {
        Self { rule, ..self }
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
        panic!("this store breaks the rule `{}`: {how}", self.rule)
    }
}

/// Accepting deliveries.
impl<S: InboxStore, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    /// Makes time pass for the store.
    pub(super) async fn advance(&self, time: Duration) {
        (self.advance)(&self.store, time).await;
    }

    /// Accepts a new delivery, whose key is not known.
    pub(super) async fn accept(&self, new: &NewDelivery) {
        self.accept_again(new, "the key is not known").await;
    }

    /// Accepts a delivery whose key is not known any more.
    pub(super) async fn accept_again(&self, new: &NewDelivery, why: &str) {
        let acceptance = self.answer("accept", self.store.accept(new, RETENTION).await);
        self.same("accept", &acceptance, &Acceptance::Accepted, why);
    }

    pub(super) async fn accept_for(&self, new: &NewDelivery, retention: Duration) {
        let acceptance = self.answer("accept", self.store.accept(new, retention).await);
        self.same("accept", &acceptance, &Acceptance::Accepted, "the key is not known");
    }

    /// Accepts these deliveries in this order, one second apart.
    pub(super) async fn accept_all<const N: usize>(&self, all: [&NewDelivery; N]) {
        for new in all {
            self.accept(new).await;
            self.advance(SECOND).await;
        }
    }

    pub(super) async fn revive(&self, new: &NewDelivery) {
        let acceptance = self.answer("accept", self.store.accept(new, RETENTION).await);
        self.same("accept", &acceptance, &Acceptance::Revived, "the key has a dead delivery, which matches");
    }

    /// Checks that accepting `new` returns `Known` with the digest of `known`.
    pub(super) async fn is_known(&self, new: &NewDelivery, known: &NewDelivery, why: &str) {
        match self.answer("accept", self.store.accept(new, RETENTION).await) {
            Acceptance::Known { digest, .. } if digest == *known.claim().digest() => {}
            other => self.broken(&format!("accept returned {other:?}, not Known with the digest of {known:?}: {why}")),
        }
    }

    /// Checks that accepting `new` returns `Known` with this digest and with this delivery's body.
    pub(super) async fn is_known_with(
        &self,
        new: &NewDelivery,
        digest: &BodyDigest,
        body: Option<&NewDelivery>,
        why: &str,
    ) {
        let found = match self.answer("accept", self.store.accept(new, RETENTION).await) {
            Acceptance::Known { digest: found, body } if found == *digest => body,
            other => self.broken(&format!("accept returned {other:?}, not Known with digest {digest:?}: {why}")),
        };
        let text = |body: Option<&Bytes>| body.map(|body| String::from_utf8_lossy(body).into_owned());
        let (found, body) = (text(found.as_ref()), text(body.map(NewDelivery::body)));
        self.holds(found == body, &format!("accept returned the body {found:?}, not {body:?}: {why}"));
    }

    /// Checks that accepting `new` returns `InFlight` with this digest. Returns the time that remains of the claim's lease.
    pub(super) async fn in_flight(&self, new: &NewDelivery, digest: &BodyDigest, why: &str) -> Duration {
        match self.answer("accept", self.store.accept(new, RETENTION).await) {
            Acceptance::InFlight { digest: found, remaining } if found == *digest => remaining,
            other => self.broken(&format!("accept returned {other:?}, not InFlight with digest {digest:?}: {why}")),
        }
    }
}

/// The ledger.
impl<S: Ledger, A> TestedInbox<'_, S, A> {
    /// Checks that the ledger lets this claim have its entry.
    pub(super) async fn claim(&self, claim: &Claim, why: &str) {
        let outcome = self.answer("claim", self.store.claim(claim, &TERMS).await);
        self.same("claim", &outcome, &ClaimOutcome::Claimed, why);
    }

    /// Checks that the entry is done, with the digest of `known`.
    pub(super) async fn is_done(&self, claim: &Claim, known: &NewDelivery, why: &str) {
        let outcome = self.answer("claim", self.store.claim(claim, &TERMS).await);
        self.same("claim", &outcome, &ClaimOutcome::Done { digest: *known.claim().digest() }, why);
    }

    pub(super) async fn complete(&self, claim: &Claim, why: &str) {
        let completed = self.answer("complete", self.store.complete(claim, RETENTION).await);
        self.same("complete", &completed, &true, why);
    }

    pub(super) async fn cannot_complete(&self, claim: &Claim, why: &str) {
        let completed = self.answer("complete", self.store.complete(claim, RETENTION).await);
        self.same("complete", &completed, &false, why);
    }

    pub(super) async fn release_claim(&self, claim: &Claim) {
        self.answer("release", self.store.release(claim).await);
    }

    /// Forgets the ledger entries that were claimed in this window, and no deliveries.
    pub(super) async fn forget_claimed(&self, window: Range<SystemTime>, expected: u64, why: &str) {
        let forgotten = self.answer("forget_claimed", self.store.forget_claimed(window).await);
        self.same("forget_claimed", &forgotten, &expected, why);
    }

    /// Forgets the event of a delivery in the ledger, where it has one entry, and no deliveries.
    pub(super) async fn forget_in_ledger(&self, of: &NewDelivery) {
        let forgotten = self.answer("forget", self.store.forget(of.claim().event()).await);
        self.same("forget", &forgotten, &1, "the ledger has one entry of the event");
    }
}

/// Leasing and settling deliveries.
impl<S: InboxStore, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn try_lease(&self, request: &LeaseRequest<'_>) -> LeaseBatch {
        let batch = self.answer("lease", self.store.lease(request).await);
        self.holds(batch.unreadable.is_empty(), &format!("lease could not read deliveries: {:?}", batch.unreadable));
        batch
    }

    /// Makes this request, and checks that these deliveries are leased in this order and none is dead-lettered.
    pub(super) async fn lease_as<const N: usize>(
        &self,
        request: &LeaseRequest<'_>,
        expected: [&NewDelivery; N],
        why: &str,
    ) -> [Lease; N] {
        let batch = self.try_lease(request).await;
        let dead = &batch.dead_lettered;
        self.holds(
            dead.is_empty(),
            &format!("lease must not dead-letter deliveries, but dead-lettered {dead:?}: {why}"),
        );
        self.are(&batch.leased, expected, why)
    }

    /// Leases every delivery that can be leased, and starts the attempts that the lease did not count. Checks that these deliveries
    /// are leased, in this order.
    pub(super) async fn lease<const N: usize>(&self, expected: [&NewDelivery; N], why: &str) -> [Lease; N] {
        let LeaseBatch { leased, dead_lettered: dead, .. } = self.try_lease(&REQUEST).await;
        self.holds(
            dead.is_empty(),
            &format!("lease must not dead-letter deliveries, but dead-lettered {dead:?}: {why}"),
        );
        for leased in leased.iter().filter(|leased| !leased.is_attempt_counted()) {
            self.start(leased.lease()).await;
        }
        self.are(&leased, expected, why)
    }

    pub(super) async fn lease_one(&self, expected: &NewDelivery, why: &str) -> Lease {
        let [lease] = self.lease([expected], why).await;
        lease
    }

    pub(super) async fn lease_nothing(&self, why: &str) {
        self.lease([], why).await;
    }

    /// Checks that these deliveries were leased, in this order.
    pub(super) fn are<const N: usize>(&self, leased: &[Leased], expected: [&NewDelivery; N], why: &str) -> [Lease; N] {
        let is = |leased: &Leased, expected: &NewDelivery| {
            leased.head() == expected.head() && leased.body() == expected.body()
        };
        let same = leased.len() == N && leased.iter().zip(expected).all(|(leased, expected)| is(leased, expected));
        self.holds(same, &format!("lease returned {leased:?}, not {expected:?}: {why}"));
        std::array::from_fn(|n| *leased[n].lease())
    }

    /// Starts the attempt of a current lease.
    pub(super) async fn start(&self, lease: &Lease) {
        self.starts(slice::from_ref(lease), &[true], "the lease is current").await;
    }

    pub(super) async fn cannot_start(&self, lease: &Lease, why: &str) {
        self.starts(slice::from_ref(lease), &[false], why).await;
    }

    pub(super) async fn starts(&self, leases: &[Lease], expected: &[bool], why: &str) {
        let started = self.answer("start", self.store.start(leases).await);
        self.same("start", &started, &expected.to_vec(), why);
    }

    pub(super) async fn extend(&self, lease: &Lease, duration: Duration, why: &str) {
        self.extend_all(slice::from_ref(lease), duration, &[true], why).await;
    }

    pub(super) async fn cannot_extend(&self, lease: &Lease, why: &str) {
        self.extend_all(slice::from_ref(lease), 2 * LEASE, &[false], why).await;
    }

    pub(super) async fn extend_all(&self, leases: &[Lease], duration: Duration, expected: &[bool], why: &str) {
        let extended = self.answer("extend", self.store.extend(leases, duration).await);
        self.same("extend", &extended, &expected.to_vec(), why);
    }

    /// Settles a current lease.
    pub(super) async fn settle(&self, lease: &Lease, settlement: Settlement) {
        self.settles(lease, settlement, SettleOutcome::Settled, "the lease is current").await;
    }

    pub(super) async fn settles(&self, lease: &Lease, settlement: Settlement, expected: SettleOutcome, why: &str) {
        let why = format!("{settlement:?}, where {why}");
        let outcomes = self.answer("settle", self.store.settle(&[(*lease, settlement)]).await);
        self.same("settle", &outcomes, &vec![expected], &why);
    }

    /// Accepts a delivery, leases it and starts its attempt. No other delivery may be due.
    pub(super) async fn begin(&self, new: &NewDelivery) -> Lease {
        self.accept(new).await;
        self.lease_one(new, "the delivery was accepted, and no other can be leased").await
    }

    /// Accepts, leases and dead-letters a delivery.
    pub(super) async fn make_dead(&self, new: &NewDelivery) -> Lease {
        let lease = self.begin(new).await;
        self.settle(&lease, dead_letter()).await;
        lease
    }

    /// Accepts, leases and handles a delivery.
    pub(super) async fn handle(&self, new: &NewDelivery, keep: Duration) -> Lease {
        let lease = self.begin(new).await;
        self.settle(&lease, done(keep)).await;
        lease
    }

    /// Accepts and handles a delivery, and returns its id.
    pub(super) async fn next_id(&self, id: &str) -> DeliveryId {
        self.handle(&delivery("warung", id, "body"), Duration::ZERO).await.id()
    }

    /// Checks the numbers of ready, leased, dead and done deliveries.
    pub(super) async fn counts(&self, expected: [u64; 4], why: &str) -> Counts {
        let counts = self.answer("counts", self.store.counts().await);
        let found = [counts.ready, counts.leased, counts.dead, counts.done];
        let [ready, leased, dead, done] = expected;
        let text = format!("{ready} ready, {leased} leased, {dead} dead, {done} done");
        self.holds(found == expected, &format!("counts returned {counts:?}, not {text}: {why}"));
        counts
    }

    pub(super) async fn purge(&self, limit: u32) -> u64 {
        let purged = self.answer("purge_done", self.store.purge_done(limit).await);
        self.holds(purged <= u64::from(limit), &format!("purge_done({limit}) returned {purged}"));
        purged
    }

    /// Evicts up to `limit` kept deliveries.
    pub(super) async fn evict(&self, limit: u32, expected: u64, why: &str) {
        let evicted = self.answer("evict_done", self.store.evict_done(limit).await);
        self.same("evict_done", &evicted, &expected, &format!("the limit is {limit}, and {why}"));
    }

    /// Deletes up to `limit` dead letters that were accepted at least `age` ago.
    pub(super) async fn purge_dead(&self, age: Duration, limit: u32, expected: u64, why: &str) {
        let purged = self.answer("purge_dead", self.store.purge_dead(age, limit).await);
        self.same("purge_dead", &purged, &expected, &format!("the limit is {limit}, and {why}"));
    }
}

/// Administration.
impl<S: InboxAdmin, A> TestedInbox<'_, S, A> {
    pub(super) async fn find(&self, id: DeliveryId) -> Option<Entry> {
        self.answer("show", self.store.show(id).await)
    }

    /// Checks that a delivery has this state, this many attempts and the body of `of`.
    pub(super) async fn show(
        &self,
        id: DeliveryId,
        of: &NewDelivery,
        state: DeliveryState,
        attempts: u32,
        why: &str,
    ) -> Entry {
        let entry = self.find(id).await;
        let Some(entry) = entry else { self.broken(&format!("show({id}) returned nothing: {why}")) };
        let has_body = entry.body.as_ref() == Some(of.body());
        self.holds(entry.id == id && has_body, &format!("show({id}) returned {:?} with another body: {why}", entry.id));
        self.same("show", &(entry.state, entry.attempts), &(state, attempts), why);
        entry
    }

    pub(super) async fn show_nothing(&self, id: DeliveryId, why: &str) {
        let entry = self.find(id).await;
        self.holds(entry.is_none(), &format!("show({id}) returned a delivery that should be gone: {why}"));
    }

    /// Lists up to `limit` deliveries that the filter selects, and reads as many pages as that takes.
    pub(super) async fn select(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Vec<Entry> {
        let (mut entries, mut after) = (Vec::new(), after);
        loop {
            let rest = limit - u32::try_from(entries.len()).unwrap_or(limit);
            let page = self.answer("find", self.store.find(filter, after, rest).await);
            let is_in_order = page.entries.is_sorted_by(|one, next| one.id < next.id)
                && page.entries.first().is_none_or(|first| Some(first.id) > after)
                && page
                    .next
                    .is_none_or(|next| Some(next) > after && page.entries.last().is_none_or(|last| last.id <= next));
            self.holds(is_in_order, &format!("find after {after:?} returned {page:?}, which is in another order"));
            self.holds(page.entries.len() <= rest as usize, &format!("find returned more than {rest}: {page:?}"));
            self.holds(page.entries.iter().all(|entry| entry.body.is_none()), "find returned a body");
            entries.extend(page.entries);
            after = page.next;
            if after.is_none() || entries.len() == limit as usize {
                return entries;
            }
        }
    }

    pub(super) async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Vec<Entry> {
        self.select(&Filter::new().states([DeliveryState::Dead]), after, limit).await
    }

    pub(super) async fn dead_letter(&self, ids: &[DeliveryId], states: &[DeliveryState], expected: u64, why: &str) {
        let dead_lettered = self.answer("dead_letter", self.store.dead_letter(ids, states, "by hand").await);
        self.same("dead_letter", &dead_lettered, &expected, &format!("of {states:?}, {why}"));
    }

    pub(super) async fn forget_these(&self, ids: &[DeliveryId], states: &[DeliveryState], expected: u64, why: &str) {
        let forgotten = self.answer("forget_deliveries", self.store.forget_deliveries(ids, states).await);
        self.same("forget_deliveries", &forgotten, &expected, &format!("of {states:?}, {why}"));
    }

    pub(super) async fn retry(&self, id: DeliveryId) {
        let retried = self.answer("retry", self.store.retry(id).await);
        self.same("retry", &retried, &true, "the delivery is dead");
    }

    pub(super) async fn cannot_retry(&self, id: DeliveryId, why: &str) {
        let retried = self.answer("retry", self.store.retry(id).await);
        self.same("retry", &retried, &false, why);
    }

    pub(super) async fn forget(&self, of: &NewDelivery, expected: u64, why: &str) {
        let forgotten = self.answer("forget_event", self.store.forget_event(of.claim().event()).await);
        self.same("forget_event", &forgotten, &expected, why);
    }

    pub(super) async fn forget_accepted(&self, window: Range<SystemTime>, expected: u64, why: &str) {
        let forgotten = self.answer("forget_accepted", self.store.forget_accepted(window).await);
        self.same("forget_accepted", &forgotten, &expected, why);
    }
}

pub(super) fn done(keep: Duration) -> Settlement {
    Settlement::Done { keep }
}

pub(super) fn reschedule(delay: Duration) -> Settlement {
    Settlement::Reschedule { delay, reason: "rescheduled".into(), unordered: false }
}

pub(super) fn reschedule_unordered(delay: Duration) -> Settlement {
    Settlement::Reschedule { delay, reason: "rescheduled".into(), unordered: true }
}

pub(super) fn dead_letter() -> Settlement {
    Settlement::DeadLetter { reason: "dead-lettered".into() }
}

/// Returns whether `found` is `expected`, with tolerance for real time that passes and for the store's rounding.
pub(super) fn roughly(found: Duration, expected: Duration) -> bool {
    found.abs_diff(expected) < MARGIN
}

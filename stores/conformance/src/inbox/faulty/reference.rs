//! A store on top of the reference, and tests that it passes the suite.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::runtime::Builder;
use tower_klikit::{
    dedupe::{Claim, ClaimOutcome, ClaimTerms, Ledger, LedgerSelection, StoreError},
    inbox::{
        Acceptance, ActivePause, AttemptRecord, Counts, DeadLettered, DeliveryId, DeliveryState, Entry, Filter,
        InboxAdmin, InboxStore, Lease, LeaseBatch, LeaseRequest, Leased, LedgerRows, NewDelivery, Page, Pause,
        SettleOutcome, Settlement, ShowBody,
    },
};

use crate::inbox::{
    self, model,
    state::{Delivery, EndedAttempt, ReferenceInbox},
};

/// A store without faults.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReferenceStore(Arc<Mutex<ReferenceInbox>>);

#[tokio::test]
async fn follows_the_rules() {
    let advance = async |store: &ReferenceStore, time| store.advance(time);
    inbox::check(async || ReferenceStore::default(), advance).await;
}

#[test]
fn matches_the_reference() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let advance = async |store: &ReferenceStore, time| store.advance(time);
    model::compare(64, 100, &runtime, async || ReferenceStore::default(), &advance);
}

impl ReferenceStore {
    pub(crate) fn state(&self) -> MutexGuard<'_, ReferenceInbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn advance(&self, time: Duration) {
        self.state().now += time;
    }
}

impl ReferenceInbox {
    /// Converts a time of the reference to the system's time.
    fn wall(&self, time: Duration) -> SystemTime {
        let wall = SystemTime::now();
        if time < self.now { wall - (self.now - time) } else { wall + (time - self.now) }
    }

    pub(crate) fn entry(&self, id: i64) -> Option<Entry> {
        let delivery = self.deliveries.get(&id)?;
        let accepted_at = self.wall(delivery.accepted);
        let mut entry = Entry::new(DeliveryId::new(id), delivery.state, accepted_at, delivery.request.head());
        entry.age = self.now - delivery.accepted;
        entry.attempts = delivery.attempts;
        entry.reason.clone_from(&delivery.reason);
        entry.digest = Some(delivery.digest());
        entry.has_body = delivery.has_body;
        entry.terms = delivery.request.terms().to_vec();
        Some(entry)
    }

    /// Returns the entry with the records of its attempts, and with its body if `body` says so.
    pub(crate) fn shown(&self, id: i64, body: ShowBody) -> Option<Entry> {
        let (mut entry, delivery) = (self.entry(id)?, &self.deliveries[&id]);
        entry.history = self.attempts(delivery);
        entry.history = entry.history.split_off(entry.history.len().saturating_sub(AttemptRecord::SHOWN));
        entry.body = delivery.body().cloned().filter(|_| body == ShowBody::Include);
        Some(entry)
    }

    /// Returns the records of all attempts, oldest first.
    pub(crate) fn attempts(&self, delivery: &Delivery) -> Vec<AttemptRecord> {
        let record = |ended: &EndedAttempt| AttemptRecord {
            number: ended.number,
            worker: ended.attempt.worker.clone(),
            started_at: self.wall(ended.attempt.started),
            ended_at: ended.ended.map(|at| self.wall(at)),
            status: ended.status,
            reason: ended.reason.clone(),
        };
        delivery.records().iter().map(record).collect()
    }

    pub(crate) fn active_pauses(&self) -> Vec<ActivePause> {
        let active = |(pause, (operator, since)): (&Pause, &(String, Duration))| ActivePause {
            pause: pause.clone(),
            operator: operator.clone(),
            since: self.wall(*since),
        };
        self.pauses.iter().map(active).collect()
    }

    /// Returns up to `limit` deliveries that the filter selects, without their bodies.
    pub(crate) fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Page {
        self.find_where(after, limit, |entry| filter.matches(entry))
    }

    pub(crate) fn find_where(
        &self,
        after: Option<DeliveryId>,
        limit: u32,
        is_selected: impl Fn(&Entry) -> bool,
    ) -> Page {
        let later = self.deliveries.keys().filter(|id| after.is_none_or(|after| **id > after.get()));
        let mut selected = later.filter_map(|id| self.entry(*id)).filter(is_selected);
        let entries: Vec<Entry> = selected.by_ref().take(limit as usize).collect();
        let next = selected.next().and(entries.last()).map(|last| last.id);
        Page { entries, next }
    }

    pub(crate) fn leased(&self, lease: Lease) -> Leased {
        let delivery = &self.deliveries[&lease.id().get()];
        let (head, body) = (delivery.request.head().to_owned(), delivery.request.body().clone());
        let leased = Leased::new(lease, head, body)
            .with_ordering_keys(self.ordering_keys(lease.id().get()))
            .with_age(self.now - delivery.accepted);
        let leased = if delivery.is_after_expiry() { leased.after_expiry() } else { leased };
        let leased = if delivery.after_expired_lease { leased.after_expired_lease() } else { leased };
        if delivery.attempt_counted { leased.with_attempt_counted() } else { leased }
    }

    pub(crate) fn batch(&self, leases: Vec<Lease>, dead_lettered: Vec<DeadLettered>) -> LeaseBatch {
        let mut batch = LeaseBatch::new(leases.into_iter().map(|lease| self.leased(lease)).collect());
        batch.dead_lettered = dead_lettered;
        batch
    }

    /// Lists entries of the ledger.
    /// Returns whether a selection contains the key of a delivery or of a ledger row.
    pub(crate) fn selects(&self, selection: &LedgerSelection) -> impl Fn(&Claim, Duration) -> bool + use<> {
        let (selection, now, wall) = (selection.clone(), self.now, SystemTime::now());
        move |claim, time| selection.matches(claim.event(), wall - (now - time))
    }

    pub(crate) fn count_keys(&self, selection: &LedgerSelection) -> u64 {
        self.forgettable(self.selects(selection)).len() as u64
    }

    pub(crate) fn forget_keys(&mut self, selection: &LedgerSelection) -> u64 {
        self.forget(self.selects(selection))
    }

    pub(crate) fn forget_in_ledger(&mut self, selection: &LedgerSelection) -> u64 {
        let selects = self.selects(selection);
        self.ledger.forget(self.now, |row| selects(&row.claim, row.claimed_at))
    }
}

impl InboxStore for ReferenceStore {
    async fn accept(&self, delivery: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
        Ok(self.state().accept(delivery, retention))
    }

    async fn lease(&self, request: &LeaseRequest<'_>) -> Result<LeaseBatch, StoreError> {
        let mut state = self.state();
        let (leases, dead_lettered) = state.lease(request);
        Ok(state.batch(leases, dead_lettered))
    }

    async fn start(&self, leases: &[Lease], worker: &str) -> Result<Vec<bool>, StoreError> {
        let mut state = self.state();
        Ok(leases.iter().map(|lease| state.start(lease, worker)).collect())
    }

    async fn extend(&self, leases: &[Lease], duration: Duration) -> Result<Vec<bool>, StoreError> {
        let mut state = self.state();
        Ok(leases.iter().map(|lease| state.extend(lease, duration)).collect())
    }

    async fn settle(&self, settlements: &[(Lease, Settlement)]) -> Result<Vec<SettleOutcome>, StoreError> {
        let mut state = self.state();
        Ok(settlements.iter().map(|(lease, settlement)| state.settle(lease, settlement)).collect())
    }

    async fn backlog(&self, limit: u64) -> Result<u64, StoreError> {
        let [ready, leased, ..] = self.state().counts();
        Ok(limit.min(ready + leased))
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let state = self.state();
        let mut counts = Counts::default();
        [counts.ready, counts.leased, counts.dead, counts.done] = state.counts();
        counts.oldest = state.oldest();
        Ok(counts)
    }

    async fn purge_done(&self, limit: u32) -> Result<u64, StoreError> {
        Ok(self.state().purge_done(limit))
    }

    async fn stored(&self, limit: u64) -> Result<u64, StoreError> {
        Ok(limit.min(self.state().deliveries.len() as u64))
    }

    async fn evict_done(&self, limit: u32) -> Result<u64, StoreError> {
        Ok(self.state().evict_done(limit))
    }

    async fn purge_dead(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        Ok(self.state().purge_dead(age, limit))
    }
}

impl InboxAdmin for ReferenceStore {
    async fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Result<Page, StoreError> {
        Ok(self.state().find(filter, after, limit))
    }

    async fn show(&self, id: DeliveryId, body: ShowBody) -> Result<Option<Entry>, StoreError> {
        Ok(self.state().shown(id.get(), body))
    }

    async fn requeue(&self, ids: &[DeliveryId], states: &[DeliveryState]) -> Result<u64, StoreError> {
        Ok(self.state().requeue(&numbers(ids), states))
    }

    async fn dead_letter(&self, ids: &[DeliveryId], states: &[DeliveryState], reason: &str) -> Result<u64, StoreError> {
        Ok(self.state().dead_letter(&numbers(ids), states, reason))
    }

    async fn delete(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
        ledger: LedgerRows,
    ) -> Result<u64, StoreError> {
        Ok(self.state().delete(&numbers(ids), states, ledger))
    }

    async fn count_keys(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        Ok(self.state().count_keys(selection))
    }

    async fn forget_keys(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        Ok(self.state().forget_keys(selection))
    }

    async fn pause(&self, pause: &Pause, operator: &str) -> Result<u64, StoreError> {
        Ok(self.state().pause(pause, operator))
    }

    async fn resume(&self, pause: &Pause) -> Result<bool, StoreError> {
        Ok(self.state().resume(pause))
    }

    async fn pauses(&self) -> Result<Vec<ActivePause>, StoreError> {
        Ok(self.state().active_pauses())
    }
}

impl Ledger for ReferenceStore {
    async fn claim(&self, claim: &Claim, terms: &ClaimTerms) -> Result<ClaimOutcome, StoreError> {
        let ReferenceInbox { now, ledger, .. } = &mut *self.state();
        Ok(ledger.claim(claim, terms, *now))
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        let ReferenceInbox { now, ledger, .. } = &mut *self.state();
        Ok(ledger.complete(claim, retention, *now))
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let ReferenceInbox { now, ledger, .. } = &mut *self.state();
        ledger.release(claim, *now);
        Ok(())
    }

    async fn renew(&self, claims: &[Claim], terms: &ClaimTerms) -> Result<Vec<bool>, StoreError> {
        let ReferenceInbox { now, ledger, .. } = &mut *self.state();
        Ok(claims.iter().map(|claim| ledger.renew(claim, terms, *now)).collect())
    }

    async fn forget(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        Ok(self.state().forget_in_ledger(selection))
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        let ReferenceInbox { now, ledger, .. } = &mut *self.state();
        Ok(ledger.purge(limit, *now))
    }
}

pub(super) fn numbers(ids: &[DeliveryId]) -> Vec<i64> {
    ids.iter().map(|id| id.get()).collect()
}

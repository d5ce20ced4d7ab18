//! A store on top of the reference, and tests that it passes the suite.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::runtime::Builder;
use tower_klikit::{
    dedupe::{Claim, ClaimOutcome, ClaimTerms, EventKey, Ledger, StoreError},
    inbox::{
        Acceptance, Counts, DeadLettered, DeliveryId, DeliveryState, Entry, Filter, InboxAdmin, InboxStore, Lease,
        LeaseBatch, LeaseRequest, Leased, NewDelivery, Page, SettleOutcome, Settlement,
    },
};

use crate::inbox::{self, model, state::ReferenceInbox};

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
        SystemTime::now() - (self.now - time)
    }

    pub(crate) fn entry(&self, id: i64) -> Option<Entry> {
        let delivery = self.deliveries.get(&id)?;
        let accepted_at = self.wall(delivery.accepted);
        let mut entry = Entry::new(DeliveryId::new(id), delivery.state, accepted_at, delivery.request.head());
        entry.attempts = delivery.attempts;
        entry.reason.clone_from(&delivery.reason);
        entry.digest = Some(delivery.digest());
        entry.body = Some(delivery.request.body().clone());
        Some(entry)
    }

    /// Returns up to `limit` deliveries that the filter selects, without their bodies.
    pub(crate) fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Page {
        let later = self.deliveries.keys().filter(|id| after.is_none_or(|after| **id > after.get()));
        let mut selected = later.filter_map(|id| self.entry(*id)).filter(|entry| filter.matches(entry));
        let mut entries: Vec<Entry> = selected.by_ref().take(limit as usize).collect();
        let next = selected.next().and(entries.last()).map(|last| last.id);
        entries.iter_mut().for_each(|entry| entry.body = None);
        Page { entries, next }
    }

    pub(crate) fn leased(&self, lease: Lease) -> Leased {
        let delivery = &self.deliveries[&lease.id().get()];
        let (head, body) = (delivery.request.head().to_owned(), delivery.request.body().clone());
        let leased = Leased::new(lease, head, body).with_ordering_keys(self.ordering_keys(lease.id().get()));
        let leased = if delivery.after_expired_lease { leased.after_expired_lease() } else { leased };
        if delivery.attempt_counted { leased.with_attempt_counted() } else { leased }
    }

    pub(crate) fn batch(&self, leases: Vec<Lease>, dead_lettered: Vec<DeadLettered>) -> LeaseBatch {
        let mut batch = LeaseBatch::new(leases.into_iter().map(|lease| self.leased(lease)).collect());
        batch.dead_lettered = dead_lettered;
        batch
    }

    pub(crate) fn forget_accepted(&mut self, window: &Range<SystemTime>) -> u64 {
        let (now, wall) = (self.now, SystemTime::now());
        self.forget(|_, time| window.contains(&(wall - (now - time))))
    }

    pub(crate) fn forget_claimed(&mut self, window: &Range<SystemTime>) -> u64 {
        let (now, wall) = (self.now, SystemTime::now());
        self.ledger.forget(now, |row| window.contains(&(wall - (now - row.claimed_at))))
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

    async fn start(&self, leases: &[Lease]) -> Result<Vec<bool>, StoreError> {
        let mut state = self.state();
        Ok(leases.iter().map(|lease| state.start(lease)).collect())
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

    async fn show(&self, id: DeliveryId) -> Result<Option<Entry>, StoreError> {
        Ok(self.state().entry(id.get()))
    }

    async fn retry(&self, id: DeliveryId) -> Result<bool, StoreError> {
        Ok(self.state().retry(id.get()))
    }

    async fn dead_letter(&self, ids: &[DeliveryId], states: &[DeliveryState], reason: &str) -> Result<u64, StoreError> {
        Ok(self.state().dead_letter(&numbers(ids), states, reason))
    }

    async fn forget_deliveries(&self, ids: &[DeliveryId], states: &[DeliveryState]) -> Result<u64, StoreError> {
        Ok(self.state().forget_deliveries(&numbers(ids), states))
    }

    async fn forget_event(&self, event: &EventKey) -> Result<u64, StoreError> {
        Ok(self.state().forget(|claim, _| claim.event() == event))
    }

    async fn forget_accepted(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        Ok(self.state().forget_accepted(&window))
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

    async fn forget(&self, event: &EventKey) -> Result<u64, StoreError> {
        let ReferenceInbox { now, ledger, .. } = &mut *self.state();
        Ok(ledger.forget(*now, |row| row.is_of(event)))
    }

    async fn forget_claimed(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        Ok(self.state().forget_claimed(&window))
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        let ReferenceInbox { now, ledger, .. } = &mut *self.state();
        Ok(ledger.purge(limit, *now))
    }
}

pub(super) fn numbers(ids: &[DeliveryId]) -> Vec<i64> {
    ids.iter().map(|id| id.get()).collect()
}

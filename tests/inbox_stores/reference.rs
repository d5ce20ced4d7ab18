//! The reference as a store: the suite passes on it, and a store that breaks a rule is made from it.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::runtime::Builder;
use tower_klikit::{
    dedupe::{Claim, ClaimOutcome, EventKey, Ledger, StoreError},
    inbox::{Acceptance, Counts, DeliveryId, Entry, InboxStore, Lease, Leased, NewDelivery},
    testing::inbox,
};

use crate::{model, state::State};

#[derive(Debug, Clone, Default)]
pub(crate) struct Reference(Arc<Mutex<State>>);

#[tokio::test]
async fn keeps_every_rule() {
    let advance = async |store: &Reference, time| store.pass(time);
    inbox::check(async || Reference::default(), advance).await;
}

#[test]
fn does_what_the_reference_does() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let advance = async |store: &Reference, time| store.pass(time);
    model::holds(64, 100, &runtime, async || Reference::default(), &advance);
}

impl Reference {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.state().now += time;
    }
}

impl State {
    /// What time the clock on the wall showed then.
    fn wall(&self, time: Duration) -> SystemTime {
        SystemTime::now() - (self.now - time)
    }

    pub(crate) fn entry(&self, id: i64) -> Option<Entry> {
        let delivery = self.deliveries.get(&id)?;
        let accepted_at = self.wall(delivery.accepted);
        let mut entry = Entry::new(DeliveryId::new(id), delivery.state, accepted_at, delivery.request.head());
        entry.attempts = delivery.attempts;
        entry.reason.clone_from(&delivery.reason);
        entry.body = Some(delivery.request.body().clone());
        Some(entry)
    }

    pub(crate) fn leased(&self, lease: Lease) -> Leased {
        let crate::state::Delivery { request, ran_out, .. } = &self.deliveries[&lease.id().get()];
        let leased = Leased::new(lease, request.head().to_owned(), request.body().clone());
        if *ran_out { leased.after_a_lease_that_ran_out() } else { leased }
    }

    pub(crate) fn forget_accepted(&mut self, window: &Range<SystemTime>) -> u64 {
        let (now, wall) = (self.now, SystemTime::now());
        self.forget(|_, time| window.contains(&(wall - (now - time))))
    }

    pub(crate) fn forget_claimed(&mut self, window: &Range<SystemTime>) -> u64 {
        let (now, wall) = (self.now, SystemTime::now());
        self.forget_rows(|row| window.contains(&(wall - (now - row.claimed))))
    }
}

impl InboxStore for Reference {
    async fn accept(&self, delivery: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
        Ok(self.state().accept(delivery, retention))
    }

    async fn lease(&self, limit: u32, time: Duration, max_attempts: u32) -> Result<Vec<Leased>, StoreError> {
        let mut state = self.state();
        let leases = state.lease(limit, time, max_attempts);
        Ok(leases.into_iter().map(|lease| state.leased(lease)).collect())
    }

    async fn extend(&self, lease: &Lease, time: Duration) -> Result<bool, StoreError> {
        Ok(self.state().extend(lease, time))
    }

    async fn finish(&self, lease: &Lease, keep: Duration) -> Result<bool, StoreError> {
        Ok(self.state().finish(lease, keep))
    }

    async fn postpone(&self, lease: &Lease, pause: Duration, reason: &str) -> Result<bool, StoreError> {
        Ok(self.state().postpone(lease, pause, reason))
    }

    async fn bury(&self, lease: &Lease, reason: &str) -> Result<bool, StoreError> {
        Ok(self.state().bury(lease, reason))
    }

    async fn give_back(&self, lease: &Lease) -> Result<bool, StoreError> {
        Ok(self.state().give_back(lease))
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let state = self.state();
        let mut counts = Counts::default();
        [counts.ready, counts.leased, counts.dead, counts.done] = state.counts();
        counts.oldest = state.oldest();
        Ok(counts)
    }

    async fn backlog(&self, limit: u64) -> Result<u64, StoreError> {
        let [ready, leased, ..] = self.state().counts();
        Ok(limit.min(ready + leased))
    }

    async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let state = self.state();
        let ids = state.dead(after.map(DeliveryId::get), limit);
        let mut entries: Vec<Entry> = ids.into_iter().filter_map(|id| state.entry(id)).collect();
        entries.iter_mut().for_each(|entry| entry.body = None);
        Ok(entries)
    }

    async fn show(&self, id: DeliveryId) -> Result<Option<Entry>, StoreError> {
        Ok(self.state().entry(id.get()))
    }

    async fn retry(&self, id: DeliveryId) -> Result<bool, StoreError> {
        Ok(self.state().retry(id.get()))
    }

    async fn forget_event(&self, event: &EventKey) -> Result<u64, StoreError> {
        Ok(self.state().forget(|claim, _| claim.event() == event))
    }

    async fn forget_accepted(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        Ok(self.state().forget_accepted(&window))
    }

    async fn purge_done(&self, limit: u32) -> Result<u64, StoreError> {
        Ok(self.state().purge_done(limit))
    }
}

impl Ledger for Reference {
    async fn claim(&self, claim: &Claim, lease: Duration) -> Result<ClaimOutcome, StoreError> {
        Ok(self.state().claim(claim, lease))
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        Ok(self.state().complete(claim, retention))
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        self.state().release(claim);
        Ok(())
    }

    async fn renew(&self, claim: &Claim, lease: Duration) -> Result<bool, StoreError> {
        Ok(self.state().renew(claim, lease))
    }

    async fn forget(&self, event: &EventKey) -> Result<u64, StoreError> {
        Ok(self.state().forget_rows(|row| row.claim.event() == event))
    }

    async fn forget_claimed(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        Ok(self.state().forget_claimed(&window))
    }

    async fn purge(&self, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }
}

//! A memory store that asks for prefetching.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use tower_klikit::{
    dedupe::{LedgerSelection, StoreError},
    inbox::{
        Acceptance, ActivePause, DeliveryId, DeliveryState, Entry, Filter, InboxAdmin, Lease, LeaseBatch, LeaseRequest,
        LedgerRows, NewDelivery, Page, Pause, SettleOutcome, Settlement, ShowBody,
    },
};

use super::{super::*, DELIVERIES};

/// A memory store that asks for prefetching. Its calls can be slow or fail.
#[derive(Clone, Default)]
pub(super) struct PrefetchingStore {
    inner: MemoryStore,
    lease_millis: Arc<AtomicU64>,
    /// The number of calls to `lease`, including one that is in progress.
    lease_calls: Arc<AtomicUsize>,
    is_leasing: Arc<AtomicBool>,
    /// The number of deliveries that the last call to `lease` returned.
    last_leased: Arc<AtomicUsize>,
    /// The number of next calls to `start` that fail.
    failing_starts: Arc<AtomicU32>,
    /// The number of calls to `start` after the failing ones that return `false`.
    denied_starts: Arc<AtomicU32>,
}

impl InboxStore for PrefetchingStore {
    async fn accept(&self, delivery: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
        self.inner.accept(delivery, retention).await
    }

    async fn lease(&self, request: &LeaseRequest<'_>) -> Result<LeaseBatch, StoreError> {
        self.lease_calls.fetch_add(1, Ordering::SeqCst);
        self.is_leasing.store(true, Ordering::SeqCst);
        sleep(Duration::from_millis(self.lease_millis.load(Ordering::SeqCst))).await;
        self.is_leasing.store(false, Ordering::SeqCst);
        let batch = self.inner.lease(request).await?;
        self.last_leased.store(batch.leased.len(), Ordering::SeqCst);
        Ok(batch)
    }

    async fn start(&self, leases: &[Lease], worker: &str) -> Result<Vec<bool>, StoreError> {
        let take_one = |count: &AtomicU32| {
            count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        };
        if take_one(&self.failing_starts) {
            return Err(StoreError::new("unplugged"));
        }
        if take_one(&self.denied_starts) {
            return Ok(vec![false; leases.len()]);
        }
        self.inner.start(leases, worker).await
    }

    async fn extend(&self, leases: &[Lease], duration: Duration) -> Result<Vec<bool>, StoreError> {
        self.inner.extend(leases, duration).await
    }

    async fn settle(&self, settlements: &[(Lease, Settlement)]) -> Result<Vec<SettleOutcome>, StoreError> {
        self.inner.settle(settlements).await
    }

    async fn backlog(&self, limit: u64) -> Result<u64, StoreError> {
        self.inner.backlog(limit).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        InboxStore::counts(&self.inner).await
    }

    async fn purge_done(&self, limit: u32) -> Result<u64, StoreError> {
        self.inner.purge_done(limit).await
    }

    async fn stored(&self, limit: u64) -> Result<u64, StoreError> {
        self.inner.stored(limit).await
    }

    async fn evict_done(&self, limit: u32) -> Result<u64, StoreError> {
        self.inner.evict_done(limit).await
    }

    async fn purge_dead(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.inner.purge_dead(age, limit).await
    }

    fn prefetch(&self) -> usize {
        100
    }
}

impl InboxAdmin for PrefetchingStore {
    async fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Result<Page, StoreError> {
        self.inner.find(filter, after, limit).await
    }

    async fn show(&self, id: DeliveryId, body: ShowBody) -> Result<Option<Entry>, StoreError> {
        self.inner.show(id, body).await
    }

    async fn requeue(&self, ids: &[DeliveryId], states: &[DeliveryState]) -> Result<u64, StoreError> {
        self.inner.requeue(ids, states).await
    }

    async fn dead_letter(&self, ids: &[DeliveryId], states: &[DeliveryState], reason: &str) -> Result<u64, StoreError> {
        self.inner.dead_letter(ids, states, reason).await
    }

    async fn delete(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
        ledger: LedgerRows,
    ) -> Result<u64, StoreError> {
        self.inner.delete(ids, states, ledger).await
    }

    async fn count_keys(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        self.inner.count_keys(selection).await
    }

    async fn forget_keys(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        self.inner.forget_keys(selection).await
    }

    async fn pause(&self, pause: &Pause, operator: &str) -> Result<u64, StoreError> {
        self.inner.pause(pause, operator).await
    }

    async fn resume(&self, pause: &Pause) -> Result<bool, StoreError> {
        self.inner.resume(pause).await
    }

    async fn pauses(&self) -> Result<Vec<ActivePause>, StoreError> {
        self.inner.pauses().await
    }
}

impl PrefetchingStore {
    /// Sets the time that a call to `lease` takes.
    pub(super) fn set_lease_latency(&self, latency: Duration) {
        self.lease_millis.store(latency.as_millis().try_into().unwrap(), Ordering::SeqCst);
    }

    /// Makes the next `count` calls to `start` fail.
    pub(super) fn fail_starts(&self, count: u32) {
        self.failing_starts.store(count, Ordering::SeqCst);
    }

    /// Makes the next `count` calls to `start` return `false`.
    pub(super) fn deny_starts(&self, count: u32) {
        self.denied_starts.store(count, Ordering::SeqCst);
    }

    pub(super) fn lease_calls(&self) -> usize {
        self.lease_calls.load(Ordering::SeqCst)
    }

    pub(super) fn is_leasing(&self) -> bool {
        self.is_leasing.load(Ordering::SeqCst)
    }

    pub(super) fn last_leased(&self) -> usize {
        self.last_leased.load(Ordering::SeqCst)
    }

    pub(super) fn reset_last_leased(&self) {
        self.last_leased.store(0, Ordering::SeqCst);
    }

    /// Returns the deliveries that are still stored.
    pub(super) async fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for id in 1..=DELIVERIES {
            let id = DeliveryId::new(i64::try_from(id).unwrap());
            entries.extend(self.inner.show(id, ShowBody::Omit).await.unwrap());
        }
        entries
    }

    /// Returns the number of pending deliveries. Asserts that they have no attempts.
    pub(super) async fn ready_without_attempts(&self) -> usize {
        let ready = self.entries().await.into_iter().filter(|entry| entry.state == DeliveryState::Ready);
        let attempts: Vec<_> = ready.map(|entry| entry.attempts).collect();
        assert!(attempts.iter().all(|attempts| *attempts == 0), "{attempts:?}");
        attempts.len()
    }
}

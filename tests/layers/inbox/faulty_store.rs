//! A memory store whose calls can be made to fail or hang.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use tower_klikit::{
    dedupe::{LedgerSelection, StoreError},
    inbox::{
        Acceptance, ActivePause, DeliveryId, DeliveryState, Entry, Filter, InboxAdmin, Lease, LeaseBatch, LeaseRequest,
        Leased, LedgerRows, NewDelivery, OrderingKey, Page, Pause, SettleOutcome, Settlement, ShowBody,
    },
};

use super::*;

/// A fault that a test switches on and off. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Fault(Arc<AtomicBool>);

impl Fault {
    pub(super) fn set(&self, is_on: bool) {
        self.0.store(is_on, Ordering::SeqCst);
    }

    fn is_on(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A memory store whose calls can be made to fail or hang. Without a fault, it forwards its calls.
#[derive(Clone, Default)]
pub(super) struct FaultyInboxStore {
    pub(super) inner: MemoryStore,
    is_down: Fault,
    /// Every call hangs.
    pub(super) hangs: Fault,
    latency_millis: Arc<AtomicU64>,
    /// Every extension of a lease is denied.
    pub(super) denies_extensions: Fault,
    /// `lease` returns heads that this crate cannot read.
    pub(super) garbles_heads: Fault,
    /// The number of next settlements that are recorded and reported as failed.
    lost_settle_responses: Arc<AtomicU32>,
    /// Counting all deliveries hangs.
    pub(super) hangs_on_stored: Fault,
    /// Evicting kept deliveries fails.
    pub(super) fails_to_evict: Fault,
    /// The number of calls that counted all deliveries or evicted kept ones.
    capacity_calls: Arc<AtomicU32>,
    /// The ordering keys of the last accepted delivery.
    pub(super) ordering_keys: Arc<Mutex<Vec<OrderingKey>>>,
}

impl FaultyInboxStore {
    /// Makes every call fail until [`end_outage`](Self::end_outage).
    pub(super) fn begin_outage(&self) {
        self.set_outage(true);
    }

    pub(super) fn end_outage(&self) {
        self.set_outage(false);
    }

    pub(super) fn set_outage(&self, is_down: bool) {
        self.is_down.set(is_down);
    }

    /// Sets the time that each call takes.
    pub(super) fn set_latency(&self, latency: Duration) {
        self.latency_millis.store(latency.as_millis().try_into().unwrap(), Ordering::SeqCst);
    }

    /// Makes the next `count` settlements take effect and return an error.
    pub(super) fn lose_settle_responses(&self, count: u32) {
        self.lost_settle_responses.store(count, Ordering::SeqCst);
    }

    pub(super) fn capacity_calls(&self) -> u32 {
        self.capacity_calls.load(Ordering::SeqCst)
    }

    /// Hangs, waits or fails, if the test has set such a fault for all calls.
    async fn apply_faults(&self) -> Result<(), StoreError> {
        if self.hangs.is_on() {
            pending::<()>().await;
        }
        sleep(Duration::from_millis(self.latency_millis.load(Ordering::SeqCst))).await;
        if self.is_down.is_on() {
            return Err(StoreError::new("unplugged"));
        }
        Ok(())
    }
}

/// Forwards these calls to the memory store unless the test makes them fail.
macro_rules! forward {
    ($(async fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $output:ty;)*) => {
        $(async fn $name(&self $(, $argument: $type)*) -> Result<$output, StoreError> {
            self.apply_faults().await?;
            self.inner.$name($($argument),*).await
        })*
    };
}

impl InboxStore for FaultyInboxStore {
    forward! {
        async fn counts(&self) -> Counts;
        async fn backlog(&self, limit: u64) -> u64;
        async fn purge_done(&self, limit: u32) -> u64;
        async fn purge_dead(&self, age: Duration, limit: u32) -> u64;
        async fn start(&self, leases: &[Lease], worker: &str) -> Vec<bool>;
    }

    async fn stored(&self, limit: u64) -> Result<u64, StoreError> {
        self.apply_faults().await?;
        self.capacity_calls.fetch_add(1, Ordering::SeqCst);
        if self.hangs_on_stored.is_on() {
            pending::<()>().await;
        }
        self.inner.stored(limit).await
    }

    async fn evict_done(&self, limit: u32) -> Result<u64, StoreError> {
        self.apply_faults().await?;
        self.capacity_calls.fetch_add(1, Ordering::SeqCst);
        if self.fails_to_evict.is_on() {
            return Err(StoreError::new("a damaged page"));
        }
        self.inner.evict_done(limit).await
    }

    async fn accept(&self, delivery: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
        self.apply_faults().await?;
        *self.ordering_keys.lock().unwrap() = delivery.ordering_keys().to_vec();
        self.inner.accept(delivery, retention).await
    }

    async fn lease(&self, request: &LeaseRequest<'_>) -> Result<LeaseBatch, StoreError> {
        self.apply_faults().await?;
        let mut batch = self.inner.lease(request).await?;
        if self.garbles_heads.is_on() {
            batch.leased.iter_mut().for_each(|it| *it = Leased::new(*it.lease(), "{}", it.body().clone()));
        }
        Ok(batch)
    }

    async fn extend(&self, leases: &[Lease], duration: Duration) -> Result<Vec<bool>, StoreError> {
        self.apply_faults().await?;
        if self.denies_extensions.is_on() {
            return Ok(vec![false; leases.len()]);
        }
        self.inner.extend(leases, duration).await
    }

    async fn settle(&self, settlements: &[(Lease, Settlement)]) -> Result<Vec<SettleOutcome>, StoreError> {
        self.apply_faults().await?;
        let settled = self.inner.settle(settlements).await;
        let is_lost =
            self.lost_settle_responses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if is_lost.is_ok() { Err(StoreError::new("the response was lost")) } else { settled }
    }
}

impl InboxAdmin for FaultyInboxStore {
    forward! {
        async fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Page;
        async fn dead_letter(&self, ids: &[DeliveryId], states: &[DeliveryState], reason: &str) -> u64;
        async fn delete(&self, ids: &[DeliveryId], states: &[DeliveryState], ledger: LedgerRows) -> u64;
        async fn show(&self, id: DeliveryId, body: ShowBody) -> Option<Entry>;
        async fn requeue(&self, ids: &[DeliveryId], states: &[DeliveryState]) -> u64;
        async fn count_keys(&self, selection: &LedgerSelection) -> u64;
        async fn forget_keys(&self, selection: &LedgerSelection) -> u64;
        async fn pause(&self, pause: &Pause, operator: &str) -> u64;
        async fn resume(&self, pause: &Pause) -> bool;
        async fn pauses(&self) -> Vec<ActivePause>;
    }
}

//! Tests of stores that fail, hang, or lose their responses.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::SystemTime,
};

use tower_klikit::{
    dedupe::{EventKey, StoreError},
    inbox::{
        Acceptance, DeliveryId, DeliveryState, Entry, Filter, InboxAdmin, Lease, LeaseBatch, LeaseRequest, Leased,
        NewDelivery, OrderingKey, Page, SettleOutcome, Settlement,
    },
};

use super::*;

/// A memory store whose calls can be made to fail or hang.
#[derive(Clone, Default)]
pub(crate) struct FaultyInboxStore {
    inner: MemoryStore,
    unplugged: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    /// The milliseconds that each call takes.
    takes: Arc<AtomicU64>,
    /// Whether every extension is denied.
    lost: Arc<AtomicBool>,
    /// Whether `lease` returns heads that this crate cannot read.
    garbles: Arc<AtomicBool>,
    /// The number of next settlements that are recorded and reported as failed.
    unacknowledged: Arc<AtomicU32>,
    /// Whether counting all deliveries hangs.
    never_counts_all: Arc<AtomicBool>,
    /// Whether evicting kept deliveries fails.
    never_evicts: Arc<AtomicBool>,
    /// The number of calls that counted all deliveries or evicted kept ones.
    limiting: Arc<AtomicU32>,
    /// The ordering keys of the last accepted delivery.
    pub(crate) ordering_keys: Arc<Mutex<Vec<OrderingKey>>>,
}

impl FaultyInboxStore {
    /// Hangs, waits or fails, as the test has set.
    async fn plug(&self) -> Result<(), StoreError> {
        if self.hangs.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        sleep(Duration::from_millis(self.takes.load(Ordering::SeqCst))).await;
        if self.unplugged.load(Ordering::SeqCst) {
            return Err(StoreError::new("unplugged"));
        }
        Ok(())
    }

    fn unplug(&self, unplugged: bool) {
        self.unplugged.store(unplugged, Ordering::SeqCst);
    }
}

/// Forwards these calls to the memory store unless the test makes them fail.
macro_rules! forward {
    ($(async fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $output:ty;)*) => {
        $(async fn $name(&self $(, $argument: $type)*) -> Result<$output, StoreError> {
            self.plug().await?;
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
        async fn start(&self, leases: &[Lease]) -> Vec<bool>;
    }

    async fn stored(&self, limit: u64) -> Result<u64, StoreError> {
        self.plug().await?;
        self.limiting.fetch_add(1, Ordering::SeqCst);
        if self.never_counts_all.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        self.inner.stored(limit).await
    }

    async fn evict_done(&self, limit: u32) -> Result<u64, StoreError> {
        self.plug().await?;
        self.limiting.fetch_add(1, Ordering::SeqCst);
        if self.never_evicts.load(Ordering::SeqCst) {
            return Err(StoreError::new("a damaged page"));
        }
        self.inner.evict_done(limit).await
    }

    async fn accept(&self, delivery: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
        self.plug().await?;
        *self.ordering_keys.lock().unwrap() = delivery.ordering_keys().to_vec();
        self.inner.accept(delivery, retention).await
    }

    async fn lease(&self, request: &LeaseRequest<'_>) -> Result<LeaseBatch, StoreError> {
        self.plug().await?;
        let mut batch = self.inner.lease(request).await?;
        if self.garbles.load(Ordering::SeqCst) {
            batch.leased.iter_mut().for_each(|it| *it = Leased::new(*it.lease(), "{}", it.body().clone()));
        }
        Ok(batch)
    }

    async fn extend(&self, leases: &[Lease], duration: Duration) -> Result<Vec<bool>, StoreError> {
        self.plug().await?;
        if self.lost.load(Ordering::SeqCst) {
            return Ok(vec![false; leases.len()]);
        }
        self.inner.extend(leases, duration).await
    }

    async fn settle(&self, settlements: &[(Lease, Settlement)]) -> Result<Vec<SettleOutcome>, StoreError> {
        self.plug().await?;
        let settled = self.inner.settle(settlements).await;
        let unacknowledged =
            self.unacknowledged.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if unacknowledged.is_ok() { Err(StoreError::new("the response was lost")) } else { settled }
    }
}

impl InboxAdmin for FaultyInboxStore {
    forward! {
        async fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Page;
        async fn dead_letter(&self, ids: &[DeliveryId], states: &[DeliveryState], reason: &str) -> u64;
        async fn forget_deliveries(&self, ids: &[DeliveryId], states: &[DeliveryState]) -> u64;
        async fn show(&self, id: DeliveryId) -> Option<Entry>;
        async fn retry(&self, id: DeliveryId) -> bool;
        async fn forget_event(&self, event: &EventKey) -> u64;
        async fn forget_accepted(&self, window: Range<SystemTime>) -> u64;
    }
}

/// Creates a faulty store, an inbox on it, and another inbox that uses the same memory store without the faults.
fn plugged() -> (FaultyInboxStore, Inbox, Inbox) {
    let store = FaultyInboxStore::default();
    let (faulty, healthy) = (Inbox::new(store.clone()), Inbox::new(store.inner.clone()));
    (store, faulty, healthy)
}

#[tokio::test(start_paused = true)]
async fn failing_store_is_503_and_recovers() {
    let (store, inbox, _) = plugged();
    let stack = stack(&inbox);
    store.unplug(true);
    assert_unavailable(&stack, &delivery(), "store unavailable").await;
    store.unplug(false);
    assert_received(&stack, &delivery()).await;
}

#[tokio::test(start_paused = true)]
async fn hanging_store_is_503_at_the_deadline() {
    let (store, inbox, _) = plugged();
    let stack = stack(&inbox.accept_deadline(seconds(3)));
    store.hangs.store(true, Ordering::SeqCst);
    let started = Instant::now();
    assert_unavailable(&stack, &delivery(), "store unavailable").await;
    assert!(started.elapsed().abs_diff(seconds(3)) < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn worker_continues_after_store_outage() {
    let (store, inbox, healthy) = plugged();
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    store.unplug(true);
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    assert_received(&stack(&healthy), &delivery()).await;
    sleep(seconds(100)).await;
    assert_eq!(handler.begun().len(), 0);
    store.unplug(false);
    until_empty(&healthy).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1]);
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn inbox_is_counted_again_after_an_outage() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (store, inbox, _) = plugged();
    store.unplug(true);
    let worker = RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Hangs)));
    sleep(seconds(20)).await;
    assert!(!recorder.handle().render().contains("klikit_inbox"));
    store.unplug(false);
    assert_received(&stack(&inbox), &delivery()).await;
    sleep(seconds(15)).await;
    let text = recorder.handle().render();
    assert!(text.contains("klikit_inbox_deliveries{state=\"leased\"} 1\n"), "{text}");
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn outcome_is_reported_after_an_outage() {
    let (store, inbox, healthy) = plugged();
    assert_received(&stack(&healthy), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(5)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(seconds(1)).await;
    store.unplug(true);
    sleep(seconds(14)).await;
    assert_eq!(handler.done().len(), 1);
    store.unplug(false);
    until_empty(&healthy).await;
    sleep(seconds(100)).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn handlers_on_two_nodes_both_finish() {
    let (store, inbox, healthy) = plugged();
    assert_received(&stack(&healthy), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(100)));
    let cut_off = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(seconds(1)).await;
    store.unplug(true);
    let other = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(healthy.worker(other.clone()));
    until_empty(&healthy).await;
    sleep(seconds(200)).await;
    store.unplug(false);
    worker.stop().await;
    cut_off.stop().await;
    assert_eq!((handler.done().len(), other.done().len()), (1, 1));
    assert_eq!(healthy.counts().await.unwrap(), Counts::default());
}

#[tokio::test(start_paused = true)]
async fn outcome_counts_after_outage_beyond_the_lease() {
    for outage in [40, 400] {
        let (store, inbox, healthy) = plugged();
        assert_received(&stack(&healthy), &delivery()).await;
        let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(10)));
        let worker = RunningWorker::start(inbox.worker(handler.clone()).max_attempts(1));
        sleep(seconds(1)).await;
        store.unplug(true);
        sleep(seconds(outage)).await;
        assert_eq!((handler.done().len(), healthy.counts().await.unwrap().leased), (1, 1));
        store.unplug(false);
        until_empty(&healthy).await;
        worker.stop().await;
        assert_eq!((handler.attempts(), healthy.counts().await.unwrap()), (vec![1], Counts::default()));
    }
}

#[tokio::test(start_paused = true)]
async fn lost_response_to_settle_is_harmless() {
    let (store, inbox, healthy) = plugged();
    store.unacknowledged.store(1, Ordering::SeqCst);
    assert_received(&stack(&healthy), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(seconds(100)).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1]);
    assert_eq!(healthy.counts().await.unwrap(), Counts::default());
}

#[tokio::test(start_paused = true)]
async fn worker_stops_during_an_outage() {
    let (store, inbox, healthy) = plugged();
    assert_received(&stack(&healthy), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(2)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(seconds(1)).await;
    store.unplug(true);
    let stopped = Instant::now();
    worker.stop().await;
    assert!(stopped.elapsed() < seconds(60));
}

#[tokio::test(start_paused = true)]
async fn handler_outlasts_store_outage() {
    let (store, inbox, healthy) = plugged();
    assert_received(&stack(&healthy), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(100)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(seconds(1)).await;
    store.unplug(true);
    sleep(seconds(40)).await;
    store.unplug(false);
    until_empty(&healthy).await;
    worker.stop().await;
    assert_eq!((handler.attempts(), handler.done().len()), (vec![1], 1));
}

#[tokio::test(start_paused = true)]
async fn outcome_counts_although_extending_failed() {
    let (store, inbox, healthy) = plugged();
    assert_received(&stack(&healthy), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(45)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(seconds(1)).await;
    store.lost.store(true, Ordering::SeqCst);
    until_empty(&healthy).await;
    worker.stop().await;
    assert_eq!((handler.attempts(), handler.done().len()), (vec![1], 1));
}

#[tokio::test(start_paused = true)]
async fn slow_store_costs_no_lease() {
    let (store, inbox, healthy) = plugged();
    assert_received(&stack(&healthy), &delivery()).await;
    store.takes.store(800, Ordering::SeqCst);
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(100)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()).lease(seconds(10)));
    until_empty(&healthy).await;
    worker.stop().await;
    assert_eq!((handler.attempts(), handler.done().len()), (vec![1], 1));
}

#[tokio::test(start_paused = true)]
async fn releases_deliveries_leased_during_shutdown() {
    let (store, inbox, healthy) = plugged();
    assert_received(&stack(&healthy), &delivery()).await;
    store.takes.store(800, Ordering::SeqCst);
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(Duration::from_millis(100)).await;
    worker.stop().await;
    let counts = healthy.counts().await.unwrap();
    assert_eq!((counts.ready, counts.leased, handler.begun().len()), (1, 0, 0));
    let worker = RunningWorker::start(healthy.worker(handler.clone()));
    until_empty(&healthy).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn unreadable_head_is_retried() {
    let (store, inbox, healthy) = plugged();
    assert_received(&stack(&healthy), &delivery()).await;
    store.garbles.store(true, Ordering::SeqCst);
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(seconds(30)).await;
    assert_eq!(handler.begun().len(), 0);
    // Readable again, as after an update of this crate.
    store.garbles.store(false, Ordering::SeqCst);
    until_empty(&healthy).await;
    worker.stop().await;
    assert_eq!((handler.begun().len(), healthy.counts().await.unwrap().dead), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_reported_after_the_drain_deadline() {
    let (store, inbox, healthy) = plugged();
    for number in 0..4 {
        assert_received(&stack(&healthy), &numbered(number)).await;
    }
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(2)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()).drain_deadline(seconds(3)));
    sleep(seconds(1)).await;
    // Each call takes longer than the rest of the drain deadline.
    store.takes.store(2500, Ordering::SeqCst);
    worker.stop().await;
    assert_eq!(handler.done().len(), 4);
    assert_eq!(healthy.counts().await.unwrap(), Counts::default());
}

#[tokio::test(start_paused = true)]
async fn hanging_count_does_not_block_accepting() {
    let (store, inbox, _) = plugged();
    let stack = stack(&inbox.max_backlog(1));
    assert_received(&stack, &numbered(0)).await;
    store.hangs.store(true, Ordering::SeqCst);
    sleep(seconds(1)).await;
    assert_unavailable(&stack, &numbered(1), "store unavailable").await;
    store.hangs.store(false, Ordering::SeqCst);
    sleep(seconds(10)).await;
    assert_unavailable(&stack, &numbered(1), "backlog full").await;
}

#[tokio::test(start_paused = true)]
async fn hanging_count_of_all_blocks_only_a_full_inbox() {
    let (store, inbox, _) = plugged();
    let stack = stack(&inbox.max_stored(3));
    store.never_counts_all.store(true, Ordering::SeqCst);
    let started = Instant::now();
    for number in 0..3 {
        assert_received(&stack, &numbered(number)).await;
    }
    assert!(started.elapsed() < seconds(1));
    assert_unavailable(&stack, &numbered(3), "store unavailable").await;
    store.never_counts_all.store(false, Ordering::SeqCst);
    sleep(seconds(20)).await;
    assert_unavailable(&stack, &numbered(3), "inbox full").await;
}

#[tokio::test(start_paused = true)]
async fn failing_eviction_is_503_and_recovers() {
    let (store, inbox, _) = plugged();
    let inbox = inbox.max_stored(2).keep_bodies(seconds(1000));
    let stack = stack(&inbox);
    let worker = RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Answers(200))));
    for number in 0..2 {
        assert_received(&stack, &numbered(number)).await;
        until_empty(&inbox).await;
    }
    worker.stop().await;
    store.never_evicts.store(true, Ordering::SeqCst);
    assert_unavailable(&stack, &numbered(2), "store unavailable").await;
    store.never_evicts.store(false, Ordering::SeqCst);
    assert_received(&stack, &numbered(2)).await;
    assert_eq!(inbox.counts().await.unwrap().stored(), 2);
}

#[tokio::test(start_paused = true)]
async fn rejections_of_a_full_inbox_cost_no_calls() {
    let (store, inbox, _) = plugged();
    let stack = stack(&inbox.max_stored(2));
    for number in 0..2 {
        assert_received(&stack, &numbered(number)).await;
    }
    assert_unavailable(&stack, &numbered(2), "inbox full").await;
    let calls = store.limiting.load(Ordering::SeqCst);
    for _ in 0..50 {
        assert_unavailable(&stack, &numbered(2), "inbox full").await;
    }
    assert_eq!(store.limiting.load(Ordering::SeqCst), calls);
    // Before a rejection, deliveries are counted again if the last count is a second old.
    sleep(seconds(1)).await;
    assert_unavailable(&stack, &numbered(2), "inbox full").await;
    assert!(store.limiting.load(Ordering::SeqCst) > calls);
}

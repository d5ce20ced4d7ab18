//! A store that does not answer as it should.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::SystemTime,
};

use tower_klikit::{
    dedupe::{EventKey, StoreError},
    inbox::{Acceptance, DeliveryId, Entry, Lease, Leased, NewDelivery, OrderingKey},
};

use super::*;

/// The memory store, with a plug to pull.
#[derive(Clone, Default)]
pub(crate) struct Plugged {
    inner: MemoryStore,
    unplugged: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    /// Milliseconds that each call takes.
    takes: Arc<AtomicU64>,
    /// Has every lease be somebody else's.
    lost: Arc<AtomicBool>,
    /// Gives back heads that this crate does not write.
    garbles: Arc<AtomicBool>,
    /// How many more finishes do their work and then say that they failed.
    unheard: Arc<AtomicU32>,
    /// Of the last delivery that was accepted.
    pub(crate) ordering_keys: Arc<Mutex<Vec<OrderingKey>>>,
}

impl Plugged {
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

macro_rules! through_the_plug {
    ($(async fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $output:ty;)*) => {
        impl InboxStore for Plugged {
            $(async fn $name(&self $(, $argument: $type)*) -> Result<$output, StoreError> {
                self.plug().await?;
                self.inner.$name($($argument),*).await
            })*

            async fn accept(&self, delivery: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
                self.plug().await?;
                *self.ordering_keys.lock().unwrap() = delivery.ordering_keys().to_vec();
                self.inner.accept(delivery, retention).await
            }

            async fn lease(&self, limit: u32, time: Duration, max: u32) -> Result<Vec<Leased>, StoreError> {
                self.plug().await?;
                let mut leased = self.inner.lease(limit, time, max).await?;
                if self.garbles.load(Ordering::SeqCst) {
                    leased.iter_mut().for_each(|it| *it = Leased::new(*it.lease(), "{}", it.body().clone()));
                }
                Ok(leased)
            }

            async fn extend(&self, lease: &Lease, time: Duration) -> Result<bool, StoreError> {
                self.plug().await?;
                if self.lost.load(Ordering::SeqCst) { Ok(false) } else { self.inner.extend(lease, time).await }
            }

            async fn finish(&self, lease: &Lease, keep: Duration) -> Result<bool, StoreError> {
                self.plug().await?;
                let finished = self.inner.finish(lease, keep).await;
                let unheard = self.unheard.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                if unheard.is_ok() { Err(StoreError::new("the answer was lost")) } else { finished }
            }
        }
    };
}

through_the_plug! {
    async fn postpone(&self, lease: &Lease, pause: Duration, reason: &str) -> bool;
    async fn bury(&self, lease: &Lease, reason: &str) -> bool;
    async fn give_back(&self, lease: &Lease) -> bool;
    async fn counts(&self) -> Counts;
    async fn backlog(&self, limit: u64) -> u64;
    async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Vec<Entry>;
    async fn show(&self, id: DeliveryId) -> Option<Entry>;
    async fn retry(&self, id: DeliveryId) -> bool;
    async fn forget_event(&self, event: &EventKey) -> u64;
    async fn forget_accepted(&self, window: Range<SystemTime>) -> u64;
    async fn purge_done(&self, limit: u32) -> u64;
}

/// The plug, an inbox behind it, and one on the same store that nobody can unplug.
fn plugged() -> (Plugged, Inbox, Inbox) {
    let store = Plugged::default();
    let (behind, beside) = (Inbox::new(store.clone()), Inbox::new(store.inner.clone()));
    (store, behind, beside)
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_503_and_then_works_again() {
    let (store, inbox, _) = plugged();
    let stack = stack(&inbox);
    store.unplug(true);
    assert_unavailable(&stack, &delivery(), "store unavailable").await;
    store.unplug(false);
    assert_received(&stack, &delivery()).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_503_at_the_deadline() {
    let (store, inbox, _) = plugged();
    let stack = stack(&inbox.accept_deadline(seconds(3)));
    store.hangs.store(true, Ordering::SeqCst);
    let started = Instant::now();
    assert_unavailable(&stack, &delivery(), "store unavailable").await;
    assert!(started.elapsed().abs_diff(seconds(3)) < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_worker_waits_out_a_store_that_is_down() {
    let (store, inbox, beside) = plugged();
    let handler = Handler::new(Does::Answers(200));
    store.unplug(true);
    let worker = Running::start(inbox.worker(handler.clone()));
    assert_received(&stack(&beside), &delivery()).await;
    sleep(seconds(100)).await;
    assert_eq!(handler.begun().len(), 0);
    store.unplug(false);
    until_empty(&beside).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1]);
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn the_inbox_is_counted_again_when_the_store_is_back() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (store, inbox, _) = plugged();
    store.unplug(true);
    let worker = Running::start(inbox.worker(Handler::new(Does::Hangs)));
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
async fn what_was_handled_while_the_store_was_down_is_finished_when_it_is_back() {
    let (store, inbox, beside) = plugged();
    assert_received(&stack(&beside), &delivery()).await;
    let handler = Handler::new(Does::AnswersAfter(seconds(5)));
    let worker = Running::start(inbox.worker(handler.clone()));
    sleep(seconds(1)).await;
    store.unplug(true);
    sleep(seconds(14)).await;
    assert_eq!(handler.done().len(), 1);
    store.unplug(false);
    until_empty(&beside).await;
    sleep(seconds(100)).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_dropped_when_its_lease_may_be_anothers() {
    let (store, inbox, beside) = plugged();
    assert_received(&stack(&beside), &delivery()).await;
    let handler = Handler::new(Does::AnswersAfter(seconds(100)));
    let cut_off = Running::start(inbox.worker(handler.clone()));
    sleep(seconds(1)).await;
    store.unplug(true);
    let other = Handler::new(Does::Answers(200));
    let worker = Running::start(beside.worker(other.clone()));
    until_empty(&beside).await;
    sleep(seconds(200)).await;
    store.unplug(false);
    worker.stop().await;
    cut_off.stop().await;
    assert_eq!((handler.done().len(), other.done().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_finish_whose_answer_was_lost_is_not_handled_again() {
    let (store, inbox, beside) = plugged();
    store.unheard.store(1, Ordering::SeqCst);
    assert_received(&stack(&beside), &delivery()).await;
    let handler = Handler::new(Does::Answers(200));
    let worker = Running::start(inbox.worker(handler.clone()));
    sleep(seconds(100)).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1]);
    assert_eq!(beside.counts().await.unwrap(), Counts::default());
}

#[tokio::test(start_paused = true)]
async fn a_worker_stops_although_the_store_is_down() {
    let (store, inbox, beside) = plugged();
    assert_received(&stack(&beside), &delivery()).await;
    let handler = Handler::new(Does::AnswersAfter(seconds(2)));
    let worker = Running::start(inbox.worker(handler.clone()));
    sleep(seconds(1)).await;
    store.unplug(true);
    let stopped = Instant::now();
    worker.stop().await;
    assert!(stopped.elapsed() < seconds(60));
}

#[tokio::test(start_paused = true)]
async fn what_was_dropped_because_the_store_was_down_is_handled_again() {
    let (store, inbox, beside) = plugged();
    assert_received(&stack(&beside), &delivery()).await;
    let handler = Handler::new(Does::Answers(200)).first([Does::AnswersAfter(seconds(100))]);
    let worker = Running::start(inbox.worker(handler.clone()));
    sleep(seconds(1)).await;
    store.unplug(true);
    sleep(seconds(40)).await;
    store.unplug(false);
    until_empty(&beside).await;
    worker.stop().await;
    assert_eq!((handler.attempts(), handler.done().len()), (vec![1, 2], 1));
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_dropped_as_soon_as_its_lease_is_known_to_be_lost() {
    let (store, inbox, beside) = plugged();
    assert_received(&stack(&beside), &delivery()).await;
    let handler = Handler::new(Does::AnswersAfter(seconds(25)));
    let worker = Running::start(inbox.worker(handler.clone()));
    sleep(seconds(1)).await;
    store.lost.store(true, Ordering::SeqCst);
    sleep(seconds(28)).await;
    assert_eq!((handler.begun().len(), handler.done().len()), (1, 0));
    store.lost.store(false, Ordering::SeqCst);
    until_empty(&beside).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_costs_no_lease() {
    let (store, inbox, beside) = plugged();
    assert_received(&stack(&beside), &delivery()).await;
    store.takes.store(800, Ordering::SeqCst);
    let handler = Handler::new(Does::AnswersAfter(seconds(100)));
    let worker = Running::start(inbox.worker(handler.clone()).lease(seconds(10)));
    until_empty(&beside).await;
    worker.stop().await;
    assert_eq!((handler.attempts(), handler.done().len()), (vec![1], 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_leased_while_the_worker_is_told_to_stop_is_given_back() {
    let (store, inbox, beside) = plugged();
    assert_received(&stack(&beside), &delivery()).await;
    store.takes.store(800, Ordering::SeqCst);
    let handler = Handler::new(Does::Answers(200));
    let worker = Running::start(inbox.worker(handler.clone()));
    sleep(Duration::from_millis(100)).await;
    worker.stop().await;
    let counts = beside.counts().await.unwrap();
    assert_eq!((counts.ready, counts.leased, handler.begun().len()), (1, 0, 0));
    let worker = Running::start(beside.worker(handler.clone()));
    until_empty(&beside).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_made_into_a_request_is_tried_again() {
    let (store, inbox, beside) = plugged();
    assert_received(&stack(&beside), &delivery()).await;
    store.garbles.store(true, Ordering::SeqCst);
    let handler = Handler::new(Does::Answers(200));
    let worker = Running::start(inbox.worker(handler.clone()));
    sleep(seconds(30)).await;
    assert_eq!(handler.begun().len(), 0);
    // As after an update of this crate.
    store.garbles.store(false, Ordering::SeqCst);
    until_empty(&beside).await;
    worker.stop().await;
    assert_eq!((handler.begun().len(), beside.counts().await.unwrap().dead), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_handled_is_finished_although_the_worker_has_to_stop() {
    let (store, inbox, beside) = plugged();
    for number in 0..4 {
        assert_received(&stack(&beside), &numbered(number)).await;
    }
    let handler = Handler::new(Does::AnswersAfter(seconds(2)));
    let worker = Running::start(inbox.worker(handler.clone()).drain_deadline(seconds(3)));
    sleep(seconds(1)).await;
    // Each call takes longer than what is left.
    store.takes.store(2500, Ordering::SeqCst);
    worker.stop().await;
    assert_eq!(handler.done().len(), 4);
    assert_eq!(beside.counts().await.unwrap(), Counts::default());
}

#[tokio::test(start_paused = true)]
async fn a_count_that_never_comes_keeps_nobody_out_for_ever() {
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

//! A store that wraps another store and records its calls in the journal.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tower_klikit::{
    dedupe::{LedgerSelection, StoreError},
    inbox::{
        Acceptance, ActivePause, Counts, DeliveryId, DeliveryState, Entry, Filter, InboxAdmin, InboxStore, Lease,
        LeaseBatch, LeaseRequest, LedgerRows, NewDelivery, Page, Pause, SettleOutcome, Settlement, ShowBody,
    },
};

use crate::journal::{Journal, Stage, now};

type StoreResult<T> = Result<T, StoreError>;

/// The store of a child's inbox, which records its calls.
pub(crate) struct Recorded<S> {
    store: S,
    journal: Journal,
    events: Arc<Mutex<HashMap<DeliveryId, String>>>,
}

impl<S> Recorded<S> {
    pub(crate) fn new(store: S, journal: Journal) -> Self {
        Self { store, journal, events: Arc::default() }
    }

    fn write(&self, stage: Stage, lease: &Lease, asked: Duration) {
        let event = self.events.lock().unwrap()[&lease.id()].clone();
        self.journal.write(stage, &event, lease, asked);
    }
}

impl<S: InboxStore> InboxStore for Recorded<S> {
    async fn accept(&self, delivery: &NewDelivery, retention: Duration) -> StoreResult<Acceptance> {
        self.store.accept(delivery, retention).await
    }

    async fn lease(&self, request: &LeaseRequest<'_>) -> StoreResult<LeaseBatch> {
        let asked = now();
        let batch = self.store.lease(request).await?;
        for leased in &batch.leased {
            let head: Value = serde_json::from_str(leased.head()).expect("the head is JSON");
            let event = head["event_id"].as_str().expect("all deliveries have event ids").to_owned();
            self.events.lock().unwrap().insert(leased.lease().id(), event);
            self.write(Stage::Leased, leased.lease(), asked);
        }
        Ok(batch)
    }

    async fn start(&self, leases: &[Lease], worker: &str) -> StoreResult<Vec<bool>> {
        self.store.start(leases, worker).await
    }

    async fn extend(&self, leases: &[Lease], duration: Duration) -> StoreResult<Vec<bool>> {
        let asked = now();
        let extended = self.store.extend(leases, duration).await?;
        for (lease, _) in leases.iter().zip(&extended).filter(|(_, extended)| **extended) {
            self.write(Stage::Extended, lease, asked);
        }
        Ok(extended)
    }

    async fn settle(&self, settlements: &[(Lease, Settlement)]) -> StoreResult<Vec<SettleOutcome>> {
        let asked = now();
        for (lease, settlement) in settlements {
            if matches!(settlement, Settlement::Reschedule { .. } | Settlement::Release) {
                self.write(Stage::Releasing, lease, asked);
            }
        }
        let outcomes = self.store.settle(settlements).await?;
        let settled = settlements.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == SettleOutcome::Settled);
        for ((lease, settlement), _) in settled {
            match settlement {
                Settlement::Done { .. } => self.write(Stage::Finished, lease, asked),
                Settlement::Reschedule { .. } => self.write(Stage::Rescheduled, lease, asked),
                Settlement::Release => self.write(Stage::Released, lease, asked),
                Settlement::DeadLetter { .. } | Settlement::Expire => {}
            }
        }
        Ok(outcomes)
    }

    async fn backlog(&self, limit: u64) -> StoreResult<u64> {
        self.store.backlog(limit).await
    }

    async fn counts(&self) -> StoreResult<Counts> {
        self.store.counts().await
    }

    async fn purge_done(&self, limit: u32) -> StoreResult<u64> {
        self.store.purge_done(limit).await
    }

    async fn stored(&self, limit: u64) -> StoreResult<u64> {
        self.store.stored(limit).await
    }

    async fn evict_done(&self, limit: u32) -> StoreResult<u64> {
        self.store.evict_done(limit).await
    }

    async fn purge_dead(&self, age: Duration, limit: u32) -> StoreResult<u64> {
        self.store.purge_dead(age, limit).await
    }

    fn prefetch(&self) -> usize {
        self.store.prefetch()
    }
}

impl<S: InboxAdmin> InboxAdmin for Recorded<S> {
    async fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> StoreResult<Page> {
        self.store.find(filter, after, limit).await
    }

    async fn show(&self, id: DeliveryId, body: ShowBody) -> StoreResult<Option<Entry>> {
        self.store.show(id, body).await
    }

    async fn requeue(&self, ids: &[DeliveryId], states: &[DeliveryState]) -> StoreResult<u64> {
        self.store.requeue(ids, states).await
    }

    async fn dead_letter(&self, ids: &[DeliveryId], states: &[DeliveryState], reason: &str) -> StoreResult<u64> {
        self.store.dead_letter(ids, states, reason).await
    }

    async fn delete(&self, ids: &[DeliveryId], states: &[DeliveryState], ledger: LedgerRows) -> StoreResult<u64> {
        self.store.delete(ids, states, ledger).await
    }

    async fn count_keys(&self, selection: &LedgerSelection) -> StoreResult<u64> {
        self.store.count_keys(selection).await
    }

    async fn forget_keys(&self, selection: &LedgerSelection) -> StoreResult<u64> {
        self.store.forget_keys(selection).await
    }

    async fn pause(&self, pause: &Pause, operator: &str) -> StoreResult<u64> {
        self.store.pause(pause, operator).await
    }

    async fn resume(&self, pause: &Pause) -> StoreResult<bool> {
        self.store.resume(pause).await
    }

    async fn pauses(&self) -> StoreResult<Vec<ActivePause>> {
        self.store.pauses().await
    }
}

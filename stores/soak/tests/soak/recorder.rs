//! A store that writes to the journal what the store behind it has answered.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tower_klikit::{
    dedupe::{EventKey, StoreError},
    inbox::{
        Acceptance, Counts, DeliveryId, DeliveryState, Entry, Filter, InboxAdmin, InboxStore, Lease, LeaseBatch,
        LeaseRequest, NewDelivery, Page, SettleOutcome, Settlement,
    },
};

use crate::journal::{Journal, What, now};

type Stored<T> = Result<T, StoreError>;

/// The store of a child's inbox.
pub(crate) struct Recorded<S> {
    store: S,
    journal: Journal,
    events: Arc<Mutex<HashMap<DeliveryId, String>>>,
}

impl<S> Recorded<S> {
    pub(crate) fn new(store: S, journal: Journal) -> Self {
        Self { store, journal, events: Arc::default() }
    }

    fn write(&self, what: What, lease: &Lease, asked: Duration) {
        let event = self.events.lock().unwrap()[&lease.id()].clone();
        self.journal.write(what, &event, lease, asked);
    }
}

impl<S: InboxStore> InboxStore for Recorded<S> {
    async fn accept(&self, delivery: &NewDelivery, retention: Duration) -> Stored<Acceptance> {
        self.store.accept(delivery, retention).await
    }

    async fn lease(&self, request: &LeaseRequest<'_>) -> Stored<LeaseBatch> {
        let asked = now();
        let batch = self.store.lease(request).await?;
        for leased in &batch.leased {
            let head: Value = serde_json::from_str(leased.head()).expect("a head is JSON");
            let event = head["event_id"].as_str().expect("all events have ids").to_owned();
            self.events.lock().unwrap().insert(leased.lease().id(), event);
            self.write(What::Leased, leased.lease(), asked);
        }
        Ok(batch)
    }

    async fn start(&self, leases: &[Lease]) -> Stored<Vec<bool>> {
        self.store.start(leases).await
    }

    async fn extend(&self, leases: &[Lease], duration: Duration) -> Stored<Vec<bool>> {
        let asked = now();
        let extended = self.store.extend(leases, duration).await?;
        for (lease, _) in leases.iter().zip(&extended).filter(|(_, extended)| **extended) {
            self.write(What::Extended, lease, asked);
        }
        Ok(extended)
    }

    async fn settle(&self, settlements: &[(Lease, Settlement)]) -> Stored<Vec<SettleOutcome>> {
        let asked = now();
        for (lease, settlement) in settlements {
            if matches!(settlement, Settlement::Reschedule { .. } | Settlement::Release) {
                self.write(What::Releasing, lease, asked);
            }
        }
        let outcomes = self.store.settle(settlements).await?;
        let settled = settlements.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == SettleOutcome::Settled);
        for ((lease, settlement), _) in settled {
            match settlement {
                Settlement::Done { .. } => self.write(What::Finished, lease, asked),
                Settlement::Reschedule { .. } => self.write(What::Rescheduled, lease, asked),
                Settlement::Release => self.write(What::Released, lease, asked),
                Settlement::DeadLetter { .. } => {}
            }
        }
        Ok(outcomes)
    }

    async fn backlog(&self, limit: u64) -> Stored<u64> {
        self.store.backlog(limit).await
    }

    async fn counts(&self) -> Stored<Counts> {
        self.store.counts().await
    }

    async fn purge_done(&self, limit: u32) -> Stored<u64> {
        self.store.purge_done(limit).await
    }

    async fn stored(&self, limit: u64) -> Stored<u64> {
        self.store.stored(limit).await
    }

    async fn evict_done(&self, limit: u32) -> Stored<u64> {
        self.store.evict_done(limit).await
    }

    async fn purge_dead(&self, age: Duration, limit: u32) -> Stored<u64> {
        self.store.purge_dead(age, limit).await
    }

    fn prefetch(&self) -> usize {
        self.store.prefetch()
    }
}

impl<S: InboxAdmin> InboxAdmin for Recorded<S> {
    async fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Stored<Page> {
        self.store.find(filter, after, limit).await
    }

    async fn show(&self, id: DeliveryId) -> Stored<Option<Entry>> {
        self.store.show(id).await
    }

    async fn retry(&self, id: DeliveryId) -> Stored<bool> {
        self.store.retry(id).await
    }

    async fn dead_letter(&self, ids: &[DeliveryId], states: &[DeliveryState], reason: &str) -> Stored<u64> {
        self.store.dead_letter(ids, states, reason).await
    }

    async fn forget_deliveries(&self, ids: &[DeliveryId], states: &[DeliveryState]) -> Stored<u64> {
        self.store.forget_deliveries(ids, states).await
    }

    async fn forget_event(&self, event: &EventKey) -> Stored<u64> {
        self.store.forget_event(event).await
    }

    async fn forget_accepted(&self, window: Range<SystemTime>) -> Stored<u64> {
        self.store.forget_accepted(window).await
    }
}

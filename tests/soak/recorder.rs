//! A store that writes down what it was told by the store that it is.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tower_klikit::{
    dedupe::{EventKey, StoreError},
    inbox::{Acceptance, Counts, DeliveryId, Entry, InboxStore, Lease, Leased, NewDelivery},
};

use crate::journal::{Journal, What, now};

type Stored<T> = Result<T, StoreError>;

/// What is behind a worker. It adds to the journal when the store has answered.
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

    async fn lease(&self, limit: u32, time: Duration, max_attempts: u32) -> Stored<Vec<Leased>> {
        let asked = now();
        let leased = self.store.lease(limit, time, max_attempts).await?;
        for leased in &leased {
            let head: Value = serde_json::from_str(leased.head()).expect("a head is JSON");
            let event = head["event_id"].as_str().expect("all events have ids").to_owned();
            self.events.lock().unwrap().insert(leased.lease().id(), event);
            self.write(What::Leased, leased.lease(), asked);
        }
        Ok(leased)
    }

    async fn extend(&self, lease: &Lease, time: Duration) -> Stored<bool> {
        let asked = now();
        let held = self.store.extend(lease, time).await?;
        if held {
            self.write(What::Extended, lease, asked);
        }
        Ok(held)
    }

    async fn finish(&self, lease: &Lease, keep: Duration) -> Stored<bool> {
        let asked = now();
        let held = self.store.finish(lease, keep).await?;
        if held {
            self.write(What::Finished, lease, asked);
        }
        Ok(held)
    }

    async fn postpone(&self, lease: &Lease, pause: Duration, reason: &str) -> Stored<bool> {
        let asked = now();
        self.write(What::Releasing, lease, asked);
        let held = self.store.postpone(lease, pause, reason).await?;
        if held {
            self.write(What::Postponed, lease, asked);
        }
        Ok(held)
    }

    async fn bury(&self, lease: &Lease, reason: &str) -> Stored<bool> {
        self.store.bury(lease, reason).await
    }

    async fn give_back(&self, lease: &Lease) -> Stored<bool> {
        let asked = now();
        self.write(What::Releasing, lease, asked);
        let held = self.store.give_back(lease).await?;
        if held {
            self.write(What::GivenBack, lease, asked);
        }
        Ok(held)
    }

    async fn counts(&self) -> Stored<Counts> {
        self.store.counts().await
    }

    async fn backlog(&self, limit: u64) -> Stored<u64> {
        self.store.backlog(limit).await
    }

    async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Stored<Vec<Entry>> {
        self.store.dead(after, limit).await
    }

    async fn show(&self, id: DeliveryId) -> Stored<Option<Entry>> {
        self.store.show(id).await
    }

    async fn retry(&self, id: DeliveryId) -> Stored<bool> {
        self.store.retry(id).await
    }

    async fn forget_event(&self, event: &EventKey) -> Stored<u64> {
        self.store.forget_event(event).await
    }

    async fn forget_accepted(&self, window: Range<SystemTime>) -> Stored<u64> {
        self.store.forget_accepted(window).await
    }

    async fn purge_done(&self, limit: u32) -> Stored<u64> {
        self.store.purge_done(limit).await
    }
}

//! What an operator does with an inbox.

use std::{ops::Range, time::SystemTime};

use super::{
    entry::{Counts, DeliveryId, Entry},
    settings::Inbox,
};
use crate::dedupe::StoreError;

/// How many dead deliveries are looked at in one go.
const PAGE: u32 = 256;

/// For the operator. Each of these fails when the store does not answer as it should.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Inbox {
    /// How many deliveries there are in each state, and how long the oldest has waited.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.config.store.counts().await
    }

    /// The deliveries that were given up, without their bodies: `limit` of them at most, the oldest first, from the one after
    /// `after` on.
    pub async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Entry>, StoreError> {
        self.config.store.dead(after, limit).await
    }

    /// One delivery in any state, with its body if that is still there. The body holds customers' data.
    pub async fn show(&self, id: DeliveryId) -> Result<Option<Entry>, StoreError> {
        self.config.store.show(id).await
    }

    /// Has a dead delivery handled again, with all its attempts before it. `false` when there is none of this id.
    ///
    /// One that is [kept in order](super::OrderBy) takes its old place, before those that share its key and still wait.
    pub async fn retry(&self, id: DeliveryId) -> Result<bool, StoreError> {
        let retried = self.config.store.retry(id).await?;
        self.config.wake.notify_one();
        Ok(retried)
    }

    /// Has all dead deliveries handled again: how many. If it fails, some of them are.
    pub async fn retry_all(&self) -> Result<u64, StoreError> {
        let mut retried = 0;
        let mut after = None;
        loop {
            let page = self.dead(after, PAGE).await?;
            for entry in &page {
                retried += u64::from(self.retry(entry.id).await?);
            }
            match page.last() {
                Some(last) => after = Some(last.id),
                None => return Ok(retried),
            }
        }
    }

    /// Forgets a delivery that was handled or given up, and deletes what is left of it, so that it is handled anew when klikit
    /// replays it: ask for the replay after this. How many there were: more than one if the id came with several bodies.
    ///
    /// One that still waits, or that a worker has, stays.
    ///
    /// `tenant` is the name of the keyring, `default` unless set. Deliveries that are known by their body are forgotten with
    /// [`forget_body`](Self::forget_body).
    pub async fn forget(&self, tenant: &str, event_id: &str) -> Result<u64, StoreError> {
        let key = self.config.recognition.key_of_event(tenant, event_id);
        self.config.store.forget_event(&key).await
    }

    /// Forgets a delivery that is known by its body: see [`forget`](Self::forget).
    pub async fn forget_body(&self, tenant: &str, body: impl AsRef<[u8]>) -> Result<u64, StoreError> {
        let key = self.config.recognition.key_of_body(tenant, body.as_ref());
        self.config.store.forget_event(&key).await
    }

    /// Forgets all deliveries that came within this time, by the store's clock, and were handled or given up, whatever their
    /// tenant: see [`forget`](Self::forget). How many there were.
    pub async fn forget_accepted(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        self.config.store.forget_accepted(window).await
    }

    /// Deletes what was [kept](Self::keep_bodies) and whose time is up, `limit` deliveries at most: how many. Workers do this by
    /// themselves.
    pub async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        self.config.store.purge_done(limit).await
    }
}

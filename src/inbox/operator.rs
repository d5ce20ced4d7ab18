//! An inbox's operations for operators.

use std::{ops::Range, time::SystemTime};

use super::{
    Inbox,
    entry::{Counts, DeliveryId, Entry},
};
use crate::dedupe::StoreError;

/// How many dead deliveries [`Inbox::retry_all`] reads at a time.
const PAGE: u32 = 256;

/// Operations for the operator. Each fails if the store fails.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Inbox {
    /// Counts the deliveries in each state, and says how long the oldest pending one has waited.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.config.store.counts().await
    }

    /// Lists up to `limit` dead deliveries without their bodies, oldest first, starting behind `after`.
    pub async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Entry>, StoreError> {
        self.admin.dead(after, limit).await
    }

    /// Returns one delivery in any state, with its body if that is still stored. The body holds customers' data.
    pub async fn show(&self, id: DeliveryId) -> Result<Option<Entry>, StoreError> {
        self.admin.show(id).await
    }

    /// Makes a dead delivery pending again, with its full number of attempts. Returns `false` if no dead delivery has
    /// this id.
    ///
    /// A delivery that is [kept in order](super::OrderBy) takes its old place, ahead of pending ones that share its
    /// key.
    pub async fn retry(&self, id: DeliveryId) -> Result<bool, StoreError> {
        let retried = self.admin.retry(id).await?;
        self.config.wake.notify_one();
        Ok(retried)
    }

    /// Makes all dead deliveries pending again, and returns how many there were. If it fails, some of them are.
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

    /// Forgets a delivery that was handled or dead-lettered and deletes what is left of it, so that it is handled again
    /// when klikit replays it: ask for the replay after this call. Returns how many deliveries were forgotten: more
    /// than one if the id came with several bodies.
    ///
    /// A delivery that is pending or leased stays.
    ///
    /// `tenant` is the name of the keyring, `default` unless set. Deliveries that are known by their body are forgotten
    /// with [`forget_body`](Self::forget_body).
    pub async fn forget(&self, tenant: &str, event_id: &str) -> Result<u64, StoreError> {
        let key = self.config.policy.key_of_event(tenant, event_id);
        self.admin.forget_event(&key).await
    }

    /// Forgets a delivery that is known by its body: see [`forget`](Self::forget).
    pub async fn forget_body(&self, tenant: &str, body: impl AsRef<[u8]>) -> Result<u64, StoreError> {
        let key = self.config.policy.key_of_body(tenant, body.as_ref());
        self.admin.forget_event(&key).await
    }

    /// Forgets all deliveries of all tenants that came within this window by the store's clock and were handled or
    /// dead-lettered: see [`forget`](Self::forget). Returns how many deliveries were forgotten.
    pub async fn forget_accepted(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        self.admin.forget_accepted(window).await
    }

    /// Deletes up to `limit` deliveries that were [kept](Self::keep_bodies) and whose time is over, and returns how
    /// many there were. Workers do this by themselves.
    pub async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        self.config.store.purge_done(limit).await
    }
}

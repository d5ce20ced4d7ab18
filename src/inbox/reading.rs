//! The calls of an inbox that read stored deliveries.

use super::{
    Inbox,
    admin::ShowBody,
    entry::{Counts, DeliveryId, DeliveryState, Entry},
    filter::{Filter, Page},
    pages::Pages,
    pause::ActivePause,
};
use crate::dedupe::StoreError;

/// Calls that read stored deliveries. Each returns an error if the store fails.
#[allow(clippy::missing_errors_doc, reason = "the comment of the block documents the errors")]
impl Inbox {
    /// Counts the deliveries in each state. Also returns the age of the oldest pending delivery.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.config.store.counts().await
    }

    /// Lists up to `limit` deliveries that the filter selects, without their bodies and records of attempts, oldest
    /// first, starting after this id. A limit of 0 counts as 1.
    ///
    /// A page may have fewer deliveries, or none, although others follow, because a store examines a bounded number of
    /// deliveries in one call: [`Page::next`] is the start of the next page. [`Filter`] lists the parts that use an
    /// index.
    pub async fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Result<Page, StoreError> {
        self.admin.find(filter, after, limit.max(1)).await
    }

    /// Lists up to `limit` dead letters without their bodies, oldest first, starting after this id.
    pub async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let filter = Filter::new().states([DeliveryState::Dead]);
        let mut pages = Pages::new(&self.admin, &filter).of_size(limit).after(after);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut dead = Vec::new();
        while dead.len() < limit
            && let Some(entries) = pages.next().await?
        {
            dead.extend(entries);
        }
        dead.truncate(limit);
        Ok(dead)
    }

    /// Returns a delivery in any state, with the [records of its attempts](Entry::history) and without its body.
    pub async fn show(&self, id: DeliveryId) -> Result<Option<Entry>, StoreError> {
        self.admin.show(id, ShowBody::Omit).await
    }

    /// Returns a delivery like [`show`](Self::show), with its body if it is still stored. The body contains customers'
    /// data.
    pub async fn show_with_body(&self, id: DeliveryId) -> Result<Option<Entry>, StoreError> {
        self.admin.show(id, ShowBody::Include).await
    }

    /// Returns the [pauses](super::Operator::pause) that are in force.
    pub async fn pauses(&self) -> Result<Vec<ActivePause>, StoreError> {
        self.admin.pauses().await
    }
}

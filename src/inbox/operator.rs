//! Operations of an inbox that are for operators.

use std::{ops::Range, time::SystemTime};

use super::{
    Inbox,
    admin::SharedAdmin,
    entry::{Counts, DeliveryId, DeliveryState, Entry},
    filter::{Filter, Page},
};
use crate::dedupe::StoreError;

/// The number of deliveries in a page when an operation iterates over pages.
const PAGE: u32 = 256;

/// Operations for operators. Each operation returns an error if the store fails.
#[allow(clippy::missing_errors_doc, reason = "the comment of the block documents the errors")]
impl Inbox {
    /// Counts the deliveries in each state. Also returns the age of the oldest pending delivery.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.config.store.counts().await
    }

    /// Lists up to `limit` deliveries that the filter selects without their bodies, oldest first, starting after this
    /// id. A page may have fewer, or none, although others follow: [`Page::next`] says where to go on. A limit of 0
    /// counts as 1.
    pub async fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Result<Page, StoreError> {
        self.admin.find(filter, after, limit.max(1)).await
    }

    /// Lists up to `limit` dead letters without their bodies, oldest first, starting after this id.
    pub async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let filter = Filter::new().states([DeliveryState::Dead]);
        let mut pages = Pages { size: limit, after, ..Pages::new(&self.admin, &filter) };
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

    /// Returns a delivery in any state, with its body if it is still stored. The body contains customers' data.
    pub async fn show(&self, id: DeliveryId) -> Result<Option<Entry>, StoreError> {
        self.admin.show(id).await
    }

    /// Makes a dead letter pending again, with all its attempts. Returns `false` if no dead letter has this id.
    ///
    /// A delivery with [ordering keys](super::OrderBy) returns to its old place, ahead of later deliveries that share a
    /// key.
    pub async fn retry(&self, id: DeliveryId) -> Result<bool, StoreError> {
        let retried = self.admin.retry(id).await?;
        self.config.wake.notify_one();
        Ok(retried)
    }

    /// Makes all dead letters pending again. Returns their number. After an error, some of them may be pending.
    pub async fn retry_all(&self) -> Result<u64, StoreError> {
        let filter = Filter::new().states([DeliveryState::Dead]);
        let mut pages = Pages::new(&self.admin, &filter);
        let mut retried = 0;
        while let Some(entries) = pages.next().await? {
            for entry in entries {
                retried += u64::from(self.retry(entry.id).await?);
            }
        }
        Ok(retried)
    }

    /// Dead-letters the pending deliveries that the filter selects. Returns their number. After an error, some of
    /// them may be dead letters.
    ///
    /// The filter has to name [`Ready`](DeliveryState::Ready), [`Leased`](DeliveryState::Leased) or both: without them
    /// nothing is dead-lettered. A handler that is running goes on. If it succeeds, that counts; if it fails, the delivery
    /// stays a dead letter. Deliveries that share an ordering key with it no longer wait for it.
    ///
    /// ```
    /// # async fn drop_replays(
    /// #     inbox: &tower_klikit::inbox::Inbox,
    /// #     captured: &[u8],
    /// # ) -> Result<(), tower_klikit::dedupe::StoreError> {
    /// use tower_klikit::inbox::{DeliveryState, Filter};
    ///
    /// // Somebody replays a captured delivery.
    /// let replays = Filter::new().states([DeliveryState::Ready]).body(captured);
    /// let stopped = inbox.dead_letter_matching(&replays, "a replay").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn dead_letter_matching(&self, filter: &Filter, reason: &str) -> Result<u64, StoreError> {
        let named = filter.states.as_deref().unwrap_or_default();
        let states: Vec<_> = named.iter().copied().filter(|state| state.is_unfinished()).collect();
        let filter = filter.clone().states(states.iter().copied());
        let mut pages = Pages::new(&self.admin, &filter);
        let mut dead_lettered = 0;
        while let Some(ids) = pages.next_ids().await? {
            dead_lettered += self.admin.dead_letter(&ids, &states, reason).await?;
        }
        // These deliveries may have blocked others.
        self.config.wake.notify_one();
        Ok(dead_lettered)
    }

    /// Forgets and deletes the deliveries that the filter selects, so that they are handled again when klikit replays
    /// them. Returns their number. After an error, some of them may be forgotten.
    ///
    /// Pending deliveries are forgotten only if the filter names [`Ready`](DeliveryState::Ready) or
    /// [`Leased`](DeliveryState::Leased): they are then **not handled** unless klikit sends them again, which it does
    /// only if somebody asks for the replay. A handler that is running goes on, and its outcome is not recorded.
    /// Deliveries that share an ordering key with it no longer wait for it.
    ///
    /// A filter cannot select deliveries that were handled and are not [kept](Self::keep_bodies).
    /// [`forget`](Self::forget) and [`forget_accepted`](Self::forget_accepted) forget those too.
    pub async fn forget_matching(&self, filter: &Filter) -> Result<u64, StoreError> {
        let finished = vec![DeliveryState::Dead, DeliveryState::Done];
        let states = filter.states.clone().unwrap_or(finished);
        let filter = filter.clone().states(states.iter().copied());
        let mut pages = Pages::new(&self.admin, &filter);
        let mut forgotten = 0;
        while let Some(ids) = pages.next_ids().await? {
            forgotten += self.admin.forget_deliveries(&ids, &states).await?;
        }
        self.config.wake.notify_one();
        Ok(forgotten)
    }

    /// Forgets and deletes a delivery that was handled or dead-lettered, so that it is handled again when klikit
    /// replays it. Request the replay after this call. Returns the number of forgotten deliveries, which is more than
    /// one if the id came with several bodies.
    ///
    /// A pending delivery stays.
    ///
    /// `tenant` is the name of the keyring, which is `default` unless set. Deliveries that are identified by their
    /// body, with [`Identity::Body`](crate::dedupe::Identity::Body) or without an id, are forgotten with
    /// [`forget_body`](Self::forget_body).
    pub async fn forget(&self, tenant: &str, event_id: &str) -> Result<u64, StoreError> {
        let key = self.config.policy.key_of_event(tenant, event_id);
        self.admin.forget_event(&key).await
    }

    /// Forgets a delivery that is identified by its body: see [`forget`](Self::forget).
    pub async fn forget_body(&self, tenant: &str, body: impl AsRef<[u8]>) -> Result<u64, StoreError> {
        let key = self.config.policy.key_of_body(tenant, body.as_ref());
        self.admin.forget_event(&key).await
    }

    /// Forgets all deliveries of all tenants that arrived within this window, by the store's clock, and were handled or
    /// dead-lettered: see [`forget`](Self::forget). Returns the number of forgotten deliveries.
    pub async fn forget_accepted(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        self.admin.forget_accepted(window).await
    }

    /// Deletes up to `limit` [kept](Self::keep_bodies) deliveries whose time to be kept is over. Returns their number.
    /// Workers do this automatically.
    pub async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        self.config.store.purge_done(limit).await
    }
}

/// An iteration over the pages of a filter.
struct Pages<'a> {
    admin: &'a SharedAdmin,
    filter: &'a Filter,
    size: u32,
    after: Option<DeliveryId>,
    is_over: bool,
}

impl<'a> Pages<'a> {
    fn new(admin: &'a SharedAdmin, filter: &'a Filter) -> Self {
        Self { admin, filter, size: PAGE, after: None, is_over: false }
    }

    async fn next(&mut self) -> Result<Option<Vec<Entry>>, StoreError> {
        if self.is_over {
            return Ok(None);
        }
        let page = self.admin.find(self.filter, self.after, self.size).await?;
        (self.after, self.is_over) = (page.next, page.next.is_none());
        Ok(Some(page.entries))
    }

    /// Returns the ids of the next page that has any.
    async fn next_ids(&mut self) -> Result<Option<Vec<DeliveryId>>, StoreError> {
        while let Some(entries) = self.next().await? {
            if !entries.is_empty() {
                return Ok(Some(entries.iter().map(|entry| entry.id).collect()));
            }
        }
        Ok(None)
    }
}

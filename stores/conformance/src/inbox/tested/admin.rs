//! Calls of [`InboxAdmin`].

use std::{ops::Range, time::SystemTime};

use tower_klikit::{
    dedupe::LedgerSelection,
    inbox::{DeliveryId, DeliveryState, Entry, Filter, InboxAdmin, LedgerRows, NewDelivery, ShowBody},
};

use super::TestedInbox;

impl<S: InboxAdmin, A> TestedInbox<'_, S, A> {
    pub(crate) async fn find(&self, id: DeliveryId) -> Option<Entry> {
        self.answer("show", self.store.show(id, ShowBody::Include).await)
    }

    /// Checks that a delivery has this state, this many attempts and the body of `of`.
    pub(crate) async fn show(
        &self,
        id: DeliveryId,
        of: &NewDelivery,
        state: DeliveryState,
        attempts: u32,
        why: &str,
    ) -> Entry {
        let entry = self.find(id).await;
        let Some(entry) = entry else { self.broken(&format!("show({id}) returned nothing: {why}")) };
        let has_body = entry.body.as_ref() == Some(of.body());
        self.holds(entry.id == id && has_body, &format!("show({id}) returned {:?} with another body: {why}", entry.id));
        self.same("show", &(entry.state, entry.attempts), &(state, attempts), why);
        entry
    }

    pub(crate) async fn show_nothing(&self, id: DeliveryId, why: &str) {
        let entry = self.find(id).await;
        self.holds(entry.is_none(), &format!("show({id}) returned a delivery that should be gone: {why}"));
    }

    /// Lists up to `limit` deliveries that the filter selects, and reads as many pages as that takes.
    pub(crate) async fn select(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Vec<Entry> {
        let (mut entries, mut after) = (Vec::new(), after);
        loop {
            let rest = limit - u32::try_from(entries.len()).unwrap_or(limit);
            let page = self.answer("find", self.store.find(filter, after, rest).await);
            let is_in_order = page.entries.is_sorted_by(|one, next| one.id < next.id)
                && page.entries.first().is_none_or(|first| Some(first.id) > after)
                && page
                    .next
                    .is_none_or(|next| Some(next) > after && page.entries.last().is_none_or(|last| last.id <= next));
            self.holds(is_in_order, &format!("find after {after:?} returned {page:?}, which is in another order"));
            self.holds(page.entries.len() <= rest as usize, &format!("find returned more than {rest}: {page:?}"));
            let is_short = page.entries.iter().all(|entry| entry.body.is_none() && entry.history.is_empty());
            self.holds(is_short, "find returned a body or records of attempts");
            entries.extend(page.entries);
            after = page.next;
            if after.is_none() || entries.len() == limit as usize {
                return entries;
            }
        }
    }

    pub(crate) async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Vec<Entry> {
        self.select(&Filter::new().states([DeliveryState::Dead]), after, limit).await
    }

    pub(crate) async fn dead_letter(&self, ids: &[DeliveryId], states: &[DeliveryState], expected: u64, why: &str) {
        let dead_lettered = self.answer("dead_letter", self.store.dead_letter(ids, states, "by hand").await);
        self.same("dead_letter", &dead_lettered, &expected, &format!("of {states:?}, {why}"));
    }

    /// Deletes deliveries and their ledger rows.
    pub(crate) async fn forget_these(&self, ids: &[DeliveryId], states: &[DeliveryState], expected: u64, why: &str) {
        self.delete(ids, states, LedgerRows::Delete, expected, why).await;
    }

    pub(crate) async fn delete(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
        ledger: LedgerRows,
        expected: u64,
        why: &str,
    ) {
        let deleted = self.answer("delete", self.store.delete(ids, states, ledger).await);
        self.same("delete", &deleted, &expected, &format!("of {states:?} with {ledger:?}, {why}"));
    }

    /// Requeues a dead delivery.
    pub(crate) async fn retry(&self, id: DeliveryId) {
        self.requeue(&[id], &[DeliveryState::Dead], 1, "the delivery is dead").await;
    }

    pub(crate) async fn cannot_retry(&self, id: DeliveryId, why: &str) {
        self.requeue(&[id], &[DeliveryState::Dead], 0, why).await;
    }

    pub(crate) async fn requeue(&self, ids: &[DeliveryId], states: &[DeliveryState], expected: u64, why: &str) {
        let requeued = self.answer("requeue", self.store.requeue(ids, states).await);
        self.same("requeue", &requeued, &expected, &format!("of {states:?}, {why}"));
    }

    pub(crate) async fn count_keys(&self, selection: impl Into<LedgerSelection>, expected: u64, why: &str) {
        let counted = self.answer("count_keys", self.store.count_keys(&selection.into()).await);
        self.same("count_keys", &counted, &expected, why);
    }

    pub(crate) async fn forget(&self, of: &NewDelivery, expected: u64, why: &str) {
        self.forget_keys(of.claim().event(), expected, why).await;
    }

    pub(crate) async fn forget_accepted(&self, window: Range<SystemTime>, expected: u64, why: &str) {
        self.forget_keys(window, expected, why).await;
    }

    async fn forget_keys(&self, selection: impl Into<LedgerSelection>, expected: u64, why: &str) {
        let forgotten = self.answer("forget_keys", self.store.forget_keys(&selection.into()).await);
        self.same("forget_keys", &forgotten, &expected, why);
    }
}

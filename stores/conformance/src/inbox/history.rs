//! Rules for keeping the history of a delivery after its body.

use std::time::Duration;

use tower_klikit::{
    dedupe::{BodyDigest, Ledger},
    inbox::{DeliveryId, DeliveryState, Filter, InboxAdmin, InboxStore, Lease, NewDelivery, Settlement},
};

use super::{
    delivery,
    tested::{ALL, HOUR, KEEP, MARGIN, RETENTION, TestedInbox},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    /// Accepts and handles a delivery, and keeps its body and its history for these times.
    async fn keep(&self, new: &NewDelivery, keep: Duration, history: Duration) -> Lease {
        let lease = self.begin(new).await;
        self.settle(&lease, Settlement::Done { keep, history, status: Some(200) }).await;
        lease
    }

    /// Checks that the delivery is DONE, has a record and has a body or not.
    async fn is_kept(&self, id: DeliveryId, body: Option<&NewDelivery>, why: &str) {
        let Some(entry) = self.find(id).await else { self.broken(&format!("show({id}) returned nothing: {why}")) };
        self.same("show", &(entry.state, entry.attempts), &(DeliveryState::Done, 1), why);
        self.same("show", &entry.body.as_ref(), &body.map(NewDelivery::body), why);
        self.same("show (has_body)", &entry.has_body, &body.is_some(), why);
        self.same("show (history)", &entry.history.len(), &1, why);
        let found = self.select(&Filter::new().states([DeliveryState::Done]), None, ALL).await;
        let found: Vec<_> = found.iter().map(|entry| (entry.id, entry.has_body)).collect();
        self.same("find (has_body)", &found, &vec![(id, body.is_some())], why);
    }

    async fn purges(&self, expected: u64, why: &str) {
        let purged = self.purge(ALL).await;
        self.same("purge_done", &purged, &expected, why);
    }

    pub(super) async fn history_is_kept_without_the_body(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.keep(&new, Duration::ZERO, KEEP).await;
        let why = "only the history is kept";
        self.is_kept(lease.id(), None, why).await;
        self.counts([0, 0, 0, 1], why).await;
        self.advance(KEEP - MARGIN).await;
        self.purges(0, why).await;
        self.is_kept(lease.id(), None, why).await;
        self.advance(2 * MARGIN).await;
        self.is_kept(lease.id(), None, "the delivery is over, but not purged").await;
        self.purges(1, "the history is over").await;
        self.show_nothing(lease.id(), "the history is over").await;
        self.purges(0, "all is purged").await;
    }

    pub(super) async fn body_is_purged_before_the_history(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.keep(&new, HOUR, KEEP).await;
        self.is_kept(lease.id(), Some(&new), "the body is kept for an hour").await;
        self.purges(0, "the body is kept for an hour").await;
        self.advance(HOUR + MARGIN).await;
        self.is_kept(lease.id(), Some(&new), "nothing is purged yet").await;
        self.same("purge_done", &self.purge(0).await, &0, "the limit is 0");
        self.purges(1, "the time of the body is over").await;
        self.is_kept(lease.id(), None, "the history is kept for longer").await;
        self.purges(0, "only the history is left").await;
        self.advance(KEEP - HOUR).await;
        self.purges(1, "the history is over").await;
        self.show_nothing(lease.id(), "the history is over").await;
    }

    pub(super) async fn body_may_outlast_the_history(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.keep(&new, KEEP, HOUR).await;
        self.advance(HOUR + MARGIN).await;
        self.purges(0, "the body is kept for longer").await;
        self.is_kept(lease.id(), Some(&new), "the delivery is kept for the longer of the two times").await;
        self.advance(KEEP - HOUR).await;
        self.purges(1, "both times are over").await;
        self.show_nothing(lease.id(), "both times are over").await;
    }

    pub(super) async fn overdue_history_is_purged_with_its_body(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.keep(&new, HOUR, 2 * HOUR).await;
        self.advance(2 * HOUR + MARGIN).await;
        self.purges(1, "both times are over").await;
        self.show_nothing(lease.id(), "both times are over").await;
    }

    pub(super) async fn evicts_deliveries_without_bodies(&self) {
        let [first, second] = ["first", "second"].map(|id| delivery("warung", id, "body"));
        let first_lease = self.keep(&first, Duration::ZERO, HOUR).await;
        let second_lease = self.keep(&second, Duration::ZERO, KEEP).await;
        self.evict(1, 1, "two are done").await;
        self.show_nothing(first_lease.id(), "its time ends first").await;
        self.is_kept(second_lease.id(), None, "its time ends last").await;
        self.evict(ALL, 1, "one is done").await;
        self.counts([0, 0, 0, 0], "both were evicted").await;
    }

    pub(super) async fn delivery_without_body_is_known(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.keep(&new, Duration::ZERO, 2 * RETENTION).await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery was handled").await;
        let other = delivery("warung", "evt", "other body");
        self.is_known_with(&other, &BodyDigest::of(b"body"), None, "the body is not stored any more").await;
        let every_state = [DeliveryState::Ready, DeliveryState::Leased, DeliveryState::Dead, DeliveryState::Done];
        self.requeue(&[lease.id()], &every_state, 0, "the delivery has no body").await;
        self.is_kept(lease.id(), None, "a delivery without a body is not requeued").await;
        self.advance(RETENTION + MARGIN).await;
        self.accept_again(&delivery("warung", "evt", "body"), "the retention is over").await;
        self.show_nothing(lease.id(), "the delivery was replaced").await;
    }
}

//! Rules for the stored body that `accept` returns for a known key with another body.

use std::time::Duration;

use tower_klikit::{
    dedupe::{BodyDigest, Ledger},
    inbox::{InboxAdmin, InboxStore, NewDelivery},
};

use super::{
    conflict, delivery,
    tested::{ALL, HOUR, KEEP, LEASE, MARGIN, TestedInbox, dead_letter, done, reschedule},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn known_delivery_returns_its_body(&self) {
        let copies = || {
            let unlike = BodyDigest::of(b"a third body");
            [delivery("warung", "evt", "other body"), delivery("warung", "evt", "other body").with_same_json_as(unlike)]
        };
        let stored = delivery("warung", "evt", "body");
        self.in_each_state(&stored, copies, async |copy, state| {
            let why = format!("the stored delivery is {state}, and has another body");
            self.is_known_with(copy, stored.claim().digest(), Some(&stored), &why).await;
        })
        .await;
        let neighbor = conflict("warung", "evt", "other body");
        self.accept(&neighbor).await;
        let copy = conflict("warung", "evt", "other body");
        self.is_known_with(&copy, neighbor.claim().digest(), None, "the delivery under this key has the same body")
            .await;
    }

    pub(super) async fn matching_delivery_returns_no_body(&self) {
        let stored = delivery("warung", "evt", "body");
        let copies = || {
            [
                delivery("warung", "evt", "body"),
                delivery("warung", "evt", "other body").with_any_body(),
                delivery("warung", "evt", "other body").with_same_json_as(*stored.claim().digest()),
            ]
        };
        self.in_each_state(&stored, copies, async |copy, state| {
            if state != "dead" {
                let why = format!("the stored delivery is {state}, and matches the copy");
                self.is_known_with(copy, stored.claim().digest(), None, &why).await;
            }
        })
        .await;
    }

    pub(super) async fn deleted_delivery_returns_no_body(&self) {
        let [gone, purged, kept] = ["gone", "purged", "kept"].map(|id| delivery("warung", id, "body"));
        self.handle(&gone, Duration::ZERO).await;
        self.handle(&purged, LEASE).await;
        self.advance(LEASE + MARGIN).await;
        self.same("purge_done", &self.purge(ALL).await, &1, "the time of one kept delivery is over");
        for new in [&gone, &purged] {
            let id = if new.claim().key() == gone.claim().key() { "gone" } else { "purged" };
            let copy = delivery("warung", id, "other body");
            self.is_known_with(&copy, new.claim().digest(), None, "only the ledger knows the key").await;
        }

        self.handle(&kept, KEEP).await;
        self.forget_in_ledger(&kept).await;
        let handled = delivery("warung", "kept", "other body");
        self.claim(handled.claim(), "the ledger was told to forget the event").await;
        self.complete(handled.claim(), "the token holds the entry").await;
        for body in ["body", "other body", "a third body"] {
            let copy = delivery("warung", "kept", body);
            let why = "the ledger's entry has another body than the kept delivery";
            self.is_known_with(&copy, handled.claim().digest(), None, why).await;
        }
    }

    /// Moves a delivery through all states, and passes copies to `accept` in each state.
    async fn in_each_state<const N: usize>(
        &self,
        stored: &NewDelivery,
        copies: impl Fn() -> [NewDelivery; N],
        accept: impl AsyncFn(&NewDelivery, &str),
    ) {
        let accept_copies = async |state| {
            for copy in copies() {
                accept(&copy, state).await;
            }
        };
        self.accept(stored).await;
        accept_copies("ready").await;
        let lease = self.lease_one(stored, "the delivery was accepted").await;
        accept_copies("leased").await;
        self.advance(LEASE + MARGIN).await;
        accept_copies("leased, with an expired lease").await;
        self.settle(&lease, reschedule(HOUR)).await;
        accept_copies("ready, but not due").await;
        self.advance(HOUR + MARGIN).await;
        let lease = self.lease_one(stored, "the delivery is due").await;
        self.settle(&lease, dead_letter()).await;
        accept_copies("dead").await;
        self.retry(lease.id()).await;
        let lease = self.lease_one(stored, "the delivery was retried").await;
        self.settle(&lease, done(KEEP)).await;
        accept_copies("kept").await;
    }
}

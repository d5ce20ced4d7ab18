//! Rules for requeueing and deleting deliveries by hand.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryId, DeliveryState, InboxAdmin, InboxStore, LedgerRows, SettleOutcome},
};

use super::{
    delivery,
    find::{DEAD, DONE, EVERY_STATE, LEASED, READY},
    tested::{KEEP, LEASE, MARGIN, SECOND, TestedInbox, dead_letter, done, reschedule},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn requeues_only_the_states_named(&self) {
        let ids = self.one_in_each_state().await.map(|lease| lease.id());
        self.requeue(&ids, &[], 0, "no state is named").await;
        self.requeue(&[], &EVERY_STATE, 0, "no delivery is named").await;
        self.requeue(&[DeliveryId::new(i64::MAX)], &EVERY_STATE, 0, "no delivery has this id").await;
        self.requeue(&ids, &[READY, LEASED], 0, "these are not requeued in any case").await;
        self.counts([1, 1, 1, 1], "nothing was requeued").await;
        let [ready, leased, dead, kept] = ["ready", "leased", "dead", "done"].map(|id| delivery("warung", id, id));
        self.requeue(&ids, &[DONE], 1, "one is done").await;
        self.counts([2, 1, 1, 0], "one was requeued").await;
        self.advance(SECOND).await;
        self.requeue(&[ids[2], ids[3], ids[2]], &EVERY_STATE, 1, "one is dead, and its id is named twice").await;
        self.requeue(&ids, &EVERY_STATE, 0, "the others are pending").await;
        self.counts([3, 1, 0, 0], "two were requeued").await;
        self.show(ids[0], &ready, READY, 1, "a ready delivery is not requeued").await;
        self.show(ids[1], &leased, LEASED, 1, "a leased delivery is not requeued").await;
        self.show(ids[2], &dead, READY, 0, "a requeued delivery has no attempts").await;
        self.show(ids[3], &kept, READY, 0, "a requeued delivery has no attempts").await;
        self.lease([&kept, &dead], "both are due since they were requeued").await;
    }

    pub(super) async fn requeues_many_at_once(&self) {
        let mut ids = Vec::new();
        for n in 0..5 {
            ids.push(self.make_dead(&delivery("warung", &n.to_string(), "body")).await.id());
        }
        self.requeue(&ids, &[DEAD, DONE], 5, "all are dead").await;
        self.counts([5, 0, 0, 0], "all were requeued").await;
    }

    pub(super) async fn requeued_delivery_keeps_the_rest(&self) {
        let [first, second] = ["first", "second"].map(|id| delivery("warung", id, "body").with_ordering_keys(&["a"]));
        let lease = self.handle(&first, KEEP).await;
        let failed_lease = self.make_dead(&delivery("warung", "failed", "body")).await;
        self.accept(&second).await;
        self.requeue(&[lease.id()], &[DONE], 1, "it is done").await;
        let next = self.lease_one(&first, "the first has its old place in the queue, and blocks the second").await;
        self.holds(next.token() > lease.token(), "lease returned an old token");
        self.same("lease", &next.attempt(), &1, "a requeued delivery has no attempts");
        self.is_known(&delivery("warung", "first", "other body"), &first, "the ledger row stays").await;
        self.settles(&lease, dead_letter(), SettleOutcome::Superseded, "the delivery was leased again").await;
        self.settle(&next, done(Duration::ZERO)).await;
        self.show_nothing(lease.id(), "the delivery was handled again").await;
        let lease = self.lease_one(&second, "the first was handled").await;
        self.extend(&lease, KEEP, "the lease is current").await;

        self.retry(failed_lease.id()).await;
        let entry = self.find(failed_lease.id()).await;
        let reason = entry.and_then(|entry| entry.reason);
        self.same("show", &reason.as_deref(), &Some("dead-lettered"), "the reason of the last failure stays");
    }

    pub(super) async fn deleted_delivery_stays_known(&self) {
        let ids = self.one_in_each_state().await.map(|lease| lease.id());
        for (n, state) in EVERY_STATE.into_iter().enumerate() {
            let others: Vec<_> = EVERY_STATE.into_iter().filter(|other| *other != state).collect();
            self.delete(&ids[n..=n], &others, LedgerRows::Keep, 0, &format!("the delivery is {state}")).await;
        }
        self.counts([1, 1, 1, 1], "nothing was deleted").await;
        self.delete(&[ids[0], ids[0], ids[2]], &EVERY_STATE, LedgerRows::Keep, 2, "one id is named twice").await;
        self.delete(&ids, &EVERY_STATE, LedgerRows::Keep, 2, "the others were deleted before").await;
        self.counts([0, 0, 0, 0], "all were deleted").await;
        for (id, state) in ids.into_iter().zip(EVERY_STATE.map(DeliveryState::as_str)) {
            self.show_nothing(id, "the delivery was deleted").await;
            let known = delivery("warung", state, state);
            self.is_known(&delivery("warung", state, state), &known, "the ledger row stays").await;
        }
        self.advance(LEASE + MARGIN).await;
        self.lease_nothing("all were deleted").await;
    }

    pub(super) async fn deleted_delivery_frees_its_queue(&self) {
        for ledger in [LedgerRows::Keep, LedgerRows::Delete] {
            let [first, second] = ["first", "second"]
                .map(|id| delivery("warung", &format!("{id} {ledger:?}"), "body").with_ordering_keys(&["a"]));
            self.accept_all([&first, &second]).await;
            let lease = self.lease_one(&first, "the first blocks the second").await;
            self.delete(&[lease.id()], &[LEASED], ledger, 1, "it is leased").await;
            self.settles(&lease, reschedule(KEEP), SettleOutcome::Gone, "the delivery was deleted").await;
            self.cannot_extend(&lease, "the delivery was deleted").await;
            self.cannot_start(&lease, "the delivery was deleted").await;
            let lease = self.lease_one(&second, "the first was deleted").await;
            self.settle(&lease, done(Duration::ZERO)).await;
        }
    }
}

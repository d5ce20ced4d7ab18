//! Rules for deliveries that share an ordering key.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{InboxAdmin, InboxStore, Lease, LeaseRequest, NewDelivery, Settlement},
};

use super::{
    delivery,
    tested::{HOUR, LEASE, MARGIN, REQUEST, TestedInbox, dead_letter, done, reschedule, reschedule_unordered},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn head_of_the_queue_blocks_the_others(&self) {
        let [first, second, third] = [keyed("first", &["a"]), keyed("second", &["a"]), keyed("third", &["a"])];
        let [other, free] = [keyed("other", &["b"]), keyed("free", &[])];
        self.accept_all([&first, &second, &other, &third, &free]).await;
        let leases =
            self.lease([&first, &other, &free], "one delivery of each key, and the delivery without a key").await;
        self.lease_nothing("the heads of the queues are leased").await;
        self.finish(&leases[1]).await;
        self.lease_nothing("the head of this queue is leased; only the head of the other is handled").await;
        self.finish(&leases[0]).await;
        let lease = self.lease_one(&second, "the delivery before it is handled").await;
        self.lease_nothing("the delivery before it is leased").await;
        self.finish(&lease).await;
        self.lease_one(&third, "the delivery before it is handled").await;
        self.accept(&keyed("fourth", &["a"])).await;
        self.lease_nothing("the delivery before it is leased").await;
    }

    pub(super) async fn unordered_reschedule_stops_blocking(&self) {
        let [first, second, third] =
            [keyed("first", &["a", "b"]), keyed("second", &["a"]), keyed("third", &["a", "b"])];
        self.accept_all([&first, &second, &third]).await;
        let lease = self.lease_one(&first, "the delivery is the first of its keys").await;
        self.settle(&lease, reschedule_unordered(HOUR)).await;
        let lease = self.lease_one(&second, "the delivery before it has lost its order").await;
        self.lease_nothing("the delivery before it is leased").await;
        self.finish(&lease).await;
        let lease = self.lease_one(&third, "the first delivery has lost its order").await;
        self.advance(HOUR + MARGIN).await;
        let batch = self.try_lease(&LeaseRequest { held: &[lease], ..REQUEST }).await;
        let [first_lease] = self.are(&batch.leased, [&first], "an unordered delivery is not blocked");
        self.holds(batch.leased[0].ordering_keys().is_empty(), "the delivery was leased with ordering keys");
        self.settle(&first_lease, reschedule(Duration::ZERO)).await;
        self.lease_one(&first, "an unordered delivery is not blocked").await;
    }

    pub(super) async fn late_unordered_reschedule_stops_blocking(&self) {
        let [first, second] = [keyed("first", &["a"]), keyed("second", &["a"])];
        self.accept_all([&first, &second]).await;
        let lease = self.lease_one(&first, "the delivery is the first of its key").await;
        self.advance(LEASE + MARGIN).await;
        let batch = self.try_lease(&LeaseRequest { max_attempts: 1, limit: 1, ..REQUEST }).await;
        self.same("lease", &batch.dead_lettered.len(), &1, "the lease has expired on the last attempt");
        for leased in &batch.leased {
            self.settle(leased.lease(), Settlement::Release).await;
        }
        self.settle(&lease, reschedule_unordered(HOUR)).await;
        self.lease_one(&second, "the delivery before it has lost its order").await;
    }

    pub(super) async fn rescheduled_head_blocks_its_key(&self) {
        let [first, second, free] = [keyed("first", &["a"]), keyed("second", &["a"]), keyed("free", &["b"])];
        self.accept_all([&first, &second]).await;
        let lease = self.lease_one(&first, "the delivery is the first of its key").await;
        self.settle(&lease, reschedule(HOUR)).await;
        self.accept(&free).await;
        self.lease_one(&free, "no delivery before it has its key").await;
        self.lease_nothing("the delivery before it is ready, although it is not due").await;
        self.advance(HOUR + MARGIN).await;
        // The second has been due for longer than the first, and must still wait.
        let batch = self.try_lease(&LeaseRequest { max_attempts: 1, ..REQUEST }).await;
        let [lease] = self.are(&batch.leased, [&first], "the delivery is the first of its key");
        self.settle(&lease, Settlement::Release).await;
        let lease = self.lease_one(&first, "the delivery was released, and is still the first of its key").await;
        self.finish(&lease).await;
        self.lease_one(&second, "the delivery before it is handled").await;
    }

    pub(super) async fn expired_head_blocks_its_key(&self) {
        let [first, second] = [keyed("first", &["a"]), keyed("second", &["a"])];
        self.accept_all([&first, &second]).await;
        self.lease_one(&first, "the delivery is the first of its key").await;
        self.advance(LEASE + MARGIN).await;
        let lease = self.lease_one(&first, "the lease has expired, and the delivery is the first of its key").await;
        self.lease_nothing("the delivery before it is leased").await;
        self.finish(&lease).await;
        self.lease_one(&second, "the delivery before it is handled").await;
    }

    pub(super) async fn each_ordering_key_blocks(&self) {
        let [first, second] = [keyed("first", &["a"]), keyed("second", &["b"])];
        let [both, third, fourth] = [keyed("both", &["b", "a", "c"]), keyed("third", &["b"]), keyed("fourth", &["c"])];
        self.accept_all([&first, &second, &both, &third, &fourth]).await;
        let leases = self.lease([&first, &second], "no earlier delivery has their keys").await;
        self.finish(&leases[0]).await;
        self.lease_nothing("an earlier delivery has one of its keys, and it blocks the later ones").await;
        self.finish(&leases[1]).await;
        let lease = self.lease_one(&both, "both before it are handled").await;
        self.lease_nothing("the delivery before them is leased").await;
        self.finish(&lease).await;
        self.lease([&third, &fourth], "the delivery before them is handled").await;
    }

    pub(super) async fn dead_delivery_does_not_block(&self) {
        let [first, second, third] = [keyed("first", &["a"]), keyed("second", &["a"]), keyed("third", &["a"])];
        self.accept_all([&first, &second, &third]).await;
        let lease = self.lease_one(&first, "the delivery is the first of its key").await;
        self.settle(&lease, dead_letter()).await;
        self.lease_one(&second, "the delivery before it is dead").await;
        self.lease_nothing("the delivery before it is leased").await;
        self.advance(LEASE + MARGIN).await;
        // Leasing the delivery that a dead letter unblocks may take another call.
        let last = LeaseRequest { max_attempts: 1, ..REQUEST };
        let mut leased = self.try_lease(&last).await.leased;
        leased.extend(self.try_lease(&last).await.leased);
        self.are(&leased, [&third], "the lease of the delivery before it has expired on its last attempt");
        self.counts([0, 1, 2, 0], "the lease of one delivery has expired on its last attempt").await;
    }

    pub(super) async fn retried_delivery_keeps_its_place_in_the_queue(&self) {
        let [first, second, third] = [keyed("first", &["a"]), keyed("second", &["a"]), keyed("third", &["a"])];
        self.accept_all([&first, &second, &third]).await;
        let dead = self.lease_one(&first, "the delivery is the first of its key").await;
        self.settle(&dead, dead_letter()).await;
        let lease = self.lease_one(&second, "the delivery before it is dead").await;
        self.finish(&lease).await;
        self.retry(dead.id()).await;
        let lease = self.lease_one(&first, "the delivery is before the third again").await;
        self.finish(&lease).await;
        self.lease_one(&third, "the delivery before it is handled").await;
    }

    pub(super) async fn revived_delivery_takes_its_new_keys(&self) {
        let first = keyed("first", &["a", "old"]);
        let dead = self.make_dead(&first).await;
        let behind = ["a", "old", "new"].map(|key| keyed(key, &[key]));
        self.accept_all(behind.each_ref()).await;
        self.revive(&keyed("first", &["a", "new"])).await;
        let [old, lease] = self
            .lease([&behind[1], &first], "the delivery has its old place in the queue, and only the new keys")
            .await;
        self.same("lease", &lease.id(), &dead.id(), "the delivery has its old id");
        self.lease_nothing("the delivery before them is leased").await;
        self.finish(&lease).await;
        self.lease([&behind[0], &behind[2]], "the delivery before them is handled").await;
        self.finish(&old).await;
    }

    pub(super) async fn leased_delivery_blocks_a_retried_one(&self) {
        let [first, second, third] = [keyed("first", &["a", "b"]), keyed("second", &["b"]), keyed("third", &["b"])];
        let free = keyed("free", &["c"]);
        self.accept_all([&first, &second]).await;
        let dead = self.lease_one(&first, "the delivery is the first of its keys").await;
        self.settle(&dead, dead_letter()).await;
        let behind = self.lease_one(&second, "the delivery before it is dead").await;
        self.retry(dead.id()).await;
        self.accept(&free).await;
        let neighbor = self.lease_one(&free, "only this ready delivery shares no key with a leased one").await;
        self.finish(&neighbor).await;
        let why = "the later delivery was leased while this one was dead, and still is";
        for _ in 0..2 {
            self.advance(LEASE - MARGIN).await;
            self.extend(&behind, LEASE, "the lease is current").await;
            self.lease_nothing(why).await;
        }
        self.finish(&behind).await;
        let again = self.lease_one(&first, "the delivery behind it is handled").await;

        self.settle(&again, dead_letter()).await;
        let behind = self.begin(&third).await;
        self.retry(dead.id()).await;
        self.lease_nothing(why).await;
        self.advance(LEASE + MARGIN).await;
        let again = self.lease_one(&first, "the lease of the delivery behind it has expired").await;
        self.lease_nothing("the delivery before it is leased").await;
        self.settle(&behind, done(Duration::ZERO)).await;
        self.finish(&again).await;
    }

    pub(super) async fn leased_delivery_blocks_a_revived_one(&self) {
        let [old, new] = [keyed("old", &["old"]), keyed("new", &["new"])];
        self.make_dead(&keyed("first", &["old"])).await;
        self.accept_all([&old, &new]).await;
        let leases = self.lease([&old, &new], "the delivery before them is dead").await;
        let first = keyed("first", &["new"]);
        self.revive(&first).await;
        self.lease_nothing("the delivery behind it was leased while it was dead").await;
        self.finish(&leases[1]).await;
        let lease = self.lease_one(&first, "one later delivery is handled, and the other has only an old key").await;
        self.finish(&lease).await;
        self.finish(&leases[0]).await;
    }

    async fn finish(&self, lease: &Lease) {
        self.settle(lease, done(Duration::ZERO)).await;
    }
}

fn keyed(id: &str, keys: &[&str]) -> NewDelivery {
    delivery("warung", id, "body").with_ordering_keys(keys)
}

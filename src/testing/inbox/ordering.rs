//! Rules for what is leased one after the other.

use std::time::Duration;

use super::{
    delivery,
    subject::{ALL, HOUR, LEASE, MARGIN, Subject},
};
use crate::{
    dedupe::Ledger,
    inbox::{InboxStore, Lease, NewDelivery},
};

impl<S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Subject<'_, S, A> {
    pub(super) async fn a_head_holds_those_behind_it(&self) {
        let [first, second, third] = [keyed("first", &["a"]), keyed("second", &["a"]), keyed("third", &["a"])];
        let [other, free] = [keyed("other", &["b"]), keyed("free", &[])];
        self.accept_all([&first, &second, &other, &third, &free]).await;
        let leases = self.lease([&first, &other, &free], "one of each key, and what has no key").await;
        self.lease_nothing("the heads are leased").await;
        self.end(&leases[1]).await;
        self.lease_nothing("the head of this key is leased, and that of another is finished").await;
        self.end(&leases[0]).await;
        let lease = self.lease_one(&second, "the one before it is finished").await;
        self.lease_nothing("the one before it is leased").await;
        self.end(&lease).await;
        self.lease_one(&third, "the one before it is finished").await;
        let fourth = keyed("fourth", &["a"]);
        self.accept(&fourth, "its key is not known").await;
        self.lease_nothing("the one before it is leased").await;
    }

    pub(super) async fn a_head_that_is_postponed_holds_its_key(&self) {
        let [first, second, free] = [keyed("first", &["a"]), keyed("second", &["a"]), keyed("free", &["b"])];
        self.accept_all([&first, &second]).await;
        let lease = self.lease_one(&first, "it is the first of its key").await;
        self.postpone(&lease, HOUR, true, "its lease is held").await;
        self.accept(&free, "its key is not known").await;
        self.lease_one(&free, "nobody before it has its key").await;
        self.lease_nothing("the one before it waits, if it is not due").await;
        self.pass(HOUR + MARGIN).await;
        let leased = self.try_lease(ALL, 1).await;
        let [lease] = self.leased(&leased, [&first], "it is the first of its key, if it is due for less long");
        self.give_back(&lease, true, "its lease is held").await;
        let lease = self.lease_one(&first, "it was given back, and is still the first of its key").await;
        self.end(&lease).await;
        self.lease_one(&second, "the one before it is finished").await;
    }

    pub(super) async fn a_head_whose_lease_ran_out_holds_its_key(&self) {
        let [first, second] = [keyed("first", &["a"]), keyed("second", &["a"])];
        self.accept_all([&first, &second]).await;
        self.lease_one(&first, "it is the first of its key").await;
        self.pass(LEASE + MARGIN).await;
        let lease = self.lease_one(&first, "its lease has run out, and it is the first of its key").await;
        self.lease_nothing("the one before it is leased").await;
        self.end(&lease).await;
        self.lease_one(&second, "the one before it is finished").await;
    }

    pub(super) async fn a_delivery_waits_for_each_of_its_keys(&self) {
        let [first, second] = [keyed("first", &["a"]), keyed("second", &["b"])];
        let [both, third, fourth] = [keyed("both", &["b", "a", "c"]), keyed("third", &["b"]), keyed("fourth", &["c"])];
        self.accept_all([&first, &second, &both, &third, &fourth]).await;
        let leases = self.lease([&first, &second], "nobody before them has their keys").await;
        self.end(&leases[0]).await;
        self.lease_nothing("one before it has another of its keys, and those behind it wait for it").await;
        self.end(&leases[1]).await;
        let lease = self.lease_one(&both, "both before it are finished").await;
        self.lease_nothing("the one before them is leased").await;
        self.end(&lease).await;
        self.lease([&third, &fourth], "the one before them is finished").await;
    }

    pub(super) async fn the_dead_hold_nobody(&self) {
        let [first, second, third] = [keyed("first", &["a"]), keyed("second", &["a"]), keyed("third", &["a"])];
        self.accept_all([&first, &second, &third]).await;
        let lease = self.lease_one(&first, "it is the first of its key").await;
        self.bury(&lease, true, "its lease is held").await;
        self.lease_one(&second, "the one before it is dead").await;
        self.lease_nothing("the one before it is leased").await;
        self.pass(LEASE + MARGIN).await;
        // Burying may take a call of its own.
        let mut leased = self.try_lease(ALL, 1).await;
        leased.extend(self.try_lease(ALL, 1).await);
        self.leased(&leased, [&third], "the lease of the one before it ran out after its last attempt");
        self.counts([0, 1, 2, 0], "the lease of one ran out after its last attempt").await;
    }

    pub(super) async fn a_retried_delivery_takes_its_old_place(&self) {
        let [first, second, third] = [keyed("first", &["a"]), keyed("second", &["a"]), keyed("third", &["a"])];
        self.accept_all([&first, &second, &third]).await;
        let dead = self.lease_one(&first, "it is the first of its key").await;
        self.bury(&dead, true, "its lease is held").await;
        let lease = self.lease_one(&second, "the one before it is dead").await;
        self.end(&lease).await;
        self.retry(dead.id(), true, "it is dead").await;
        let lease = self.lease_one(&first, "it is before the third again").await;
        self.end(&lease).await;
        self.lease_one(&third, "the one before it is finished").await;
    }

    pub(super) async fn a_revived_delivery_takes_its_old_place_and_its_new_keys(&self) {
        let first = keyed("first", &["a", "old"]);
        let dead = self.give_up(&first).await;
        let behind = ["a", "old", "new"].map(|key| keyed(key, &[key]));
        self.accept_all(behind.each_ref()).await;
        self.revive(&keyed("first", &["a", "new"]), "it was dead").await;
        let [old, lease] = self.lease([&behind[1], &first], "it has its old place, and only the new keys").await;
        self.same("lease", &lease.id(), &dead.id(), "it has its old id");
        self.lease_nothing("the one before them is leased").await;
        self.end(&lease).await;
        self.lease([&behind[0], &behind[2]], "the one before them is finished").await;
        self.end(&old).await;
    }

    async fn accept_all<const N: usize>(&self, all: [&NewDelivery; N]) {
        for new in all {
            self.accept(new, "its key is not known").await;
            self.pass(Duration::from_secs(1)).await;
        }
    }

    async fn end(&self, lease: &Lease) {
        self.finish(lease, Duration::ZERO, true, "its lease is held").await;
    }
}

fn keyed(id: &str, keys: &[&str]) -> NewDelivery {
    delivery("warung", id, "body").with_ordering_keys(keys)
}

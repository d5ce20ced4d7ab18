//! Rules for who holds a lease, and who does not any more.

use std::time::Duration;

use super::{
    delivery,
    subject::{KEEP, LEASE, MARGIN, Subject},
};
use crate::{
    dedupe::Ledger,
    inbox::{DeliveryId, DeliveryState, InboxStore, Lease, NewDelivery},
};

impl<S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Subject<'_, S, A> {
    pub(super) async fn a_lease_that_ran_out_is_held_until_another_takes_it(&self) {
        let all =
            ["extended", "finished", "postponed", "buried", "given back"].map(|id| delivery("warung", id, "body"));
        for new in &all {
            self.accept(new, "its key is not known").await;
            self.pass(Duration::from_secs(1)).await;
        }
        let [extended, finished, postponed, buried, given_back] =
            self.lease(all.each_ref(), "they were accepted in this order").await;
        self.pass(LEASE + MARGIN).await;
        self.counts([0, 5, 0, 0], "nobody else has taken them").await;
        let why = "its lease has run out, and nobody else has taken it";
        self.extend(&extended, LEASE, true, why).await;
        self.finish(&finished, KEEP, true, why).await;
        self.postpone(&postponed, LEASE, true, why).await;
        self.bury(&buried, true, why).await;
        self.give_back(&given_back, true, why).await;
        self.counts([2, 1, 1, 1], "each has ended in its own way").await;
        let lease = self.lease_one(&all[4], "only this was given back").await;
        self.same("lease", &lease.attempt(), &1, "it was given back, and so was no attempt");
        self.show(extended.id(), &all[0], DeliveryState::Leased, 1, "it was extended").await;
    }

    pub(super) async fn who_lost_a_lease_changes_nothing(&self) {
        let id = ["postponed", "given back", "buried", "kept", "finished", "taken", "again", "retried", "revived"];
        let all = id.map(|id| delivery("warung", id, "body"));
        let mut leases = Vec::new();
        for new in &all {
            let lease = self.take_up(new).await;
            self.extend(&lease, KEEP, true, "its lease is held").await;
            leases.push(lease);
        }
        let held = "its lease is held";
        self.postpone(&leases[0], 2 * KEEP, true, held).await;
        self.give_back(&leases[1], true, held).await;
        self.bury(&leases[2], true, held).await;
        self.finish(&leases[3], 3 * KEEP, true, held).await;
        self.finish(&leases[4], Duration::ZERO, true, held).await;
        for (lease, new) in leases.iter().zip(&all).take(5) {
            self.is_lost(lease, new).await;
        }

        let [taken, again, retried, revived] = [&all[5], &all[6], &all[7], &all[8]];
        let beside = self.lease_one(&all[1], "it was given back").await;
        self.extend(&beside, KEEP, true, held).await;
        self.extend(&leases[5], LEASE / 2, true, held).await;
        self.pass(LEASE).await;
        let mut next = vec![self.lease_one(taken, "its lease has run out").await];
        self.give_back(&leases[6], true, held).await;
        next.push(self.lease_one(again, "it was given back").await);
        self.bury(&leases[7], true, held).await;
        self.retry(leases[7].id(), true, "it is dead").await;
        next.push(self.lease_one(retried, "it was retried").await);
        self.bury(&leases[8], true, held).await;
        self.revive(&delivery("warung", "revived", "body"), "it is dead").await;
        next.push(self.lease_one(revived, "it was revived").await);
        for (lease, new) in leases[5..].iter().zip([taken, again, retried, revived]) {
            self.is_lost(lease, new).await;
        }
        for lease in next {
            self.extend(&lease, LEASE, true, "who lost the lease before has changed nothing").await;
            self.finish(&lease, Duration::ZERO, true, "who lost the lease before has changed nothing").await;
        }
    }

    pub(super) async fn only_its_own_token_holds_a_lease(&self) {
        let new = delivery("warung", "evt", "body");
        let beside = self.take_up(&delivery("warung", "beside", "body")).await;
        let lease = self.take_up(&new).await;
        let foreign = [
            Lease::new(lease.id(), lease.token() + 1, 1),
            Lease::new(lease.id(), lease.token() - 1, 1),
            Lease::new(lease.id(), i64::MIN, 1),
        ];
        for foreign in foreign {
            self.is_lost(&foreign, &new).await;
        }
        self.bury(&beside, true, "its lease is held").await;
        self.extend(&lease, LEASE, true, "its lease is held").await;
        let nobody = Lease::new(DeliveryId::new(lease.id().get() + 1), lease.token(), 1);
        self.is_lost(&nobody, &new).await;
        self.finish(&lease, Duration::ZERO, true, "its lease is held").await;
    }

    /// That a lease is of no use, and that using it changes nothing.
    async fn is_lost(&self, lease: &Lease, new: &NewDelivery) {
        let look = async || {
            let entry = self.shown(lease.id()).await;
            let entry = entry.map(|entry| (entry.state, entry.attempts, entry.reason, entry.body));
            (entry, self.answer("counts", self.store.counts().await))
        };
        let (before, mut counts) = look().await;
        let why = format!("the lease is not held any more; its delivery was {}", new.head());
        self.extend(lease, 2 * LEASE, false, &why).await;
        self.finish(lease, Duration::ZERO, false, &why).await;
        self.finish(lease, KEEP, false, &why).await;
        self.postpone(lease, Duration::ZERO, false, &why).await;
        self.bury(lease, false, &why).await;
        self.give_back(lease, false, &why).await;
        let (after, counts_after) = look().await;
        counts.oldest = counts_after.oldest;
        self.holds(
            before == after && counts == counts_after,
            &format!("{before:?} became {after:?}, and {counts:?} {counts_after:?}: {why}"),
        );
    }
}

//! Rules for leases that another lease has replaced.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxAdmin, InboxStore, Lease, NewDelivery, SettleOutcome, Settlement},
};

use super::{
    delivery,
    tested::{KEEP, LEASE, MARGIN, TestedInbox, dead_letter, done, reschedule},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn lost_lease_changes_nothing(&self) {
        let all = ["expired", "released", "failed", "retried", "revived"].map(|id| delivery("warung", id, "body"));
        let mut leases = Vec::new();
        for new in &all {
            let lease = self.begin(new).await;
            self.extend(&lease, KEEP, "the lease is current").await;
            leases.push(lease);
        }
        let mut next = Vec::new();
        self.extend(&leases[0], LEASE / 2, "the lease is current").await;
        self.advance(LEASE).await;
        next.push(self.lease_one(&all[0], "the lease has expired").await);
        self.settle(&leases[1], Settlement::Release).await;
        next.push(self.lease_one(&all[1], "the lease was released").await);
        self.settle(&leases[2], reschedule(Duration::ZERO)).await;
        next.push(self.lease_one(&all[2], "the delivery was rescheduled without a delay").await);
        self.settle(&leases[3], dead_letter()).await;
        self.retry(leases[3].id()).await;
        next.push(self.lease_one(&all[3], "the delivery was retried").await);
        self.settle(&leases[4], dead_letter()).await;
        self.revive(&delivery("warung", "revived", "body")).await;
        next.push(self.lease_one(&all[4], "the delivery was revived").await);
        for (lease, new) in leases.iter().zip(&all) {
            self.is_lost(lease, new).await;
        }
        for lease in &next {
            self.extend(lease, LEASE, "the lost lease has changed nothing").await;
        }
        let [dead, failed, kept, expired, released] = next[..] else { unreachable!("five were leased") };
        self.settle(&dead, dead_letter()).await;
        self.settle(&failed, reschedule(KEEP)).await;
        self.settle(&kept, done(KEEP)).await;
        self.settle(&released, Settlement::Release).await;
        self.advance(LEASE + MARGIN).await;
        for (lease, new) in leases.iter().zip(&all) {
            self.is_lost(lease, new).await;
        }
        self.extend(&expired, LEASE, "the lost lease has changed nothing").await;
    }

    pub(super) async fn foreign_token_changes_nothing(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.begin(&new).await;
        let foreign = [lease.token() + 1, lease.token() - 1, i64::MIN, i64::MAX];
        let foreign = foreign.map(|token| Lease::new(lease.id(), token, lease.attempt()));
        for foreign in &foreign {
            self.is_lost(foreign, &new).await;
        }
        self.extend(&lease, LEASE, "the lease is current").await;
        self.settle(&lease, dead_letter()).await;
        for foreign in &foreign {
            self.is_lost(foreign, &new).await;
        }
        // Only `start` and a release use the lease's attempt number.
        let lease = Lease::new(lease.id(), lease.token(), 7);
        self.settle(&lease, done(KEEP)).await;
        self.show(lease.id(), &new, DeliveryState::Done, 1, "the lease is current").await;
    }

    /// Checks that this lease was replaced, and that using it changes nothing.
    async fn is_lost(&self, lease: &Lease, new: &NewDelivery) {
        let snapshot = async || {
            let entry = self.find(lease.id()).await;
            let entry = entry.map(|entry| (entry.state, entry.attempts, entry.reason, entry.body));
            (entry, self.answer("counts", self.store.counts().await))
        };
        let (before, mut counts) = snapshot().await;
        let why = format!("another lease replaced this one; the delivery's head is {}", new.head());
        self.cannot_extend(lease, &why).await;
        self.cannot_start(lease, &why).await;
        for settlement in
            [done(Duration::ZERO), done(KEEP), reschedule(Duration::ZERO), dead_letter(), Settlement::Release]
        {
            self.settles(lease, settlement, SettleOutcome::Superseded, &why).await;
        }
        let (after, counts_after) = snapshot().await;
        counts.oldest = counts_after.oldest;
        self.holds(
            before == after && counts == counts_after,
            &format!("{before:?} became {after:?}, and {counts:?} {counts_after:?}: {why}"),
        );
    }
}

//! Rules for deliveries that are too old to be handled.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{
        DeliveryState, EXPIRED, InboxAdmin, InboxStore, Lease, LeaseRequest, Leased, NewDelivery, SettleOutcome,
        Settlement,
    },
};

use super::{
    delivery,
    tested::{AHEAD, HOUR, KEEP, LEASE, MARGIN, REQUEST, TestedInbox, dead_letter, reschedule, roughly},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    /// Accepts, leases and expires a delivery.
    async fn make_expired(&self, new: &NewDelivery) -> Lease {
        let lease = self.begin(new).await;
        self.settle(&lease, Settlement::Expire).await;
        lease
    }

    pub(super) async fn expired_delivery_is_dead(&self) {
        let [first, second, ahead] = ["first", "second", "ahead"].map(|id| delivery("warung", id, "body"));
        let lease = self.make_expired(&first).await;
        let why = "the delivery expired, and the attempt does not count";
        let entry = self.show(lease.id(), &first, DeliveryState::Dead, 0, why).await;
        self.same("show", &entry.reason.as_deref(), &Some(EXPIRED), why);
        self.settle(&lease, Settlement::Expire).await;
        self.show(lease.id(), &first, DeliveryState::Dead, 0, "repeating a settlement changes nothing").await;

        let lease = self.begin(&second).await;
        self.settle(&lease, reschedule(Duration::ZERO)).await;
        let lease = self.lease_one(&second, "one attempt failed").await;
        self.settle(&lease, Settlement::Expire).await;
        let entry = self.show(lease.id(), &second, DeliveryState::Dead, 1, "one attempt failed before").await;
        self.same("show", &entry.reason.as_deref(), &Some(EXPIRED), why);

        self.accept(&ahead).await;
        let [lease] = self.lease_as(&AHEAD, [&ahead], "the delivery was accepted").await;
        self.settle(&lease, Settlement::Expire).await;
        self.show(lease.id(), &ahead, DeliveryState::Dead, 0, why).await;
        self.cannot_extend(&lease, "the delivery is dead").await;
        self.advance(LEASE + MARGIN).await;
        self.lease_nothing("all are dead").await;
        self.is_known(&delivery("warung", "first", "other body"), &first, "the ledger row stays").await;
        self.revive(&delivery("warung", "first", "body")).await;
    }

    pub(super) async fn expired_delivery_blocks_nothing(&self) {
        let [first, second] = ["first", "second"].map(|id| delivery("warung", id, "body").with_ordering_keys(&["a"]));
        self.accept_all([&first, &second]).await;
        let lease = self.lease_one(&first, "the first blocks the second").await;
        self.settle(&lease, Settlement::Expire).await;
        self.lease_one(&second, "the first has expired").await;
    }

    pub(super) async fn expiry_leaves_a_dead_letter_by_hand(&self) {
        let [by_hand, lost] = ["by hand", "lost"].map(|id| delivery("warung", id, "body"));
        let lease = self.begin(&by_hand).await;
        self.dead_letter(&[lease.id()], &[DeliveryState::Leased], 1, "it is leased").await;
        self.settle(&lease, Settlement::Expire).await;
        let why = "an operator has dead-lettered the delivery";
        let entry = self.show(lease.id(), &by_hand, DeliveryState::Dead, 1, why).await;
        self.same("show", &entry.reason.as_deref(), &Some("by hand"), why);

        let lease = self.begin(&lost).await;
        self.advance(LEASE + MARGIN).await;
        let batch = self.try_lease(&LeaseRequest { max_attempts: 1, ..REQUEST }).await;
        self.same("lease", &batch.dead_lettered.len(), &1, "the lease expired on the last attempt");
        self.settles(&lease, Settlement::Expire, SettleOutcome::Settled, "the token is the latest").await;
        let why = "the worker has reported that the delivery expired";
        let entry = self.show(lease.id(), &lost, DeliveryState::Dead, 0, why).await;
        self.same("show", &entry.reason.as_deref(), &Some(EXPIRED), why);
    }

    /// Leases the only delivery that is due, with a free handler, and checks its age.
    async fn lease_aged(&self, age: Duration, why: &str) -> Leased {
        let mut leased = self.try_lease(&REQUEST).await.leased;
        self.same("lease", &leased.len(), &1, why);
        let leased = leased.remove(0);
        self.holds(roughly(leased.age(), age), &format!("lease returned age {:?}, not {age:?}: {why}", leased.age()));
        leased
    }

    pub(super) async fn leased_delivery_has_its_age(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept(&new).await;
        self.lease_aged(Duration::ZERO, "the delivery was just accepted").await;
        self.advance(HOUR).await;
        let leased = self.lease_aged(HOUR, "the lease has expired").await;
        self.settle(leased.lease(), reschedule(HOUR)).await;
        self.advance(HOUR + MARGIN).await;
        let leased = self.lease_aged(2 * HOUR + MARGIN, "the first attempts failed").await;
        self.settle(leased.lease(), dead_letter()).await;
        self.advance(HOUR).await;
        self.revive(&delivery("warung", "evt", "body")).await;
        let why = "a revived delivery keeps its time of acceptance";
        self.lease_aged(3 * HOUR + MARGIN, why).await;
    }

    pub(super) async fn marks_deliveries_retried_after_expiry(&self) {
        let marked = async |expected: bool, why: &str| {
            let leased = self.try_lease(&REQUEST).await.leased;
            let found: Vec<_> = leased.iter().map(Leased::is_after_expiry).collect();
            self.same("lease (is_after_expiry)", &found, &vec![expected], why);
            let lease = *leased[0].lease();
            self.start(&lease).await;
            lease
        };
        let lease = self.make_expired(&delivery("warung", "expired", "body")).await;
        self.retry(lease.id()).await;
        marked(true, "the delivery was retried after it had expired").await;
        self.advance(LEASE + MARGIN).await;
        let lease = marked(true, "the delivery was retried, and the worker has reported no outcome").await;
        self.settle(&lease, reschedule(Duration::ZERO)).await;
        let lease = marked(false, "another attempt failed since").await;
        self.extend(&lease, KEEP, "the lease is current").await;

        let lease = self.make_dead(&delivery("warung", "failed", "body")).await;
        self.retry(lease.id()).await;
        let lease = marked(false, "the delivery had failed, not expired").await;
        self.settle(&lease, Settlement::Release).await;
        let lease = marked(false, "the delivery was released").await;
        self.extend(&lease, KEEP, "the lease is current").await;

        let lease = self.make_expired(&delivery("warung", "revived", "body")).await;
        self.revive(&delivery("warung", "revived", "body")).await;
        let lease_again = marked(false, "klikit has sent the delivery again").await;
        self.same("lease", &lease_again.id(), &lease.id(), "a revived delivery keeps its id");
    }
}

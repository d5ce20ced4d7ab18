//! Rules for what is dead and comes again.

use std::time::Duration;

use super::{
    conflict, delivery,
    ledger::claim,
    subject::{LEASE, MARGIN, RETENTION, Subject},
};
use crate::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxStore},
};

impl<S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Subject<'_, S, A> {
    pub(super) async fn a_dead_delivery_is_revived(&self) {
        let new = delivery("warung", "evt", "body");
        let first = self.take_up(&new).await;
        self.pass(LEASE + MARGIN).await;
        let last = self.lease_one(&new, "its lease has run out").await;
        self.bury(&last, true, "its lease is held").await;
        self.revive(&delivery("warung", "evt", "body"), "it was dead").await;
        self.counts([1, 0, 0, 0], "it is ready again").await;
        self.show(last.id(), &new, DeliveryState::Ready, 0, "it has its old id, and no attempts").await;
        self.known(&delivery("warung", "evt", "body"), &new, "it waits again").await;
        let again = self.lease_one(&new, "it is due at once").await;
        self.same("lease", &(again.id(), again.attempt()), &(first.id(), 1), "it has its old id, and no attempts");
        self.holds(again.token() > last.token(), &format!("{again:?} has no larger token than {last:?}"));
        self.finish(&last, Duration::ZERO, false, "that lease was lost").await;
        self.finish(&again, Duration::ZERO, true, "its lease is held").await;
        self.known(&delivery("warung", "evt", "body"), &new, "it is finished").await;

        // The claim of the first time: its answer was lost, and all this came to pass meanwhile.
        let lost = delivery("warung", "lost", "body");
        self.give_up(&lost).await;
        self.revive(&lost, "it was dead").await;
        self.known(&lost, &lost, "it was revived").await;
    }

    pub(super) async fn a_revived_delivery_takes_the_new_request(&self) {
        let old = delivery("warung", "evt", "body");
        let lease = self.give_up(&old).await;
        let head = old.head().replace("klikit?from=klikit", "other?from=klikit");
        let new = delivery("warung", "evt", "body").with_head(head);
        self.revive(&new, "it was dead").await;
        let again = self.lease_one(&new, "it has the new head").await;
        self.bury(&again, true, "its lease is held").await;

        let new = delivery("warung", "evt", "other body").with_any_body();
        self.revive(&new, "it was dead, and its key alone counts").await;
        self.show(lease.id(), &new, DeliveryState::Ready, 0, "it has the new body").await;
        self.known(&delivery("warung", "evt", "body"), &new, "it has the new body's digest").await;
        self.done(&claim("warung", "evt", "body"), &new, "its ledger row has the new body's digest").await;
        let again = self.lease_one(&new, "it has the new body").await;
        self.bury(&again, true, "its lease is held").await;
        self.known(&delivery("warung", "evt", "body"), &new, "it is dead, with the new body").await;
        self.revive(&delivery("warung", "evt", "other body"), "it was dead, with this body").await;
    }

    pub(super) async fn a_revived_delivery_is_known_for_the_new_retention(&self) {
        let (new, lapsed) = (delivery("warung", "evt", "body"), delivery("warung", "lapsed", "body"));
        for new in [&new, &lapsed] {
            self.accept_for(new, 2 * LEASE, "its key is not known").await;
            let lease = self.lease_one(new, "it was accepted").await;
            self.bury(&lease, true, "its lease is held").await;
        }
        self.pass(LEASE).await;
        self.revive(&delivery("warung", "evt", "body"), "it was dead").await;
        let lease = self.lease_one(&new, "it is ready again").await;
        self.finish(&lease, Duration::ZERO, true, "its lease is held").await;
        self.pass(LEASE + MARGIN).await;
        self.revive(&delivery("warung", "lapsed", "body"), "it is dead, if the ledger does not know it any more").await;
        self.done(&claim("warung", "lapsed", "body"), &lapsed, "it was revived, and its ledger row with it").await;
        self.pass(RETENTION - LEASE - 2 * MARGIN).await;
        self.known(&delivery("warung", "evt", "body"), &new, "the new retention is not over").await;
        self.pass(2 * MARGIN).await;
        self.accept(&delivery("warung", "evt", "body"), "the new retention is over").await;
    }

    pub(super) async fn another_body_revives_nothing(&self) {
        let dead = delivery("warung", "evt", "body");
        let lease = self.give_up(&dead).await;
        self.known(&delivery("warung", "evt", "other body"), &dead, "it is dead, with that body").await;
        self.show(lease.id(), &dead, DeliveryState::Dead, 1, "another body changes nothing").await;
        self.lease_nothing("it is dead").await;
        let other = conflict("warung", "evt", "other body");
        let beside = self.take_up(&other).await;
        self.holds(beside.id() > lease.id(), &format!("id {} came after {}", beside.id(), lease.id()));
        self.bury(&beside, true, "its lease is held").await;
        self.revive(&delivery("warung", "evt", "body"), "it was dead, with this body").await;
        self.revive(&conflict("warung", "evt", "other body"), "it was dead").await;
    }
}

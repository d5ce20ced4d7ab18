//! Rules for copies of dead deliveries, which klikit sends again.

use std::time::Duration;

use tower_klikit::{
    dedupe::{BodyDigest, Ledger},
    inbox::{Acceptance, DeliveryState, InboxAdmin, InboxStore, SettleOutcome, Settlement},
};

use super::{
    conflict, delivery,
    tested::{HOUR, KEEP, LEASE, MARGIN, RETENTION, TestedInbox, dead_letter, done, reschedule, roughly},
};
use crate::ledger::claim;

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn dead_delivery_is_revived(&self) {
        let new = delivery("warung", "evt", "body");
        let first = self.begin(&new).await;
        self.advance(LEASE + MARGIN).await;
        let last = self.lease_one(&new, "the lease has expired").await;
        self.settle(&last, dead_letter()).await;
        self.revive(&delivery("warung", "evt", "body")).await;
        self.counts([1, 0, 0, 0], "the delivery is ready again").await;
        self.show(last.id(), &new, DeliveryState::Ready, 0, "the delivery has its old id, and no attempts").await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery is ready again").await;
        let again = self.lease_one(&new, "the delivery is due at once").await;
        self.same(
            "lease",
            &(again.id(), again.attempt()),
            &(first.id(), 1),
            "the delivery has its old id, and no attempts",
        );
        self.holds(again.token() > last.token(), &format!("{again:?} has no larger token than {last:?}"));
        self.settle(&again, done(Duration::ZERO)).await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery is handled").await;

        // An acceptor that lost the response retries with its old claim, after the delivery was dead-lettered.
        let lost = delivery("warung", "lost", "body");
        self.make_dead(&lost).await;
        self.revive(&lost).await;
        self.is_known(&lost, &lost, "the delivery was revived").await;
    }

    pub(super) async fn accept_reports_a_dead_delivery(&self) {
        let old = delivery("warung", "evt", "body");
        let lease = self.make_dead(&old).await;
        let head = old.head().replace("klikit?from=klikit", "other?from=klikit");
        let new = delivery("warung", "evt", "body").with_head(head).without_reviving();
        let other = delivery("warung", "evt", "other body").without_reviving();
        for _ in 0..2 {
            let acceptance = self.answer("accept", self.store.accept(&new, RETENTION).await);
            let dead = Acceptance::Dead { head: Some(old.head().into()) };
            self.same("accept", &acceptance, &dead, "the delivery is dead, and `without_reviving` was set");
            self.is_known(&other, &old, "a copy with another body does not match the dead delivery").await;
            self.show(lease.id(), &old, DeliveryState::Dead, 1, "nothing revived the delivery").await;
        }
        self.lease_nothing("the delivery is dead").await;
        let rewritten = other.with_same_json_as(*old.claim().digest());
        let acceptance = self.answer("accept", self.store.accept(&rewritten, RETENTION).await);
        let dead = Acceptance::Dead { head: Some(old.head().into()) };
        self.same("accept", &acceptance, &dead, "the copy has the same JSON as the dead delivery");
        self.revive(&delivery("warung", "evt", "body")).await;
    }

    pub(super) async fn revived_delivery_takes_the_new_request(&self) {
        let old = delivery("warung", "evt", "body");
        let lease = self.make_dead(&old).await;
        let head = old.head().replace("klikit?from=klikit", "other?from=klikit");
        let new = delivery("warung", "evt", "body").with_head(head);
        self.revive(&new).await;
        let again = self.lease_one(&new, "the delivery has the new head").await;
        self.settle(&again, dead_letter()).await;

        let new = delivery("warung", "evt", "other body").with_any_body();
        self.revive(&new).await;
        self.show(lease.id(), &new, DeliveryState::Ready, 0, "the delivery has the new body").await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery has the digest of the new body").await;
        self.is_done(&claim("warung", "evt", "body"), &new, "the ledger row has the digest of the new body").await;
        let again = self.lease_one(&new, "the delivery has the new body").await;
        self.settle(&again, dead_letter()).await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery is dead, with the new body").await;
        self.revive(&delivery("warung", "evt", "other body")).await;
    }

    pub(super) async fn same_json_revives_a_dead_delivery(&self) {
        let old = delivery("warung", "evt", "body");
        let lease = self.make_dead(&old).await;
        let unlike = delivery("warung", "evt", "other body").with_same_json_as(BodyDigest::of(b"a third body"));
        self.is_known(&unlike, &old, "the copy has the JSON of a third body").await;
        self.show(lease.id(), &old, DeliveryState::Dead, 1, "another body changes nothing").await;
        let new = delivery("warung", "evt", "other body").with_same_json_as(*old.claim().digest());
        self.revive(&new).await;
        self.show(lease.id(), &new, DeliveryState::Ready, 0, "the delivery has the new body").await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery has the digest of the new body").await;
        self.is_done(&claim("warung", "evt", "body"), &new, "the ledger row has the digest of the new body").await;
        self.lease_one(&new, "the delivery has the new body").await;
    }

    pub(super) async fn revived_delivery_fences_the_old_token(&self) {
        let new = delivery("warung", "evt", "body");
        let old = self.make_dead(&new).await;
        self.revive(&delivery("warung", "evt", "body")).await;
        for state in [DeliveryState::Ready, DeliveryState::Leased] {
            let why = "klikit sent the delivery again, so the outcome of the old request does not count";
            for settlement in [done(Duration::ZERO), done(KEEP), reschedule(KEEP), dead_letter(), Settlement::Release] {
                self.settles(&old, settlement, SettleOutcome::Superseded, why).await;
            }
            self.cannot_extend(&old, why).await;
            let attempts = u32::from(state == DeliveryState::Leased);
            self.show(old.id(), &new, state, attempts, "the old lease changes nothing").await;
            if state == DeliveryState::Ready {
                self.lease_one(&new, "the delivery is due at once").await;
            }
        }
    }

    pub(super) async fn revived_delivery_has_the_new_retention(&self) {
        let (new, late) = (delivery("warung", "evt", "body"), delivery("warung", "late", "body"));
        for new in [&new, &late] {
            self.accept_for(new, 2 * LEASE).await;
            let lease = self.lease_one(new, "the delivery was accepted").await;
            self.settle(&lease, dead_letter()).await;
        }
        self.advance(LEASE).await;
        self.revive(&delivery("warung", "evt", "body")).await;
        let lease = self.lease_one(&new, "the delivery is ready again").await;
        self.settle(&lease, done(Duration::ZERO)).await;
        self.advance(LEASE + MARGIN).await;
        // The ledger row of this key has ended.
        self.revive(&delivery("warung", "late", "body")).await;
        self.is_done(&claim("warung", "late", "body"), &late, "the delivery was revived with its ledger row").await;
        self.advance(RETENTION - LEASE - 2 * MARGIN).await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the new retention is not over").await;
        self.advance(2 * MARGIN).await;
        self.accept_again(&delivery("warung", "evt", "body"), "the new retention is over").await;
    }

    pub(super) async fn revived_delivery_keeps_its_time_of_acceptance(&self) {
        let [old, fresh] = ["old", "fresh"].map(|id| delivery("warung", id, "body"));
        let lease = self.make_dead(&old).await;
        self.advance(4 * HOUR).await;
        let fresh = self.handle(&fresh, KEEP).await;
        self.revive(&delivery("warung", "old", "body")).await;
        let oldest = self.counts([1, 0, 0, 1], "the delivery is ready again").await.oldest;
        let is_old = oldest.is_some_and(|oldest| roughly(oldest, 4 * HOUR));
        self.holds(is_old, &format!("counts returned {oldest:?} as the oldest, which was accepted 4 hours ago"));
        let (old, fresh) = (self.find(lease.id()).await, self.find(fresh.id()).await);
        let [Some(old), Some(fresh)] = [old, fresh].map(|entry| entry.map(|entry| entry.accepted_at)) else {
            self.broken("show returned nothing for a ready delivery, or for a kept one")
        };
        let is_old = fresh.duration_since(old).is_ok_and(|earlier| roughly(earlier, 4 * HOUR));
        self.holds(
            is_old,
            &format!("show returned {old:?} and {fresh:?} as times of acceptance, which are 4 hours apart"),
        );
    }

    pub(super) async fn other_body_does_not_revive(&self) {
        let dead = delivery("warung", "evt", "body");
        let lease = self.make_dead(&dead).await;
        self.is_known(&delivery("warung", "evt", "other body"), &dead, "the delivery is dead, with that body").await;
        self.show(lease.id(), &dead, DeliveryState::Dead, 1, "another body changes nothing").await;
        self.lease_nothing("the delivery is dead").await;
        let other = conflict("warung", "evt", "other body");
        let neighbor = self.begin(&other).await;
        self.holds(neighbor.id() > lease.id(), &format!("id {} came after {}", neighbor.id(), lease.id()));
        self.settle(&neighbor, dead_letter()).await;
        self.revive(&delivery("warung", "evt", "body")).await;
        self.revive(&conflict("warung", "evt", "other body")).await;
    }
}

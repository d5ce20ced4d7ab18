//! Rules for forgetting an event.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxAdmin, InboxStore},
};

use super::{
    conflict, delivery,
    tested::{HOUR, KEEP, LEASE, MARGIN, TestedInbox, dead_letter, done},
};
use crate::ledger::claim;

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn forgotten_event_is_accepted_again(&self) {
        let [dead, kept, gone] = ["dead", "kept", "gone"].map(|id| delivery("warung", id, "body"));
        let dead_lease = self.make_dead(&dead).await;
        let kept_lease = self.handle(&kept, KEEP).await;
        let last = self.handle(&gone, Duration::ZERO).await;
        self.forget(&dead, 1, "a dead delivery and its ledger row have one key").await;
        self.show_nothing(dead_lease.id(), "the event was forgotten").await;
        self.forget(&kept, 1, "a kept delivery and its ledger row have one key").await;
        self.show_nothing(kept_lease.id(), "the event was forgotten").await;
        self.forget(&gone, 1, "only the ledger knows the key").await;
        self.counts([0, 0, 0, 0], "all events were forgotten").await;
        for new in [&dead, &kept, &gone] {
            let lease = self.begin(new).await;
            self.holds(lease.id() > last.id(), &format!("id {} came after {}", lease.id(), last.id()));
            self.same("lease", &lease.attempt(), &1, "the delivery is new");
        }

        let [handled, held, expired] = ["handled", "held", "expired"].map(|id| delivery("warung", id, "body"));
        self.claim(expired.claim(), "there is no entry").await;
        self.advance(LEASE + MARGIN).await;
        self.claim(handled.claim(), "there is no entry").await;
        self.complete(handled.claim(), "the token holds the entry").await;
        self.claim(held.claim(), "there is no entry").await;
        self.forget(&handled, 1, "the ledger has the entry as done").await;
        self.forget(&held, 1, "the ledger has the entry as claimed").await;
        self.forget(&expired, 1, "the ledger has a claim that has expired, and is within its grace").await;
        for new in [&handled, &held, &expired] {
            self.cannot_complete(new.claim(), "the event was forgotten").await;
            self.accept_again(new, "the event was forgotten").await;
        }
    }

    pub(super) async fn pending_delivery_is_not_forgotten(&self) {
        let ready = delivery("warung", "evt", "body");
        let [leased, expired, dead, kept, gone, held] =
            ["leased", "expired", "dead", "kept", "gone", "held"].map(|body| conflict("warung", "evt", body));
        let dead_lease = self.make_dead(&dead).await;
        let kept_lease = self.handle(&kept, KEEP).await;
        self.handle(&gone, Duration::ZERO).await;
        let expired_lease = self.begin(&expired).await;
        let lease = self.begin(&leased).await;
        self.extend(&lease, KEEP, "the lease is current").await;
        self.advance(LEASE + MARGIN).await;
        self.claim(held.claim(), "there is no entry").await;
        self.accept(&ready).await;

        let why = "of one event's deliveries one is dead, one kept, one known to the ledger, and one claimed; the others are pending";
        self.forget(&ready, 4, why).await;
        self.counts([1, 2, 0, 0], why).await;
        self.show_nothing(dead_lease.id(), "the event was forgotten").await;
        self.show_nothing(kept_lease.id(), "the event was forgotten").await;
        self.show(expired_lease.id(), &expired, DeliveryState::Leased, 1, "the delivery is pending").await;
        self.is_done(&claim("warung", "evt", "body"), &ready, "the ledger row of a pending delivery stays").await;
        for pending in [&ready, &leased, &expired] {
            let copy = conflict("warung", "evt", pending.body());
            let copy = if pending.claim().is_conflict() { copy } else { delivery("warung", "evt", "body") };
            self.is_done(copy.claim(), pending, "the ledger row of a pending delivery stays").await;
            self.is_known(&copy, pending, "the delivery is pending").await;
        }
        self.settle(&lease, done(Duration::ZERO)).await;
        self.is_known(&conflict("warung", "evt", "leased"), &leased, "the delivery is handled, and not forgotten")
            .await;
        self.cannot_complete(held.claim(), "the event was forgotten").await;
        for forgotten in [&dead, &kept, &gone, &held] {
            self.accept_again(forgotten, "the event was forgotten").await;
        }
    }

    pub(super) async fn other_events_are_not_forgotten(&self) {
        let gone = delivery("warung", "evt", "body");
        let [dead, kept] = [delivery("kedai", "evt", "body"), delivery("warung", "evt-2", "body")];
        let [other, known] = [conflict("kedai", "evt", "other body"), delivery("", "evt", "body")];
        self.make_dead(&gone).await;
        let dead_lease = self.make_dead(&dead).await;
        let other_lease = self.make_dead(&other).await;
        let kept_lease = self.handle(&kept, KEEP).await;
        self.handle(&known, Duration::ZERO).await;
        self.forget(&gone, 1, "one delivery is dead").await;
        let why = "the event of another tenant was forgotten";
        self.show(dead_lease.id(), &dead, DeliveryState::Dead, 1, why).await;
        self.show(other_lease.id(), &other, DeliveryState::Dead, 1, why).await;
        self.show(kept_lease.id(), &kept, DeliveryState::Done, 1, "another event was forgotten").await;
        self.is_known(&delivery("", "evt", "body"), &known, why).await;
        self.is_known(&delivery("warung", "evt-2", "body"), &kept, "another event was forgotten").await;
        self.revive(&delivery("kedai", "evt", "body")).await;
        self.forget(&other, 1, "one delivery of this event is dead, and one is pending").await;
        self.is_known(&delivery("kedai", "evt", "body"), &dead, "the delivery is pending").await;
    }

    pub(super) async fn forgetting_counts_only_known_keys(&self) {
        let [pending, gone, dead, kept] = ["pending", "gone", "dead", "kept"].map(|id| delivery("warung", id, "body"));
        self.forget(&pending, 0, "the event was never accepted").await;
        self.accept(&pending).await;
        self.forget(&pending, 0, "the delivery is ready").await;
        let lease = self.lease_one(&pending, "the delivery is ready").await;
        self.forget(&pending, 0, "the delivery is leased").await;
        self.settle(&lease, done(Duration::ZERO)).await;
        self.forget(&pending, 1, "only the ledger knows the key").await;
        self.forget(&pending, 0, "the event was forgotten already").await;
        let claimed = claim("warung", "claimed", "body");
        self.claim(&claimed, "there is no entry").await;
        for (new, settlement) in [(&gone, done(Duration::ZERO)), (&dead, dead_letter()), (&kept, done(KEEP))] {
            self.accept_for(new, LEASE).await;
            let lease = self.lease_one(new, "the delivery was accepted").await;
            self.settle(&lease, settlement).await;
        }
        self.advance(LEASE + HOUR + MARGIN).await;
        self.forget(&gone, 0, "the retention of the ledger row is over").await;
        self.forget(&delivery("warung", "claimed", "body"), 0, "the grace of the claim is over").await;
        self.forget(&dead, 1, "the delivery is dead, although the ledger does not know it any more").await;
        self.forget(&kept, 1, "the delivery is kept, although the ledger does not know it any more").await;
        self.counts([0, 0, 0, 0], "all events were forgotten").await;
    }

    pub(super) async fn counts_the_keys_of_an_event(&self) {
        let ready = delivery("warung", "evt", "body");
        let [dead, kept, gone, over, expired, held] =
            ["dead", "kept", "gone", "over", "expired", "held"].map(|body| conflict("warung", "evt", body));
        let other = delivery("kedai", "evt", "body");
        self.count_keys(ready.claim().event(), 0, "the event was never accepted").await;
        for (new, settlement) in [(&dead, dead_letter()), (&kept, done(KEEP)), (&over, done(Duration::ZERO))] {
            self.accept_for(new, LEASE).await;
            let lease = self.lease_one(new, "the delivery was accepted").await;
            self.settle(&lease, settlement).await;
        }
        self.advance(LEASE + MARGIN).await;
        self.make_dead(&other).await;
        self.handle(&gone, Duration::ZERO).await;
        self.claim(expired.claim(), "there is no entry").await;
        self.advance(LEASE + MARGIN).await;
        self.claim(held.claim(), "there is no entry").await;
        let lease = self.begin(&conflict("warung", "evt", "leased")).await;
        self.accept(&ready).await;

        let why = "of one event's deliveries one is dead, one kept, one known to the ledger, and two claimed, one of \
                   which has expired; the retention of another is over, and two are pending";
        for _ in 0..2 {
            self.count_keys(ready.claim().event(), 5, why).await;
            self.counts([1, 1, 2, 1], "counting changes nothing").await;
        }
        self.count_keys(other.claim().event(), 1, "a dead delivery and its ledger row have one key").await;
        self.forget(&ready, 5, why).await;
        self.count_keys(ready.claim().event(), 0, "the event was forgotten, and two deliveries are pending").await;
        self.settle(&lease, done(Duration::ZERO)).await;
        self.count_keys(ready.claim().event(), 1, "one of the pending deliveries was handled").await;
    }
}

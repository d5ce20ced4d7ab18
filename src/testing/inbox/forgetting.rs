//! Rules for forgetting an event.

use std::time::Duration;

use super::{
    conflict, delivery,
    ledger::claim,
    subject::{KEEP, LEASE, MARGIN, Subject},
};
use crate::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxStore},
};

impl<S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Subject<'_, S, A> {
    pub(super) async fn a_forgotten_event_is_accepted_again(&self) {
        let [dead, kept, gone] = ["dead", "kept", "gone"].map(|id| delivery("warung", id, "body"));
        let dead_lease = self.give_up(&dead).await;
        let kept_lease = self.handle(&kept, KEEP).await;
        let last = self.handle(&gone, Duration::ZERO).await;
        self.forget(&dead, 1, "a dead delivery and its ledger row have one key").await;
        self.show_nothing(dead_lease.id(), "it was forgotten").await;
        self.forget(&kept, 1, "a kept delivery and its ledger row have one key").await;
        self.show_nothing(kept_lease.id(), "it was forgotten").await;
        self.forget(&gone, 1, "the ledger knew it").await;
        self.counts([0, 0, 0, 0], "all was forgotten").await;
        for new in [&dead, &kept, &gone] {
            let lease = self.take_up(new).await;
            self.holds(lease.id() > last.id(), &format!("id {} came after {}", lease.id(), last.id()));
            self.same("lease", &lease.attempt(), &1, "it is a new delivery");
        }

        let [handled, held] = ["handled", "held"].map(|id| delivery("warung", id, "body"));
        self.claim(handled.claim(), "there is no entry").await;
        self.complete(handled.claim(), true, "it holds the entry").await;
        self.claim(held.claim(), "there is no entry").await;
        self.forget(&handled, 1, "the ledger had it done").await;
        self.forget(&held, 1, "the ledger had it claimed").await;
        self.accept(&handled, "it was forgotten").await;
        self.accept(&held, "it was forgotten").await;
    }

    pub(super) async fn what_is_not_finished_is_not_forgotten(&self) {
        let ready = delivery("warung", "evt", "body");
        let [leased, lapsed, dead, kept, gone, held] =
            ["leased", "lapsed", "dead", "kept", "gone", "held"].map(|body| conflict("warung", "evt", body));
        let dead_lease = self.give_up(&dead).await;
        let kept_lease = self.handle(&kept, KEEP).await;
        self.handle(&gone, Duration::ZERO).await;
        let lapsed_lease = self.take_up(&lapsed).await;
        let lease = self.take_up(&leased).await;
        self.extend(&lease, KEEP, true, "its lease is held").await;
        self.pass(LEASE + MARGIN).await;
        self.claim(held.claim(), "there is no entry").await;
        self.accept(&ready, "its key is not known").await;

        let why = "of one event, one is dead, one kept, one known from before, and one claimed; the others wait";
        self.forget(&ready, 4, why).await;
        self.counts([1, 2, 0, 0], why).await;
        self.show_nothing(dead_lease.id(), "it was forgotten").await;
        self.show_nothing(kept_lease.id(), "it was forgotten").await;
        self.show(lapsed_lease.id(), &lapsed, DeliveryState::Leased, 1, "its lease ran out, and it stays leased").await;
        self.done(&claim("warung", "evt", "body"), &ready, "its ledger row stays with what waits").await;
        for waiting in [&ready, &leased, &lapsed] {
            let copy = conflict("warung", "evt", waiting.body());
            let copy = if waiting.claim().is_conflict() { copy } else { delivery("warung", "evt", "body") };
            self.done(copy.claim(), waiting, "its ledger row stays with what waits").await;
            self.known(&copy, waiting, "it is going to be handled").await;
        }
        self.finish(&lease, Duration::ZERO, true, "its lease is held").await;
        self.known(&conflict("warung", "evt", "leased"), &leased, "it is finished, and was not forgotten").await;
        self.complete(held.claim(), false, "it was forgotten").await;
        for forgotten in [&dead, &kept, &gone, &held] {
            self.accept(forgotten, "it was forgotten").await;
        }
    }

    pub(super) async fn other_events_are_not_forgotten(&self) {
        let gone = delivery("warung", "evt", "body");
        let [dead, kept] = [delivery("kedai", "evt", "body"), delivery("warung", "evt-2", "body")];
        let [beside, known] = [conflict("kedai", "evt", "other body"), delivery("", "evt", "body")];
        self.give_up(&gone).await;
        let dead_lease = self.give_up(&dead).await;
        let beside_lease = self.give_up(&beside).await;
        let kept_lease = self.handle(&kept, KEEP).await;
        self.handle(&known, Duration::ZERO).await;
        self.forget(&gone, 1, "one was dead").await;
        self.show(dead_lease.id(), &dead, DeliveryState::Dead, 1, "the event of another tenant was forgotten").await;
        self.show(beside_lease.id(), &beside, DeliveryState::Dead, 1, "the event of another tenant was forgotten")
            .await;
        self.show(kept_lease.id(), &kept, DeliveryState::Done, 1, "another event was forgotten").await;
        self.known(&delivery("", "evt", "body"), &known, "the event of another tenant was forgotten").await;
        self.known(&delivery("warung", "evt-2", "body"), &kept, "another event was forgotten").await;
        self.revive(&delivery("kedai", "evt", "body"), "the event of another tenant was forgotten").await;
        self.forget(&beside, 1, "one of this event is dead, and one waits").await;
        self.known(&delivery("kedai", "evt", "body"), &dead, "it waits").await;
    }

    pub(super) async fn what_is_absent_is_not_counted(&self) {
        let [never, gone, dead, kept] = ["never", "gone", "dead", "kept"].map(|id| delivery("warung", id, "body"));
        self.forget(&never, 0, "it never came").await;
        self.accept(&never, "it was not known before it was forgotten").await;
        self.forget(&never, 0, "it waits").await;
        let lease = self.lease_one(&never, "it waits").await;
        self.forget(&never, 0, "it is leased").await;
        self.finish(&lease, Duration::ZERO, true, "its lease is held").await;
        self.forget(&never, 1, "the ledger knew it").await;
        self.forget(&never, 0, "it was forgotten already").await;
        for (new, keep) in [(&gone, Some(Duration::ZERO)), (&dead, None), (&kept, Some(KEEP))] {
            self.accept_for(new, LEASE, "its key is not known").await;
            let lease = self.lease_one(new, "it was accepted").await;
            match keep {
                Some(keep) => self.finish(&lease, keep, true, "its lease is held").await,
                None => self.bury(&lease, true, "its lease is held").await,
            }
        }
        self.pass(LEASE + MARGIN).await;
        self.forget(&gone, 0, "a ledger row whose time is up counts as absent").await;
        self.forget(&dead, 1, "it is dead, if the ledger does not know it any more").await;
        self.forget(&kept, 1, "it is kept, if the ledger does not know it any more").await;
        self.counts([0, 0, 0, 0], "all was forgotten").await;
    }
}

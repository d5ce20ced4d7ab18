//! Rules for how a lease ends.

use std::time::Duration;

use super::{
    delivery,
    subject::{ALL, HOUR, KEEP, LEASE, MARGIN, RETENTION, Subject},
};
use crate::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxStore},
};

impl<S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Subject<'_, S, A> {
    pub(super) async fn what_is_finished_is_gone(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.handle(&new, Duration::ZERO).await;
        self.finish(&lease, Duration::ZERO, false, "it is finished already").await;
        self.finish(&lease, KEEP, false, "it is finished already").await;
        self.show_nothing(lease.id(), "it is finished").await;
        self.retry(lease.id(), false, "it is finished").await;
        self.counts([0, 0, 0, 0], "it is finished").await;
        self.pass(LEASE + MARGIN).await;
        self.lease_nothing("it is finished").await;
        self.same("purge_done", &self.purge(ALL).await, &0, "it is gone");
    }

    pub(super) async fn what_is_kept_stays_with_its_body(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.handle(&new, KEEP).await;
        self.finish(&lease, Duration::ZERO, false, "it is finished already").await;
        self.finish(&lease, 2 * KEEP, false, "it is finished already").await;
        self.pass(KEEP - MARGIN).await;
        self.lease_nothing("it is finished").await;
        self.same("purge_done", &self.purge(ALL).await, &0, "its time is not up");
        self.show(lease.id(), &new, DeliveryState::Done, 1, "its time is not up").await;
        self.counts([0, 0, 0, 1], "its time is not up").await;
        self.pass(2 * MARGIN).await;
        self.same("purge_done", &self.purge(ALL).await, &1, "its time is up");
        self.show_nothing(lease.id(), "its time is up, and it was purged").await;
        self.counts([0, 0, 0, 0], "its time is up, and it was purged").await;
        self.known(&delivery("warung", "evt", "body"), &new, "what was purged is known still").await;
    }

    pub(super) async fn purging_takes_only_what_is_up(&self) {
        for n in 0..5 {
            self.handle(&delivery("warung", &format!("up-{n}"), "body"), LEASE).await;
        }
        let kept = delivery("warung", "kept", "body");
        let kept_lease = self.handle(&kept, KEEP).await;
        let dead = delivery("warung", "dead", "body");
        let dead_lease = self.give_up(&dead).await;
        let leased = delivery("warung", "leased", "body");
        let lease = self.take_up(&leased).await;
        self.accept_for(&delivery("warung", "ready", "body"), LEASE, "its key is not known").await;
        self.same("purge_done", &self.purge(ALL).await, &0, "nobody's time is up");
        self.pass(LEASE + MARGIN).await;
        for (limit, expected) in [(0, 0), (2, 2), (2, 2), (2, 1), (2, 0), (ALL, 0)] {
            let why = format!("the time of 5 is up, and at most {limit} are to be deleted at once");
            self.same("purge_done", &self.purge(limit).await, &expected, &why);
        }
        self.pass(2 * HOUR).await;
        self.same("purge_done", &self.purge(ALL).await, &0, "nobody else's time is up");
        self.counts([1, 1, 1, 1], "purging takes only what is done").await;
        self.show(kept_lease.id(), &kept, DeliveryState::Done, 1, "its time is not up").await;
        self.show(dead_lease.id(), &dead, DeliveryState::Dead, 1, "it is dead, not done").await;
        self.show(lease.id(), &leased, DeliveryState::Leased, 1, "it is leased, not done").await;
        self.known(&kept, &kept, "purging leaves the ledger").await;
    }

    pub(super) async fn what_is_postponed_waits(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.take_up(&new).await;
        self.postpone(&lease, HOUR, true, "its lease is held").await;
        let entry = self.show(lease.id(), &new, DeliveryState::Ready, 1, "it was postponed").await;
        self.same("show", &entry.reason.as_deref(), &Some("postponed"), "that was the reason");
        self.counts([1, 0, 0, 0], "it waits").await;
        self.pass(HOUR - MARGIN).await;
        self.lease_nothing("its pause is not over").await;
        self.pass(2 * MARGIN).await;
        let lease = self.lease_one(&new, "its pause is over").await;
        self.same("lease", &lease.attempt(), &2, "the first failed");
        self.postpone(&lease, Duration::ZERO, true, "its lease is held").await;
        let lease = self.lease_one(&new, "it was postponed for no time").await;
        self.finish(&lease, Duration::ZERO, true, "its lease is held").await;
    }

    pub(super) async fn what_is_given_back_was_no_attempt(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.take_up(&new).await;
        self.give_back(&lease, true, "its lease is held").await;
        self.show(lease.id(), &new, DeliveryState::Ready, 0, "it was given back").await;
        self.counts([1, 0, 0, 0], "it waits").await;
        let lease = self.lease_one(&new, "it is due at once").await;
        self.same("lease", &lease.attempt(), &1, "it was given back before");
        self.postpone(&lease, LEASE, true, "its lease is held").await;
        self.pass(LEASE + MARGIN).await;
        let lease = self.lease_one(&new, "its pause is over").await;
        self.give_back(&lease, true, "its lease is held").await;
        self.show(lease.id(), &new, DeliveryState::Ready, 1, "the first attempt stays one").await;
        self.lease_one(&new, "it is due at once, if it was postponed before").await;
    }

    pub(super) async fn what_is_buried_stays(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.give_up(&new).await;
        self.pass(RETENTION + HOUR).await;
        self.lease_nothing("it is dead").await;
        let entry = self.show(lease.id(), &new, DeliveryState::Dead, 1, "it stays").await;
        self.same("show", &entry.reason.as_deref(), &Some("buried"), "that was the reason");
        self.same("purge_done", &self.purge(ALL).await, &0, "it is dead, not done");
        self.answer("purge", self.store.purge(ALL).await);
        self.counts([0, 0, 1, 0], "it stays").await;
    }
}

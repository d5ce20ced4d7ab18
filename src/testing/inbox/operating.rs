//! Rules for what an operator sees and does.

use std::time::{Duration, SystemTime};

use super::{
    conflict, delivery,
    subject::{ALL, HOUR, KEEP, LEASE, MARGIN, Subject, roughly},
};
use crate::{
    dedupe::Ledger,
    inbox::{DeliveryId, DeliveryState, InboxStore},
};

/// What a clock may differ from this machine's.
const SKEW: Duration = Duration::from_secs(5 * 60);

impl<S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Subject<'_, S, A> {
    pub(super) async fn all_are_counted(&self) {
        self.counts([0, 0, 0, 0], "nothing was accepted").await;
        for n in 0..3 {
            self.handle(&delivery("warung", &format!("done-{n}"), "body"), KEEP).await;
        }
        for n in 0..2 {
            self.give_up(&delivery("warung", &format!("dead-{n}"), "body")).await;
        }
        self.handle(&delivery("warung", "gone", "body"), Duration::ZERO).await;
        for n in 0..4 {
            self.take_up(&delivery("warung", &format!("leased-{n}"), "body")).await;
        }
        for n in 0..5 {
            self.accept(&delivery("warung", &format!("ready-{n}"), "body"), "its key is not known").await;
        }
        self.counts([5, 4, 2, 3], "5 wait, 4 are leased, 2 are dead, 3 are kept").await;
        self.pass(LEASE + MARGIN).await;
        self.counts([5, 4, 2, 3], "whose lease has run out counts as leased").await;
    }

    pub(super) async fn the_oldest_is_told(&self) {
        let oldest = async |expected: Option<Duration>, why: &str| {
            let found = self.answer("counts", self.store.counts().await).oldest;
            let same = match (found, expected) {
                (None, None) => true,
                (Some(found), Some(expected)) => roughly(found, expected),
                _ => false,
            };
            self.holds(same, &format!("counts gave {found:?} for the oldest, not {expected:?}: {why}"));
        };
        oldest(None, "nothing was accepted").await;
        let dead = self.give_up(&delivery("warung", "dead", "body")).await;
        self.handle(&delivery("warung", "done", "body"), KEEP).await;
        self.pass(HOUR).await;
        oldest(None, "what is dead or done is not waiting").await;
        let first = self.take_up(&delivery("warung", "first", "body")).await;
        self.pass(HOUR).await;
        let second = delivery("warung", "second", "body");
        self.accept(&second, "its key is not known").await;
        oldest(Some(HOUR), "the first is leased since").await;
        self.postpone(&first, KEEP, true, "its lease is held").await;
        oldest(Some(HOUR), "the first waits, and it counts when it was accepted").await;
        self.retry(dead.id(), true, "it is dead").await;
        oldest(Some(2 * HOUR), "what was dead waits again, and it counts when it was accepted").await;
        let leases = self.try_lease(ALL, 1).await;
        for lease in &leases {
            self.finish(lease.lease(), Duration::ZERO, true, "its lease is held").await;
        }
        oldest(Some(HOUR), "the first waits alone").await;
        self.pass(KEEP).await;
        oldest(Some(KEEP + HOUR), "the first waits alone").await;
        self.pass(MARGIN).await;
        let [left] = &self.try_lease(ALL, 10).await[..] else { self.broken("lease gave not one that is due alone") };
        self.finish(left.lease(), Duration::ZERO, true, "its lease is held").await;
        oldest(None, "nothing waits").await;
    }

    pub(super) async fn the_backlog_is_counted_up_to_a_limit(&self) {
        let backlog = async |limit: u64, expected: u64| {
            let found = self.answer("backlog", self.store.backlog(limit).await);
            self.same("backlog", &found, &expected, &format!("at most {limit} are to be counted"));
        };
        backlog(10, 0).await;
        self.handle(&delivery("warung", "done", "body"), KEEP).await;
        self.give_up(&delivery("warung", "dead", "body")).await;
        backlog(10, 0).await;
        for n in 0..3 {
            let lease = self.take_up(&delivery("warung", &format!("leased-{n}"), "body")).await;
            if n == 0 {
                self.postpone(&lease, KEEP, true, "its lease is held").await;
            }
        }
        self.pass(LEASE + MARGIN).await;
        for n in 0..4 {
            self.accept(&delivery("warung", &format!("ready-{n}"), "body"), "its key is not known").await;
        }
        for (limit, expected) in [(0, 0), (1, 1), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 7), (1 << 40, 7)] {
            backlog(limit, expected).await;
        }
    }

    pub(super) async fn the_dead_are_listed_in_pages(&self) {
        self.holds(self.dead(None, ALL).await.is_empty(), "dead gave some where nothing was accepted");
        let mut ids = Vec::new();
        for n in 0..5 {
            ids.push(self.give_up(&delivery("warung", &format!("dead-{n}"), "body")).await.id());
            self.handle(&delivery("warung", &format!("done-{n}"), "body"), KEEP).await;
        }
        self.take_up(&delivery("warung", "leased", "body")).await;
        self.accept(&delivery("warung", "ready", "body"), "its key is not known").await;
        let page = async |after: Option<DeliveryId>, limit: u32, expected: &[DeliveryId]| {
            let found: Vec<_> = self.dead(after, limit).await.iter().map(|entry| entry.id).collect();
            let why = format!("{ids:?} are dead, and at most {limit} after {after:?} were asked for");
            self.same("dead", &found, &expected.to_vec(), &why);
        };
        page(None, ALL, &ids).await;
        page(None, 0, &[]).await;
        page(None, 2, &ids[..2]).await;
        page(Some(ids[1]), 2, &ids[2..4]).await;
        page(Some(ids[3]), 2, &ids[4..]).await;
        page(Some(ids[4]), 2, &[]).await;
        page(Some(DeliveryId::new(i64::MIN)), u32::MAX, &ids).await;
        page(Some(DeliveryId::new(i64::MAX)), ALL, &[]).await;
        // That of one that is done lies between.
        page(Some(DeliveryId::new(ids[0].get() + 1)), 1, &ids[1..2]).await;
        for (n, entry) in self.dead(None, ALL).await.iter().enumerate() {
            self.same("dead", &entry.state, &DeliveryState::Dead, "only those were asked for");
            self.same("dead", &entry.attempts, &1, "each was leased once");
            self.same("dead", &entry.reason.as_deref(), &Some("buried"), "that was the reason");
            self.same("dead", &entry.event_id(), &Some(&*format!("dead-{n}")), "its head says so");
            self.holds(entry.body.is_none(), "dead gave a body");
        }
        self.retry(ids[2], true, "it is dead").await;
        page(Some(ids[1]), 2, &ids[3..]).await;
    }

    pub(super) async fn every_state_is_shown(&self) {
        self.show_nothing(DeliveryId::new(1), "nothing was accepted").await;
        let before = SystemTime::now() - SKEW;
        let all = [
            delivery("warung", "evt", "done"),
            conflict("warung", "evt", "dead"),
            delivery("kedai", "evt", "ready"),
            delivery("kedai", "other", "leased"),
        ];
        let mut ids = Vec::new();
        for (n, new) in all.iter().enumerate() {
            let lease = self.take_up(new).await;
            match n {
                0 => self.finish(&lease, KEEP, true, "its lease is held").await,
                1 => self.bury(&lease, true, "its lease is held").await,
                2 => self.postpone(&lease, HOUR, true, "its lease is held").await,
                _ => {}
            }
            ids.push(lease.id());
        }
        let after = SystemTime::now() + SKEW;
        let states = [DeliveryState::Done, DeliveryState::Dead, DeliveryState::Ready, DeliveryState::Leased];
        for (n, (id, new)) in ids.iter().zip(&all).enumerate() {
            let entry = self.show(*id, new, states[n], 1, "it came to this").await;
            self.same("show", &entry.tenant(), &Some(if n < 2 { "warung" } else { "kedai" }), "its head says so");
            self.same("show", &entry.event_id(), &Some(if n < 3 { "evt" } else { "other" }), "its head says so");
            self.same("show", &entry.is_conflict(), &(n == 1), "its head says so");
            let accepted_at = entry.accepted_at;
            let why = format!("show says that it was accepted at {accepted_at:?}, and it was after {before:?}");
            self.holds(accepted_at >= before && accepted_at <= after, &why);
        }
        self.show_nothing(DeliveryId::new(ids[3].get() + 1), "none has this id").await;
        self.show_nothing(DeliveryId::new(i64::MIN), "none has this id").await;
    }

    pub(super) async fn the_dead_are_retried(&self) {
        let new = delivery("warung", "evt", "body");
        let first = self.take_up(&new).await;
        self.postpone(&first, Duration::ZERO, true, "its lease is held").await;
        let lease = self.lease_one(&new, "it was postponed for no time").await;
        self.bury(&lease, true, "its lease is held").await;
        self.pass(KEEP).await;
        self.retry(lease.id(), true, "it is dead").await;
        self.retry(lease.id(), false, "it was retried already").await;
        self.show(lease.id(), &new, DeliveryState::Ready, 0, "it was retried").await;
        self.counts([1, 0, 0, 0], "it was retried").await;
        let again = self.lease_one(&new, "it is due at once").await;
        self.same("lease", &(again.id(), again.attempt()), &(lease.id(), 1), "it was retried");
        self.finish(&lease, Duration::ZERO, false, "that lease was lost").await;
        self.finish(&again, Duration::ZERO, true, "its lease is held").await;
        self.known(&delivery("warung", "evt", "body"), &new, "it is finished").await;
    }

    pub(super) async fn nothing_but_the_dead_is_retried(&self) {
        let (kept, leased) = (delivery("warung", "kept", "body"), delivery("warung", "leased", "body"));
        let ready = delivery("warung", "ready", "body");
        let kept_lease = self.handle(&kept, KEEP).await;
        let gone = self.handle(&delivery("warung", "gone", "body"), Duration::ZERO).await;
        let postponed = self.take_up(&ready).await;
        self.postpone(&postponed, KEEP, true, "its lease is held").await;
        let lease = self.take_up(&leased).await;
        for id in [kept_lease.id(), gone.id(), postponed.id(), lease.id(), DeliveryId::new(i64::MAX)] {
            self.retry(id, false, "it is not dead").await;
        }
        self.lease_nothing("nothing was dead").await;
        self.show(kept_lease.id(), &kept, DeliveryState::Done, 1, "it is not dead").await;
        self.show(postponed.id(), &ready, DeliveryState::Ready, 1, "it is not dead").await;
        self.show(lease.id(), &leased, DeliveryState::Leased, 1, "it is not dead").await;
        self.extend(&lease, LEASE, true, "its lease is held").await;
    }
}

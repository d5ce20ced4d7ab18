//! Rules for counting, listing, showing and retrying deliveries.

use std::time::{Duration, SystemTime};

use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryId, DeliveryState, InboxAdmin, InboxStore, LeaseRequest},
};

use super::{
    conflict, delivery,
    tested::{ALL, HOUR, KEEP, LEASE, MARGIN, REQUEST, TestedInbox, dead_letter, done, reschedule, roughly},
};

/// The largest difference allowed between the store's clock and this machine's.
const SKEW: Duration = Duration::from_secs(5 * 60);

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn counts_each_state(&self) {
        self.counts([0, 0, 0, 0], "nothing was accepted").await;
        for n in 0..3 {
            self.handle(&delivery("warung", &format!("done-{n}"), "body"), KEEP).await;
        }
        for n in 0..2 {
            self.make_dead(&delivery("warung", &format!("dead-{n}"), "body")).await;
        }
        self.handle(&delivery("warung", "gone", "body"), Duration::ZERO).await;
        for n in 0..4 {
            self.begin(&delivery("warung", &format!("leased-{n}"), "body")).await;
        }
        for n in 0..5 {
            self.accept(&delivery("warung", &format!("ready-{n}"), "body")).await;
        }
        self.counts([5, 4, 2, 3], "5 are ready, 4 leased, 2 dead, and 3 kept").await;
        self.advance(LEASE + MARGIN).await;
        self.counts([5, 4, 2, 3], "a delivery whose lease has expired counts as leased").await;
    }

    pub(super) async fn reports_the_oldest_pending(&self) {
        let oldest = async |expected: Option<Duration>, why: &str| {
            let found = self.answer("counts", self.store.counts().await).oldest;
            let same = match (found, expected) {
                (None, None) => true,
                (Some(found), Some(expected)) => roughly(found, expected),
                _ => false,
            };
            self.holds(same, &format!("counts returned {found:?} as the oldest, not {expected:?}: {why}"));
        };
        oldest(None, "nothing was accepted").await;
        let dead = self.make_dead(&delivery("warung", "dead", "body")).await;
        self.handle(&delivery("warung", "done", "body"), KEEP).await;
        self.advance(HOUR).await;
        oldest(None, "dead and done deliveries are not pending").await;
        let first = self.begin(&delivery("warung", "first", "body")).await;
        self.advance(HOUR).await;
        self.accept(&delivery("warung", "second", "body")).await;
        oldest(Some(HOUR), "the first was accepted an hour ago, and is leased").await;
        self.settle(&first, reschedule(KEEP)).await;
        oldest(Some(HOUR), "the first was accepted an hour ago, and was rescheduled").await;
        self.retry(dead.id()).await;
        oldest(Some(2 * HOUR), "the retried one was accepted two hours ago").await;
        for leased in &self.try_lease(&LeaseRequest { max_attempts: 1, ..REQUEST }).await.leased {
            self.settle(leased.lease(), done(Duration::ZERO)).await;
        }
        oldest(Some(HOUR), "only the first is pending").await;
        self.advance(KEEP).await;
        oldest(Some(KEEP + HOUR), "only the first is pending").await;
        self.advance(MARGIN).await;
        let [left] = &self.try_lease(&REQUEST).await.leased[..] else { self.broken("one delivery is due") };
        self.settle(left.lease(), done(Duration::ZERO)).await;
        oldest(None, "no delivery is pending").await;
    }

    pub(super) async fn counts_the_backlog_up_to_a_limit(&self) {
        let backlog = async |limit: u64, expected: u64| {
            let found = self.answer("backlog", self.store.backlog(limit).await);
            self.same("backlog", &found, &expected, &format!("the limit is {limit}"));
        };
        backlog(10, 0).await;
        self.handle(&delivery("warung", "done", "body"), KEEP).await;
        self.make_dead(&delivery("warung", "dead", "body")).await;
        backlog(10, 0).await;
        for n in 0..3 {
            let lease = self.begin(&delivery("warung", &format!("leased-{n}"), "body")).await;
            if n == 0 {
                self.settle(&lease, reschedule(KEEP)).await;
            }
        }
        self.advance(LEASE + MARGIN).await;
        for n in 0..4 {
            self.accept(&delivery("warung", &format!("ready-{n}"), "body")).await;
        }
        for (limit, expected) in [(0, 0), (1, 1), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 7), (1 << 40, 7)] {
            backlog(limit, expected).await;
        }
    }

    pub(super) async fn lists_dead_deliveries_in_pages(&self) {
        self.holds(self.dead(None, ALL).await.is_empty(), "dead returned deliveries where nothing was accepted");
        let mut ids = Vec::new();
        for n in 0..5 {
            ids.push(self.make_dead(&delivery("warung", &format!("dead-{n}"), "body")).await.id());
            self.handle(&delivery("warung", &format!("done-{n}"), "body"), KEEP).await;
        }
        self.begin(&delivery("warung", "leased", "body")).await;
        self.accept(&delivery("warung", "ready", "body")).await;
        let page = async |after: Option<DeliveryId>, limit: u32, expected: &[DeliveryId]| {
            let found: Vec<_> = self.dead(after, limit).await.iter().map(|entry| entry.id).collect();
            let why = format!("{ids:?} are dead, and up to {limit} after {after:?} were requested");
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
        // `after` may be the id of a delivery that is not dead.
        page(Some(DeliveryId::new(ids[0].get() + 1)), 1, &ids[1..2]).await;
        for (n, entry) in self.dead(None, ALL).await.iter().enumerate() {
            self.same("dead", &entry.state, &DeliveryState::Dead, "only dead deliveries were requested");
            self.same("dead", &entry.attempts, &1, "each delivery was leased once");
            self.same("dead", &entry.reason.as_deref(), &Some("dead-lettered"), "this was the reason");
            self.same("dead", &entry.event_id(), &Some(&*format!("dead-{n}")), "the head says so");
            self.holds(entry.body.is_none(), "dead returned a body");
        }
        self.retry(ids[2]).await;
        page(Some(ids[1]), 2, &ids[3..]).await;
    }

    pub(super) async fn shows_every_state(&self) {
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
            let lease = self.begin(new).await;
            match n {
                0 => self.settle(&lease, done(KEEP)).await,
                1 => self.settle(&lease, dead_letter()).await,
                2 => self.settle(&lease, reschedule(HOUR)).await,
                _ => {}
            }
            ids.push(lease.id());
        }
        let after = SystemTime::now() + SKEW;
        let states = [DeliveryState::Done, DeliveryState::Dead, DeliveryState::Ready, DeliveryState::Leased];
        for (n, (id, new)) in ids.iter().zip(&all).enumerate() {
            let entry = self.show(*id, new, states[n], 1, "the delivery was brought into this state").await;
            self.same("show", &entry.tenant(), &Some(if n < 2 { "warung" } else { "kedai" }), "the head says so");
            self.same("show", &entry.event_id(), &Some(if n < 3 { "evt" } else { "other" }), "the head says so");
            self.same("show", &entry.is_conflict(), &(n == 1), "the head says so");
            let accepted_at = entry.accepted_at;
            let why =
                format!("show returned a delivery that was accepted at {accepted_at:?}, and it was after {before:?}");
            self.holds(accepted_at >= before && accepted_at <= after, &why);
        }
        self.show_nothing(DeliveryId::new(ids[3].get() + 1), "no delivery has this id").await;
        self.show_nothing(DeliveryId::new(i64::MIN), "no delivery has this id").await;
    }

    pub(super) async fn dead_delivery_can_be_retried(&self) {
        let new = delivery("warung", "evt", "body");
        let first = self.begin(&new).await;
        self.settle(&first, reschedule(Duration::ZERO)).await;
        let lease = self.lease_one(&new, "the delivery was rescheduled without a delay").await;
        self.settle(&lease, dead_letter()).await;
        self.advance(KEEP).await;
        self.retry(lease.id()).await;
        self.cannot_retry(lease.id(), "the delivery was retried already").await;
        self.show(lease.id(), &new, DeliveryState::Ready, 0, "the delivery was retried").await;
        self.counts([1, 0, 0, 0], "the delivery was retried").await;
        let again = self.lease_one(&new, "the delivery is due at once").await;
        self.same("lease", &(again.id(), again.attempt()), &(lease.id(), 1), "the delivery was retried");
        self.settle(&again, done(Duration::ZERO)).await;
        self.is_known(&delivery("warung", "evt", "body"), &new, "the delivery is handled").await;
    }

    pub(super) async fn only_dead_deliveries_are_retried(&self) {
        let [kept, ready, leased] = ["kept", "ready", "leased"].map(|id| delivery("warung", id, "body"));
        let kept_lease = self.handle(&kept, KEEP).await;
        let gone = self.handle(&delivery("warung", "gone", "body"), Duration::ZERO).await;
        let ready_lease = self.begin(&ready).await;
        self.settle(&ready_lease, reschedule(KEEP)).await;
        let lease = self.begin(&leased).await;
        for id in [kept_lease.id(), gone.id(), ready_lease.id(), lease.id(), DeliveryId::new(i64::MAX)] {
            self.cannot_retry(id, "the delivery is not dead").await;
        }
        self.lease_nothing("no delivery was dead").await;
        self.show(kept_lease.id(), &kept, DeliveryState::Done, 1, "the delivery is not dead").await;
        self.show(ready_lease.id(), &ready, DeliveryState::Ready, 1, "the delivery is not dead").await;
        self.show(lease.id(), &leased, DeliveryState::Leased, 1, "the delivery is not dead").await;
        self.extend(&lease, LEASE, "the lease is current").await;
    }
}

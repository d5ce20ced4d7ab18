//! Rules for what makes entries absent.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use super::{
    claim, conflict,
    subject::{LEASE, MARGIN, RETENTION, Subject},
};
use crate::dedupe::Ledger;

const HOUR: Duration = Duration::from_secs(60 * 60);

impl<L: Ledger, A: AsyncFn(&L, Duration)> Subject<'_, L, A> {
    pub(super) async fn a_forgotten_event_is_absent(&self) {
        let (held, done) = (claim("warung", "held", "body"), claim("warung", "done", "body"));
        self.claim(&held, "there is no entry").await;
        self.claim(&done, "there is no entry").await;
        self.complete(&done, true, "it holds the entry").await;
        self.forget(&held, 1, "one entry was claimed").await;
        self.forget(&done, 1, "one entry was done").await;
        self.claim(&claim("warung", "held", "body"), "it was forgotten").await;
        self.claim(&claim("warung", "done", "body"), "it was forgotten").await;
    }

    pub(super) async fn conflicts_are_forgotten_with_their_event(&self) {
        let first = claim("warung", "evt", "body");
        let others = [conflict("warung", "evt", "other body"), conflict("warung", "evt", "another body")];
        self.claim(&first, "there is no entry").await;
        for other in &others {
            self.claim(other, "it is an entry of its own").await;
        }
        self.complete(&first, true, "it holds the entry").await;
        self.complete(&others[0], true, "it holds the entry").await;
        self.forget(&others[0], 3, "one event had three entries").await;
        self.claim(&claim("warung", "evt", "body"), "it was forgotten").await;
        self.claim(&conflict("warung", "evt", "other body"), "it was forgotten").await;
        self.claim(&conflict("warung", "evt", "another body"), "it was forgotten").await;

        let alone = conflict("warung", "alone", "body");
        self.claim(&alone, "it is an entry of its own").await;
        self.forget(&alone, 1, "the event had one entry, if not under its own key").await;
        self.claim(&conflict("warung", "alone", "body"), "it was forgotten").await;
    }

    pub(super) async fn other_events_are_not_forgotten(&self) {
        let gone = claim("warung", "evt", "body");
        let (held, done) = (claim("kedai", "evt", "body"), claim("warung", "evt-2", "body"));
        let beside = conflict("kedai", "evt", "other body");
        for kept in [&gone, &held, &done, &beside] {
            self.claim(kept, "it is an entry of its own").await;
        }
        self.complete(&done, true, "it holds the entry").await;
        self.forget(&gone, 1, "one entry was claimed").await;
        self.done(&claim("warung", "evt-2", "body"), done.digest(), "another event was forgotten").await;
        self.complete(&held, true, "the event of another tenant was forgotten").await;
        self.complete(&beside, true, "the event of another tenant was forgotten").await;
    }

    pub(super) async fn what_is_absent_is_not_counted(&self) {
        let never = claim("warung", "never", "body");
        self.forget(&never, 0, "there is no entry").await;
        let (lapsed, expired) = (claim("warung", "evt", "body"), conflict("warung", "evt", "other body"));
        self.claim(&lapsed, "there is no entry").await;
        self.claim(&expired, "there is no entry").await;
        self.complete_for(&expired, LEASE, true, "it holds the entry").await;
        self.pass(LEASE + MARGIN).await;
        self.forget(&lapsed, 0, "an entry whose time is up counts as absent").await;
        let again = claim("warung", "evt", "body");
        self.claim(&again, "it was forgotten").await;
        self.forget(&again, 1, "one entry was claimed").await;
        self.forget(&again, 0, "it was forgotten already").await;
    }

    pub(super) async fn who_was_forgotten_cannot_touch_the_next_claim(&self) {
        let (old, new) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.claim(&old, "there is no entry").await;
        self.forget(&old, 1, "one entry was claimed").await;
        self.renew(&old, false, "it was forgotten").await;
        self.complete(&old, false, "it was forgotten").await;
        self.claim(&new, "it was forgotten").await;
        self.renew(&old, false, "it was forgotten, and another holds it").await;
        self.complete(&old, false, "it was forgotten, and another holds it").await;
        self.release(&old).await;
        self.complete(&new, true, "it holds the entry").await;
    }

    pub(super) async fn a_window_forgets_what_was_claimed_in_it(&self) {
        let old = [
            claim("warung", "old", "body"),
            claim("kedai", "old", "body"),
            conflict("warung", "old", "other body"),
            claim("warung", "old-and-done", "body"),
        ];
        for old in &old {
            self.claim_for(old, 10 * HOUR, "there is no entry").await;
        }
        self.complete(&old[3], true, "it holds the entry").await;
        let lapsed = claim("warung", "lapsed", "body");
        self.claim(&lapsed, "there is no entry").await;
        self.pass(2 * HOUR).await;
        let new = claim("warung", "new", "body");
        self.claim_for(&new, 10 * HOUR, "there is no entry").await;
        self.pass(2 * HOUR).await;

        self.forget_claimed(hours_ago(8, 5), 0, "nothing was claimed as early as that").await;
        self.forget_claimed(hours_ago(3, 3), 0, "nothing was claimed in no time").await;
        self.complete(&old[0], true, "nothing was forgotten").await;
        let why =
            "four entries were claimed 4 hours ago, of several tenants, and a fifth is absent since its lease is over";
        self.forget_claimed(hours_ago(5, 3), 4, why).await;
        self.claim(&claim("warung", "old", "body"), "it was forgotten").await;
        self.claim(&claim("kedai", "old", "body"), "it was forgotten").await;
        self.claim(&conflict("warung", "old", "other body"), "it was forgotten").await;
        self.claim(&claim("warung", "old-and-done", "body"), "it was forgotten").await;
        self.complete(&old[1], false, "it was forgotten").await;
        self.complete(&new, true, "it was claimed later").await;
        let all = SystemTime::UNIX_EPOCH..SystemTime::now() + HOUR;
        self.forget_claimed(all, 5, "one entry was claimed 2 hours ago, and four just now").await;
    }

    pub(super) async fn a_window_goes_by_the_claim_alone(&self) {
        let (renewed, done) = (claim("warung", "renewed", "body"), claim("warung", "done", "body"));
        let released = claim("warung", "released", "body");
        for old in [&renewed, &done, &released] {
            self.claim_for(old, 10 * HOUR, "there is no entry").await;
        }
        self.pass(4 * HOUR).await;
        self.renew(&renewed, true, "it holds the entry").await;
        self.complete(&done, true, "it holds the entry").await;
        self.release(&released).await;
        self.claim(&claim("warung", "released", "body"), "it was released").await;
        let why =
            "of three entries, one was claimed now; the others were renewed and completed now, and claimed before";
        self.forget_claimed(hours_ago(1, 0).start..SystemTime::now() + HOUR, 1, why).await;
        self.forget_claimed(hours_ago(5, 3), 2, why).await;
    }

    pub(super) async fn purging_takes_only_what_is_up(&self) {
        let id = |kind: &str, n: usize| format!("{kind}-{n}");
        let mut kept = Vec::new();
        for n in 0..4 {
            self.claim(&claim("warung", &id("lapsed", n), "body"), "there is no entry").await;
            let expired = claim("warung", &id("expired", n), "body");
            self.claim(&expired, "there is no entry").await;
            self.complete_for(&expired, LEASE, true, "it holds the entry").await;
            let done = claim("warung", &id("done", n), "body");
            self.claim(&done, "there is no entry").await;
            self.complete(&done, true, "it holds the entry").await;
            let held = claim("warung", &id("held", n), "body");
            self.claim_for(&held, RETENTION, "there is no entry").await;
            kept.push((held, done));
        }
        self.purge(100).await;
        for n in 0..4 {
            let lapsed = claim("warung", &id("lapsed", n), "body");
            self.in_flight(&lapsed, lapsed.digest(), "purging leaves what is not up").await;
            let expired = claim("warung", &id("expired", n), "body");
            self.done(&expired, expired.digest(), "purging leaves what is not up").await;
        }
        self.pass(LEASE + MARGIN).await;
        let mut gone = 0;
        for limit in [0, 1, 3, 100, 100] {
            gone += self.purge(limit).await;
        }
        self.holds(gone <= 8, &format!("purge says that it deleted {gone} entries, where the time of 8 is up"));
        for (held, done) in &kept {
            self.renew(held, true, "purging leaves what is not up").await;
            self.done(done, done.digest(), "purging leaves what is not up").await;
        }
        for kind in ["lapsed", "expired"] {
            self.claim(&claim("warung", &id(kind, 0), "body"), "its time is up").await;
        }
    }
}

fn hours_ago(start: u32, end: u32) -> Range<SystemTime> {
    let now = SystemTime::now();
    now - start * HOUR..now - end * HOUR
}

//! Rules for forgetting and purging entries.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use tower_klikit::dedupe::{Claim, ClaimTerms, Ledger, LedgerAdmin};

use super::{
    claim, conflict,
    tested::{GRACE, LEASE, MARGIN, RETENTION, TERMS, TestedLedger},
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const LONG: ClaimTerms = ClaimTerms { lease: Duration::from_secs(10 * 60 * 60), grace: GRACE };

impl<L: Ledger + LedgerAdmin, A: AsyncFn(&L, Duration)> TestedLedger<'_, L, A> {
    pub(super) async fn forgotten_event_is_absent(&self) {
        let (held, done) = (claim("warung", "held", "body"), claim("warung", "done", "body"));
        self.claim(&held, "there is no entry").await;
        self.claim(&done, "there is no entry").await;
        self.complete(&done, "the token holds the entry").await;
        self.forget(&held, 1, "one entry was claimed").await;
        self.forget(&done, 1, "one entry was done").await;
        self.claim(&claim("warung", "held", "body"), "the event was forgotten").await;
        self.claim(&claim("warung", "done", "body"), "the event was forgotten").await;
    }

    pub(super) async fn conflicts_are_forgotten_with_their_event(&self) {
        let first = claim("warung", "evt", "body");
        let others = [conflict("warung", "evt", "other body"), conflict("warung", "evt", "another body")];
        self.claim(&first, "there is no entry").await;
        for other in &others {
            self.claim(other, "a conflict has its own entry").await;
        }
        self.complete(&first, "the token holds the entry").await;
        self.complete(&others[0], "the token holds the entry").await;
        self.forget(&others[0], 3, "the event had three entries").await;
        self.claim(&claim("warung", "evt", "body"), "the event was forgotten").await;
        self.claim(&conflict("warung", "evt", "other body"), "the event was forgotten").await;
        self.claim(&conflict("warung", "evt", "another body"), "the event was forgotten").await;

        let alone = conflict("warung", "alone", "body");
        self.claim(&alone, "a conflict has its own entry").await;
        let by_key = Claim::new(*alone.key().as_bytes(), *alone.key().as_bytes(), *alone.digest(), [0; 16]);
        self.forget(&by_key, 0, "the key of a conflict is no event").await;
        self.forget(&alone, 1, "the event had one entry, under the key of a conflict").await;
        self.claim(&conflict("warung", "alone", "body"), "the event was forgotten").await;
    }

    pub(super) async fn other_events_are_not_forgotten(&self) {
        let gone = claim("warung", "evt", "body");
        let (held, done) = (claim("kedai", "evt", "body"), claim("warung", "evt-2", "body"));
        let other = conflict("kedai", "evt", "other body");
        for kept in [&gone, &held, &done, &other] {
            self.claim(kept, "each claim has its own entry").await;
        }
        self.complete(&done, "the token holds the entry").await;
        self.forget(&gone, 1, "one entry was claimed").await;
        self.is_done(&claim("warung", "evt-2", "body"), done.digest(), "another event was forgotten").await;
        self.complete(&held, "the event of another tenant was forgotten").await;
        self.complete(&other, "the event of another tenant was forgotten").await;
    }

    pub(super) async fn forgetting_counts_only_present_entries(&self) {
        let never = claim("warung", "never", "body");
        self.forget(&never, 0, "there is no entry").await;
        let (claimed, done) = (claim("warung", "evt", "body"), conflict("warung", "evt", "other body"));
        self.claim(&claimed, "there is no entry").await;
        self.claim(&done, "there is no entry").await;
        self.complete_for(&done, LEASE, "the token holds the entry").await;
        self.advance(LEASE + GRACE + MARGIN).await;
        self.forget(&claimed, 0, "the grace of one entry is over, and the retention of the other").await;
        let again = claim("warung", "evt", "body");
        self.claim(&again, "there is no entry").await;
        self.forget(&again, 1, "one entry was claimed").await;
        self.forget(&again, 0, "the event was forgotten").await;
    }

    pub(super) async fn forgets_expired_claims(&self) {
        let [one, other] = ["one", "other"].map(|id| claim("warung", id, "body"));
        self.claim(&one, "there is no entry").await;
        self.claim(&other, "there is no entry").await;
        self.advance(LEASE + MARGIN).await;
        self.forget(&one, 1, "one claim has expired, and is within its grace").await;
        let all = SystemTime::UNIX_EPOCH..SystemTime::now() + HOUR;
        self.forget_claimed(all, 1, "one claim has expired, and is within its grace").await;
        for forgotten in [&one, &other] {
            self.cannot_renew(forgotten, "the claim had expired, and was forgotten").await;
            self.cannot_complete(forgotten, "the claim had expired, and was forgotten").await;
        }
    }

    pub(super) async fn forgotten_claim_cannot_be_completed(&self) {
        let (old, new) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.claim(&old, "there is no entry").await;
        self.forget(&old, 1, "one entry was claimed").await;
        self.cannot_renew(&old, "the claim was forgotten").await;
        self.cannot_complete(&old, "the claim was forgotten").await;
        self.claim(&new, "the claim was forgotten").await;
        self.cannot_renew(&old, "the claim was forgotten, and another token holds the entry").await;
        self.cannot_complete(&old, "the claim was forgotten, and another token holds the entry").await;
        self.release(&old).await;
        self.complete(&new, "the token holds the entry").await;
    }

    pub(super) async fn window_forgets_entries_claimed_in_it(&self) {
        let old = [
            claim("warung", "old", "body"),
            claim("kedai", "old", "body"),
            conflict("warung", "old", "other body"),
            claim("warung", "old-and-done", "body"),
        ];
        for old in &old {
            self.claim_on(old, &LONG, "there is no entry").await;
        }
        self.complete(&old[3], "the token holds the entry").await;
        self.claim(&claim("warung", "over", "body"), "there is no entry").await;
        self.advance(2 * HOUR).await;
        let new = claim("warung", "new", "body");
        self.claim_on(&new, &LONG, "there is no entry").await;
        self.advance(2 * HOUR).await;

        self.forget_claimed(hours_ago(8, 5), 0, "no entry was claimed in this window").await;
        self.forget_claimed(hours_ago(3, 3), 0, "the window is empty").await;
        self.complete(&old[0], "nothing was forgotten").await;
        let why = "four entries of several tenants were claimed 4 hours ago; the grace of a fifth is over";
        self.forget_claimed(hours_ago(5, 3), 4, why).await;
        self.claim(&claim("warung", "old", "body"), "the entry was forgotten").await;
        self.claim(&claim("kedai", "old", "body"), "the entry was forgotten").await;
        self.claim(&conflict("warung", "old", "other body"), "the entry was forgotten").await;
        self.claim(&claim("warung", "old-and-done", "body"), "the entry was forgotten").await;
        self.cannot_complete(&old[1], "the entry was forgotten").await;
        self.complete(&new, "the entry was claimed after the window").await;
        let all = SystemTime::UNIX_EPOCH..SystemTime::now() + HOUR;
        self.forget_claimed(all, 5, "one entry was claimed 2 hours ago, and four just now").await;
    }

    pub(super) async fn window_compares_the_time_of_claim(&self) {
        let long_grace = ClaimTerms { lease: LEASE, grace: 10 * HOUR };
        let [renewed, done, again] = ["renewed", "done", "again"].map(|id| claim("warung", id, "body"));
        let [expired, late] = ["expired", "late"].map(|id| claim("warung", id, "body"));
        let [released, lost] = ["released", "lost"].map(|id| claim("warung", id, "body"));
        for claim in [&renewed, &done, &again, &released] {
            self.claim_on(claim, &LONG, "there is no entry").await;
        }
        for claim in [&expired, &late, &lost] {
            self.claim_on(claim, &long_grace, "there is no entry").await;
        }
        self.advance(4 * HOUR).await;
        self.renew(&renewed, "the token holds the entry").await;
        self.complete(&done, "the token holds the entry").await;
        self.claim(&again, "the token holds the entry").await;
        self.claim(&expired, "the token's claim has expired, and is within its grace").await;
        self.renew(&late, "the token's claim has expired, and is within its grace").await;
        self.release(&released).await;
        self.claim(&claim("warung", "released", "body"), "the claim was released").await;
        self.claim(&claim("warung", "lost", "body"), "the lease is over").await;
        let why = "of seven entries, two were claimed by new tokens just now, after a release and after a lease was over; the \
                   others were first claimed 4 hours ago";
        self.forget_claimed(hours_ago(1, 0).start..SystemTime::now() + HOUR, 2, why).await;
        self.forget_claimed(hours_ago(5, 3), 5, why).await;
    }

    pub(super) async fn purges_only_entries_that_are_over(&self) {
        let id = |kind: &str, n: usize| format!("{kind}-{n}");
        let mut kept = Vec::new();
        for n in 0..4 {
            self.claim(&claim("warung", &id("claimed", n), "body"), "there is no entry").await;
            let short = claim("warung", &id("short", n), "body");
            self.claim(&short, "there is no entry").await;
            self.complete_for(&short, LEASE, "the token holds the entry").await;
            let done = claim("warung", &id("done", n), "body");
            self.claim(&done, "there is no entry").await;
            self.complete(&done, "the token holds the entry").await;
            let held = claim("warung", &id("held", n), "body");
            self.claim_on(&held, &ClaimTerms { lease: RETENTION, ..TERMS }, "there is no entry").await;
            kept.push((held, done));
        }
        self.purge_nothing().await;
        for n in 0..4 {
            let claimed = claim("warung", &id("claimed", n), "body");
            self.in_flight(&claimed, claimed.digest(), "the lease is not over").await;
            let short = claim("warung", &id("short", n), "body");
            self.is_done(&short, short.digest(), "the retention is not over").await;
        }
        self.advance(LEASE + GRACE + MARGIN).await;
        let mut purged = 0;
        for limit in [0, 1, 3, 100, 100] {
            purged += self.purge(limit).await;
        }
        self.holds(purged <= 8, &format!("purge deleted {purged} entries, of which 8 are over"));
        for (held, done) in &kept {
            self.renew(held, "the lease is not over").await;
            self.is_done(done, done.digest(), "the retention is not over").await;
        }
        for kind in ["claimed", "short"] {
            self.claim(&claim("warung", &id(kind, 0), "body"), "the entry is over").await;
        }
    }

    pub(super) async fn purge_keeps_claims_within_their_grace(&self) {
        let all = ["completed", "renewed", "forgotten"].map(|id| claim("warung", id, "body"));
        for claim in &all {
            self.claim(claim, "there is no entry").await;
        }
        self.advance(LEASE + MARGIN).await;
        self.purge_nothing().await;
        self.advance(GRACE - 2 * MARGIN).await;
        self.purge_nothing().await;
        let [completed, renewed, forgotten] = &all;
        self.complete(completed, "the claim is within its grace").await;
        self.renew(renewed, "the claim is within its grace").await;
        self.forget(forgotten, 1, "the claim is within its grace").await;
        self.advance(LEASE + GRACE + MARGIN).await;
        let purged = self.purge(100).await;
        self.holds(purged <= 1, &format!("purge deleted {purged} entries, of which 1 is over"));
        self.is_done(&claim("warung", "completed", "body"), completed.digest(), "the retention is not over").await;
        self.claim(&claim("warung", "renewed", "body"), "the grace is over").await;
    }

    async fn purge_nothing(&self) {
        let purged = self.purge(100).await;
        self.holds(purged == 0, &format!("purge deleted {purged} entries, although no entry is over"));
    }
}

fn hours_ago(start: u32, end: u32) -> Range<SystemTime> {
    let now = SystemTime::now();
    now - start * HOUR..now - end * HOUR
}

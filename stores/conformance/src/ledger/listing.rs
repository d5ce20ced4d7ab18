//! Rules for listing entries.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use tower_klikit::dedupe::{Claim, EventKey, Ledger, LedgerAdmin, LedgerEntry, LedgerSelection, LedgerState};

use super::{
    claim, conflict,
    tested::{GRACE, LEASE, MARGIN, RETENTION, TestedLedger, roughly},
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

impl<L: Ledger + LedgerAdmin, A: AsyncFn(&L, Duration)> TestedLedger<'_, L, A> {
    pub(super) async fn lists_an_event_with_its_conflicts(&self) {
        let event = [
            claim("warung", "evt", "body"),
            conflict("warung", "evt", "other body"),
            conflict("warung", "evt", "another body"),
        ];
        let alone = conflict("warung", "alone", "body");
        let others = [claim("kedai", "evt", "body"), claim("warung", "evt-2", "body"), conflict("kedai", "evt", "b")];
        self.lists(event[0].event(), &[], "there is no entry").await;
        for new in event.iter().chain(&others).chain([&alone]) {
            self.claim(new, "each claim has its own entry").await;
        }
        self.complete(&event[1], "the token holds the entry").await;
        self.lists(event[0].event(), &event.each_ref(), "the event has these entries").await;
        self.lists(alone.event(), &[&alone], "the event has one entry, under the key of a conflict").await;
        self.lists(alone.key(), &[], "the key of a conflict is no event").await;
        self.lists(others[0].event(), &[&others[0], &others[2]], "the event of another tenant has these entries").await;
    }

    pub(super) async fn lists_entries_claimed_in_a_window(&self) {
        let old = [claim("warung", "old", "body"), claim("kedai", "old", "body"), conflict("warung", "old", "b")];
        for new in &old {
            self.claim(new, "there is no entry").await;
            self.complete(new, "the token holds the entry").await;
        }
        self.advance(2 * HOUR).await;
        let new = claim("warung", "new", "body");
        self.claim(&new, "there is no entry").await;
        self.lists(hours_ago(5, 3), &[], "no entry was claimed in this window").await;
        self.lists(hours_ago(1, 1), &[], "the window is empty").await;
        let why = "these entries were claimed and completed 2 hours ago, those of several tenants";
        self.lists(hours_ago(3, 1), &old.each_ref(), why).await;
        let all = SystemTime::UNIX_EPOCH..SystemTime::now() + HOUR;
        self.lists(all, &[&old[0], &old[1], &old[2], &new], "the window contains all entries").await;
    }

    pub(super) async fn window_has_its_start_and_not_its_end(&self) {
        let only = claim("warung", "evt", "body");
        self.claim(&only, "there is no entry").await;
        let at = self.entry(&only).await.claimed_at;
        let why = &format!("the entry was claimed at {at:?}");
        self.lists(at..at + SECOND, &[&only], why).await;
        self.lists(at - HOUR..at, &[], why).await;
    }

    pub(super) async fn lists_claimed_and_done_entries(&self) {
        let [claimed, done] = ["claimed", "done"].map(|id| claim("warung", id, "body"));
        self.claim(&claimed, "there is no entry").await;
        self.claim(&done, "there is no entry").await;
        self.advance(2 * MARGIN).await;
        self.complete(&done, "the token holds the entry").await;
        self.is_listed(&claimed, LedgerState::Claimed, LEASE, "the claim is as long as its lease").await;
        let rival = claim("warung", "claimed", "body");
        let remaining = self.in_flight(&rival, claimed.digest(), "nobody completed the claim").await;
        let rest = LEASE - 2 * MARGIN;
        self.holds(roughly(remaining, rest), &format!("{remaining:?} remain of a lease that was listed, not {rest:?}"));
        let why = "the entry was completed after its claim, and its retention counts from then";
        self.is_listed(&done, LedgerState::Done, 2 * MARGIN + RETENTION, why).await;
        self.renew(&claimed, "the token holds the entry").await;
        self.is_listed(&claimed, LedgerState::Claimed, 2 * MARGIN + LEASE, "the claim was renewed").await;
    }

    pub(super) async fn lists_entries_in_pages(&self) {
        let mut all: Vec<Claim> =
            ["a", "b", "c", "d", "e", "f"].iter().map(|id| conflict("warung", "evt", id)).collect();
        for new in &all {
            self.claim(new, "there is no entry").await;
        }
        all.sort_by_key(|claim| *claim.key());
        let event = LedgerSelection::from(all[0].event());
        let ever = LedgerSelection::from(SystemTime::UNIX_EPOCH..SystemTime::now() + HOUR);
        self.release(&all[3]).await;
        for selection in [&event, &ever] {
            for (after, limit, expected) in [
                (None, 2, &all[..2]),
                (Some(1), 1, &all[2..3]),
                (Some(2), 2, &all[4..]),
                (Some(3), 1, &all[4..5]),
                (Some(3), 100, &all[4..]),
                (Some(5), 100, &[]),
            ] {
                let after = after.map(|position: usize| *all[position].key());
                let keys: Vec<EventKey> =
                    self.page(selection, after, limit).await.into_iter().map(|entry| entry.key).collect();
                let expected: Vec<EventKey> = expected.iter().map(|claim| *claim.key()).collect();
                let why = format!("of {selection:?} after {after:?}, these are the first {limit}");
                self.same("entries", &keys, &expected, &why);
            }
        }
    }

    pub(super) async fn leaves_out_entries_that_are_over(&self) {
        let [claimed, done, expired] =
            [claim("warung", "evt", "body"), conflict("warung", "evt", "b"), conflict("warung", "evt", "c")];
        self.claim(&claimed, "there is no entry").await;
        self.claim(&done, "there is no entry").await;
        self.complete_for(&done, LEASE, "the token holds the entry").await;
        self.advance(GRACE).await;
        self.claim(&expired, "there is no entry").await;
        self.advance(LEASE + MARGIN).await;
        let ever = SystemTime::UNIX_EPOCH..SystemTime::now() + HOUR;
        for selection in [LedgerSelection::from(claimed.event()), ever.into()] {
            let why = "the grace of one entry is over, the retention of another, and a third is within its grace";
            self.lists(selection, &[&expired], why).await;
        }
        self.is_listed(&expired, LedgerState::Claimed, LEASE, "the lease is over, and the grace is not").await;
        self.claim(&claim("warung", "evt", "body"), "the grace is over").await;
    }

    /// Checks that these are the entries that the selection contains.
    async fn lists(&self, selection: impl Into<LedgerSelection>, expected: &[&Claim], why: &str) {
        let listed = self.page(&selection.into(), None, 100).await;
        let mut listed: Vec<_> = listed.iter().map(|entry| (entry.key, entry.event, entry.digest)).collect();
        // Another rule checks the order.
        listed.sort_unstable_by_key(|(key, ..)| *key);
        let mut expected: Vec<_> =
            expected.iter().map(|claim| (*claim.key(), *claim.event(), *claim.digest())).collect();
        expected.sort_unstable_by_key(|(key, ..)| *key);
        self.same("entries", &listed, &expected, why);
    }

    /// Checks the state of an entry, and the time from its claim to the end of its lease or retention.
    async fn is_listed(&self, claim: &Claim, state: LedgerState, lasts: Duration, why: &str) {
        let entry = self.entry(claim).await;
        self.same("entries", &entry.state, &state, why);
        let found = entry.until.duration_since(entry.claimed_at).unwrap_or_default();
        self.holds(
            roughly(found, lasts),
            &format!("entries returned an entry that lasts for {found:?}, not {lasts:?}: {why}"),
        );
        let grace = if state == LedgerState::Claimed { GRACE } else { Duration::ZERO };
        let kept = entry.kept_until.duration_since(entry.until).unwrap_or_default();
        self.holds(
            roughly(kept, grace),
            &format!("entries returned an entry that is kept for {kept:?}, not {grace:?}, after its end"),
        );
    }

    /// Returns this claim's entry.
    async fn entry(&self, claim: &Claim) -> LedgerEntry {
        let listed = self.page(&claim.event().into(), None, 100).await;
        let found = listed.into_iter().find(|entry| entry.key == *claim.key());
        found.unwrap_or_else(|| self.broken("entries returned no entry for a key that is claimed or done"))
    }

    async fn page(&self, selection: &LedgerSelection, after: Option<EventKey>, limit: u32) -> Vec<LedgerEntry> {
        self.answer("entries", self.store.entries(selection, after, limit).await)
    }
}

fn hours_ago(start: u32, end: u32) -> Range<SystemTime> {
    let now = SystemTime::now();
    now - start * HOUR..now - end * HOUR
}

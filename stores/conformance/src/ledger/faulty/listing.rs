//! Faults of listing entries.

use std::time::{Duration, SystemTime};

use tower_klikit::dedupe::{EventKey, LedgerEntry, LedgerSelection, LedgerState};

use super::{
    FaultyLedger, FaultyState,
    faults::LedgerFault::{self, *},
};
use crate::ledger::reference::Entry;

impl FaultyLedger {
    pub(super) fn list_now(
        &self,
        state: &mut FaultyState,
        selection: &LedgerSelection,
        after: Option<EventKey>,
        limit: u32,
    ) -> Vec<LedgerEntry> {
        let (fault, now) = (self.fault, state.now);
        // Before the creation, everything is still kept.
        let kept_at = if fault == ListingShowsEntriesThatAreOver { Duration::ZERO } else { now };
        let mut listed = state.entries.list(kept_at, None, u32::MAX, |entry| self.is_listed(entry, selection, now));
        match fault {
            ListingIgnoresItsStart => {}
            ListingIncludesItsStart => listed.retain(|entry| after.is_none_or(|after| *entry.claim.key() >= after)),
            _ => listed.retain(|entry| after.is_none_or(|after| *entry.claim.key() > after)),
        }
        if fault != ListingIgnoresItsLimit {
            listed.truncate(limit as usize);
        }
        match fault {
            ListingIsUnordered => listed.reverse(),
            ListingRenews => {
                for entry in listed.iter().filter(|entry| !entry.is_done) {
                    let renewed = state.entries.0.get_mut(entry.claim.key()).expect("the entry is listed");
                    renewed.until = now + (entry.until - entry.claimed_at);
                    renewed.kept_until = renewed.until + (entry.kept_until - entry.until);
                }
            }
            _ => {}
        }
        listed.iter().map(|entry| listed_entry(fault, entry, |time| self.wall(time, now))).collect()
    }

    fn is_listed(&self, entry: &Entry, selection: &LedgerSelection, now: Duration) -> bool {
        let (claim, claimed_at) = (&entry.claim, self.wall(entry.claimed_at, now));
        let is_selected = selection.matches(claim.event(), claimed_at);
        match (self.fault, selection) {
            (ListingLeavesOutConflicts, LedgerSelection::Event(event)) => claim.key() == event,
            (ListingTakesOtherEvents, LedgerSelection::Event(_)) => true,
            (ListingTakesOtherConflicts, LedgerSelection::Event(_)) => is_selected || claim.is_conflict(),
            (ListingFindsConflictsByKey, LedgerSelection::Event(event)) => is_selected || claim.key() == event,
            (ListingIgnoresTheWindow, LedgerSelection::Claimed(_)) => true,
            (ListingGoesByTheEnd, LedgerSelection::Claimed(window)) => window.contains(&self.wall(entry.until, now)),
            (WindowLeavesOutConflicts, LedgerSelection::Claimed(_)) => is_selected && !claim.is_conflict(),
            (WindowExcludesItsStart, LedgerSelection::Claimed(window)) => is_selected && claimed_at != window.start,
            (WindowIncludesItsEnd, LedgerSelection::Claimed(window)) => is_selected || claimed_at == window.end,
            (ListingLeavesOutExpiredClaims, _) => is_selected && !entry.has_expired(now),
            _ => is_selected,
        }
    }

    /// Converts a time of the reference to the system's time. The same time has one result until the clock is advanced.
    pub(super) fn wall(&self, time: Duration, now: Duration) -> SystemTime {
        if time < now { self.created_at - (now - time) } else { self.created_at + (time - now) }
    }
}

fn listed_entry(fault: LedgerFault, entry: &Entry, wall: impl Fn(Duration) -> SystemTime) -> LedgerEntry {
    let claim = &entry.claim;
    let is_done = match fault {
        EverythingIsListedAsDone => true,
        EverythingIsListedAsClaimed => false,
        _ => entry.is_done,
    };
    LedgerEntry {
        key: *claim.key(),
        event: if fault == ListedConflictsAreEvents { *claim.key() } else { *claim.event() },
        digest: *claim.digest(),
        state: if is_done { LedgerState::Done } else { LedgerState::Claimed },
        claimed_at: wall(entry.claimed_at),
        until: wall(match fault {
            ListedUntilIncludesTheGrace => entry.kept_until,
            ListedUntilIsTheTimeOfClaim => entry.claimed_at,
            _ => entry.until,
        }),
        kept_until: wall(match fault {
            ListedKeptUntilLeavesOutTheGrace => entry.until,
            _ => entry.kept_until,
        }),
    }
}

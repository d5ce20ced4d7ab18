//! Faults of counting entries.

use std::time::Duration;

use tower_klikit::dedupe::LedgerSelection;

use super::{FaultyLedger, FaultyState, faults::LedgerFault::*};
use crate::ledger::reference::Entry;

impl FaultyLedger {
    pub(super) fn count_now(&self, state: &mut FaultyState, selection: &LedgerSelection) -> u64 {
        let now = state.now;
        match self.fault {
            CountingForgets => state.entries.forget(now, |entry| self.is_counted(entry, selection, now)),
            // At the creation, everything is still kept.
            CountingTakesEntriesThatAreOver => {
                state.entries.count(Duration::ZERO, |entry| self.is_counted(entry, selection, now))
            }
            _ => state.entries.count(now, |entry| self.is_counted(entry, selection, now)),
        }
    }

    fn is_counted(&self, entry: &Entry, selection: &LedgerSelection, now: Duration) -> bool {
        let claim = &entry.claim;
        let is_selected = selection.matches(claim.event(), self.wall(entry.claimed_at, now));
        match (self.fault, selection) {
            (CountingLeavesOutConflicts, LedgerSelection::Event(_)) => is_selected && !claim.is_conflict(),
            (CountingTakesOtherEvents, LedgerSelection::Event(_)) => true,
            (CountingFindsConflictsByKey, LedgerSelection::Event(event)) => is_selected || claim.key() == event,
            (CountingIgnoresTheWindow, LedgerSelection::Claimed(_)) => true,
            (CountingLeavesOutDoneEntries, _) => is_selected && !entry.is_done,
            (CountingLeavesOutExpiredClaims, _) => is_selected && !entry.has_expired(now),
            _ => is_selected,
        }
    }
}

//! Faults of forgetting entries.

use std::{ops::Range, time::SystemTime};

use tower_klikit::dedupe::EventKey;

use super::{DAY, FaultyLedger, FaultyState, faults::LedgerFault::*};
use crate::ledger::reference::Entry;

impl FaultyLedger {
    pub(super) fn forget_event(&self, state: &mut FaultyState, event: &EventKey) -> u64 {
        let now = state.now;
        match self.fault {
            ForgettingDoesNothing => 1,
            ForgettingTakesOtherEvents => self.forget_now(state, |_| true),
            ForgettingLeavesExpiredClaims => {
                self.forget_now(state, |entry| entry.is_of(event) && !entry.has_expired(now))
            }
            ForgettingFindsConflictsByKey => {
                self.forget_now(state, |entry| entry.is_of(event) || entry.claim.key() == event)
            }
            ForgettingTakesOtherConflicts => {
                let is_conflict = |entry: &Entry| entry.claim.is_conflict();
                self.forget_now(state, |entry| entry.is_of(event) || is_conflict(entry))
            }
            _ => self.forget_now(state, |entry| entry.is_of(event)),
        }
    }

    pub(super) fn forget_claimed(&self, state: &mut FaultyState, window: &Range<SystemTime>) -> u64 {
        let now = state.now;
        let window = match self.fault {
            WindowTakesAll => SystemTime::UNIX_EPOCH..SystemTime::now() + DAY,
            WindowIsMissed => window.start - DAY..window.end - DAY,
            _ => window.clone(),
        };
        let is_spared = |entry: &Entry| self.fault == WindowLeavesExpiredClaims && entry.has_expired(now);
        let is_in = |entry: &Entry| window.contains(&self.wall(entry.claimed_at, now));
        self.forget_now(state, |entry| is_in(entry) && !is_spared(entry))
    }

    fn forget_now(&self, state: &mut FaultyState, chosen: impl Fn(&Entry) -> bool) -> u64 {
        let now = state.now;
        let is_spared = |entry: &Entry| entry.has_expired(now) && entry.kept_until > now;
        let all: Vec<Entry> = state.entries.0.values().filter(|entry| chosen(entry)).cloned().collect();
        let forgotten = state.entries.forget(now, chosen);
        match self.fault {
            ForgettingCountsEntriesThatAreOver => return all.len() as u64,
            ForgettingCountsDoneEntriesThatAreOver => {
                let is_over = |entry: &&Entry| entry.is_done && entry.kept_until <= now;
                return forgotten + all.iter().filter(is_over).count() as u64;
            }
            ForgettingDoesNotCountExpiredClaims => {
                return forgotten - all.iter().filter(|e| is_spared(e)).count() as u64;
            }
            _ => {}
        }
        state.forgotten = all.into_iter().next().map(|entry| entry.claim);
        forgotten
    }
}

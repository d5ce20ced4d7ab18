//! Faults of counting the keys that can be forgotten.

use std::time::Duration;

use tower_klikit::dedupe::LedgerSelection;

use super::FaultyStore;
use crate::inbox::{faulty::faults::InboxFault::*, state::ReferenceInbox};

impl FaultyStore {
    pub(super) fn counted_keys(&self, state: &mut ReferenceInbox, selection: &LedgerSelection) -> u64 {
        let selects = state.selects(selection);
        let mut counted = state.clone();
        match (self.fault, selection) {
            (CountingForgets, _) => return state.forget_keys(selection),
            (CountTakesPendingOnes, _) => {
                let pending =
                    state.deliveries.values().filter(|d| d.is_pending() && selects(d.request.claim(), d.accepted));
                return state.count_keys(selection) + pending.count() as u64;
            }
            (CountTakesPendingRows, _) => counted.deliveries.retain(|_, d| !d.is_pending()),
            (CountTakesDeliveriesAndRows, _) => {
                counted.ledger.0.clear();
                let by_deliveries = counted.count_keys(selection);
                counted.clone_from(state);
                counted.deliveries.retain(|_, d| d.is_pending());
                return by_deliveries + counted.count_keys(selection);
            }
            (CountTakesRowsThatAreOver, _) => {
                counted.ledger.0.values_mut().for_each(|row| row.kept_until = Duration::MAX);
            }
            (CountLeavesOutExpiredClaims, _) => counted.ledger.0.retain(|_, row| !row.has_expired(state.now)),
            (CountLeavesOutDeliveries, LedgerSelection::Event(_))
            | (WindowCountLeavesOutDeliveries, LedgerSelection::Claimed(_)) => {
                counted.deliveries.retain(|_, d| d.is_pending());
            }
            (CountLeavesOutRows, LedgerSelection::Event(_))
            | (WindowCountLeavesOutRows, LedgerSelection::Claimed(_)) => counted.ledger.0.clear(),
            (CountLeavesOutConflicts, LedgerSelection::Event(event)) => {
                return state.forgettable(|claim, _| claim.key() == event).len() as u64;
            }
            (CountTakesOtherEvents, LedgerSelection::Event(_)) | (WindowCountTakesAll, LedgerSelection::Claimed(_)) => {
                return state.forgettable(|_, _| true).len() as u64;
            }
            _ => {}
        }
        counted.count_keys(selection)
    }
}

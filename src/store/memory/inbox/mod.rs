//! [`InboxStore`] and [`InboxAdmin`] for the memory store.

mod admin;
mod deliveries;
mod lease;
mod row;
mod settle;

use std::{collections::BTreeSet, time::Duration};

pub(super) use self::deliveries::Deliveries;
use self::deliveries::KeyState;
use super::{
    MemoryStore, StoreFull, StoreState,
    table::{LedgerTable, Timestamp},
};
use crate::{
    dedupe::{Claim, ClaimOutcome, ClaimTerms, EventKey, LedgerSelection, StoreError},
    inbox::{
        Acceptance, ActivePause, Counts, DeliveryId, DeliveryState, Entry, Filter, InboxAdmin, InboxStore, Lease,
        LeaseBatch, LeaseRequest, LedgerRows, NewDelivery, Page, Pause, SettleOutcome, Settlement, ShowBody,
    },
};

impl MemoryStore {
    /// Adds an entry that is done from the start, if the key can be claimed.
    fn claim_done(
        &self,
        ledger: &mut LedgerTable,
        claim: &Claim,
        now: Timestamp,
        retention: Duration,
    ) -> Result<ClaimOutcome, StoreFull> {
        let outcome = self.claim_in(ledger, claim, now, &done_for(retention))?;
        if outcome == ClaimOutcome::Claimed {
            ledger.complete(claim, now.tick(), retention);
        }
        Ok(outcome)
    }

    fn try_accept(&self, new: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreFull> {
        let mut state = self.shared.state();
        let StoreState { ledger, deliveries } = &mut *state;
        let now = self.shared.timestamp();
        match deliveries.key_state(new.claim().key()) {
            KeyState::Unfinished(digest) => {
                // If the ledger is full, the stored delivery itself makes the key known.
                let _ = self.claim_done(ledger, &Claim { digest, ..new.claim().clone() }, now, retention);
                Ok(deliveries.known(new, digest))
            }
            KeyState::Dead(_, digest) if !new.is_same_as(&digest) => Ok(deliveries.known(new, digest)),
            KeyState::Dead(id, _) if !new.revives() => Ok(Acceptance::Dead { head: deliveries.head(id) }),
            KeyState::Dead(id, _) => {
                // Add the entry even to a full store: a delivery that was acknowledged before must not be rejected.
                ledger.forget_key(new.claim().key());
                ledger.claim(new.claim(), now, &done_for(retention));
                ledger.complete(new.claim(), now.tick(), retention);
                deliveries.revive(id, new, now);
                Ok(Acceptance::Revived)
            }
            KeyState::Absent => match self.claim_done(ledger, new.claim(), now, retention)? {
                ClaimOutcome::Claimed => {
                    deliveries.add(new, now);
                    Ok(Acceptance::Accepted)
                }
                ClaimOutcome::Done { digest } => Ok(deliveries.known(new, digest)),
                ClaimOutcome::InFlight { digest, remaining } => Ok(Acceptance::InFlight { digest, remaining }),
            },
        }
    }
}

impl StoreState {
    /// Returns the keys that can be forgotten: those whose delivery or ledger entry is selected, without the keys of
    /// unfinished deliveries.
    fn forgettable_keys(&self, selection: &LedgerSelection, now: Timestamp) -> BTreeSet<EventKey> {
        let mut keys: BTreeSet<_> = self.deliveries.keys(selection, now).into_iter().collect();
        keys.extend(self.ledger.keys(selection, now));
        keys.retain(|key| !self.deliveries.is_unfinished(key));
        keys
    }
}

/// `lease` iterates over all due deliveries, `counts` and `purge_dead` over all deliveries.
///
/// The memory holds up to [`max_backlog`](crate::inbox::Inbox::max_backlog) unfinished deliveries. Together with dead
/// letters and kept deliveries, it holds up to [`max_stored`](crate::inbox::Inbox::max_stored).
impl InboxStore for MemoryStore {
    async fn accept(&self, delivery: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
        let accepted = self.try_accept(delivery, retention);
        self.warn_if_full();
        accepted.map_err(StoreError::new)
    }

    async fn lease(&self, request: &LeaseRequest<'_>) -> Result<LeaseBatch, StoreError> {
        Ok(self.shared.state().deliveries.lease(self.shared.timestamp(), request))
    }

    async fn start(&self, leases: &[Lease], worker: &str) -> Result<Vec<bool>, StoreError> {
        let mut state = self.shared.state();
        let now = self.shared.timestamp();
        Ok(leases.iter().map(|lease| state.deliveries.start(lease, worker, now)).collect())
    }

    async fn extend(&self, leases: &[Lease], duration: Duration) -> Result<Vec<bool>, StoreError> {
        let mut state = self.shared.state();
        let until = self.shared.now().after(duration);
        Ok(leases.iter().map(|lease| state.deliveries.extend(lease, until)).collect())
    }

    async fn settle(&self, settlements: &[(Lease, Settlement)]) -> Result<Vec<SettleOutcome>, StoreError> {
        let mut state = self.shared.state();
        let now = self.shared.timestamp();
        Ok(settlements.iter().map(|(lease, settlement)| state.deliveries.settle(lease, settlement, now)).collect())
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        Ok(self.shared.state().deliveries.counts(self.shared.timestamp()))
    }

    async fn backlog(&self, limit: u64) -> Result<u64, StoreError> {
        Ok(self.shared.state().deliveries.backlog().min(limit))
    }

    async fn purge_done(&self, limit: u32) -> Result<u64, StoreError> {
        Ok(self.shared.state().deliveries.purge_done(self.shared.now(), limit))
    }

    async fn stored(&self, limit: u64) -> Result<u64, StoreError> {
        Ok(self.shared.state().deliveries.stored().min(limit))
    }

    async fn evict_done(&self, limit: u32) -> Result<u64, StoreError> {
        Ok(self.shared.state().deliveries.evict_done(limit))
    }

    async fn purge_dead(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        Ok(self.shared.state().deliveries.purge_dead(self.shared.now(), age, limit))
    }
}

/// `count_keys` and `forget_keys` iterate over all deliveries.
impl InboxAdmin for MemoryStore {
    async fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Result<Page, StoreError> {
        Ok(self.shared.state().deliveries.find(filter, after, limit, self.shared.timestamp()))
    }

    async fn show(&self, id: DeliveryId, body: ShowBody) -> Result<Option<Entry>, StoreError> {
        Ok(self.shared.state().deliveries.show(id, body, self.shared.timestamp()))
    }

    async fn requeue(&self, ids: &[DeliveryId], states: &[DeliveryState]) -> Result<u64, StoreError> {
        Ok(self.shared.state().deliveries.requeue(ids, states, self.shared.now()))
    }

    async fn dead_letter(&self, ids: &[DeliveryId], states: &[DeliveryState], reason: &str) -> Result<u64, StoreError> {
        Ok(self.shared.state().deliveries.dead_letter_all(ids, states, reason))
    }

    async fn delete(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
        ledger_rows: LedgerRows,
    ) -> Result<u64, StoreError> {
        let mut state = self.shared.state();
        let StoreState { ledger, deliveries } = &mut *state;
        let deleted = deliveries.delete(ids, states);
        if ledger_rows == LedgerRows::Delete {
            deleted.iter().for_each(|key| ledger.forget_key(key));
        }
        Ok(deleted.len() as u64)
    }

    async fn count_keys(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        Ok(self.shared.state().forgettable_keys(selection, self.shared.timestamp()).len() as u64)
    }

    async fn forget_keys(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        let mut state = self.shared.state();
        let keys = state.forgettable_keys(selection, self.shared.timestamp());
        for key in &keys {
            state.deliveries.forget(key);
            state.ledger.forget_key(key);
        }
        Ok(keys.len() as u64)
    }

    async fn pause(&self, pause: &Pause, operator: &str) -> Result<u64, StoreError> {
        Ok(self.shared.state().deliveries.pause(pause, operator, self.shared.timestamp()))
    }

    async fn resume(&self, pause: &Pause) -> Result<bool, StoreError> {
        Ok(self.shared.state().deliveries.resume(pause))
    }

    async fn pauses(&self) -> Result<Vec<ActivePause>, StoreError> {
        Ok(self.shared.state().deliveries.pauses(self.shared.timestamp()))
    }
}

/// Returns the terms of an entry that is done from the start.
fn done_for(retention: Duration) -> ClaimTerms {
    ClaimTerms { lease: retention, grace: Duration::ZERO }
}

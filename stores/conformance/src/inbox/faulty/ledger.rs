//! The ledger of the faulty store, with its faults.

use std::time::Duration;

use tower_klikit::dedupe::{BodyDigest, Claim, ClaimOutcome, ClaimTerms, Ledger, LedgerSelection, StoreError};

use super::FaultyStore;
use crate::inbox::{faulty::faults::InboxFault::*, state::ReferenceInbox};

impl Ledger for FaultyStore {
    async fn claim(&self, claim: &Claim, terms: &ClaimTerms) -> Result<ClaimOutcome, StoreError> {
        let mut state = self.state();
        let is_stored = state.id_of(claim.key()).is_some();
        let ReferenceInbox { now, ledger, .. } = &mut *state;
        Ok(match self.fault {
            StoredCanBeClaimed if is_stored => ClaimOutcome::Claimed,
            LedgerLosesDigests if is_stored => ClaimOutcome::Done { digest: BodyDigest::of(b"") },
            _ => ledger.claim(claim, terms, *now),
        })
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        let ReferenceInbox { now, ledger, .. } = &mut *self.state();
        Ok(ledger.complete(claim, retention, *now))
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let ReferenceInbox { now, ledger, .. } = &mut *self.state();
        ledger.release(claim, *now);
        Ok(())
    }

    async fn renew(&self, claims: &[Claim], terms: &ClaimTerms) -> Result<Vec<bool>, StoreError> {
        let ReferenceInbox { now, ledger, .. } = &mut *self.state();
        Ok(claims.iter().map(|claim| ledger.renew(claim, terms, *now)).collect())
    }

    async fn forget(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        let mut state = self.state();
        if self.fault == LedgerGoesByAcceptance && matches!(selection, LedgerSelection::Claimed(_)) {
            let accepted: Vec<_> = state.deliveries.values().map(|d| (d.key(), d.accepted)).collect();
            for (key, accepted) in accepted {
                state.ledger.0.entry(key).and_modify(|row| row.claimed_at = accepted);
            }
        }
        Ok(state.forget_in_ledger(selection))
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        let ReferenceInbox { now, ledger, .. } = &mut *self.state();
        Ok(ledger.purge(limit, *now))
    }
}

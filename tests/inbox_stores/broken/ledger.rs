//! How the ledger of an inbox can be wrong.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use tower_klikit::dedupe::{BodyDigest, Claim, ClaimOutcome, EventKey, Ledger, StoreError};

use super::Broken;
use crate::faults::Fault::*;

impl Ledger for Broken {
    async fn claim(&self, claim: &Claim, lease: Duration) -> Result<ClaimOutcome, StoreError> {
        let mut state = self.state();
        if self.fault == LedgersAreApart && state.id_of(claim.key()).is_some() {
            return Ok(ClaimOutcome::Claimed);
        }
        if self.fault == DigestsAreLost && state.id_of(claim.key()).is_some() {
            return Ok(ClaimOutcome::Done { digest: BodyDigest::of(b"") });
        }
        Ok(state.claim(claim, lease))
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        Ok(self.state().complete(claim, retention))
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        self.state().release(claim);
        Ok(())
    }

    async fn renew(&self, claim: &Claim, lease: Duration) -> Result<bool, StoreError> {
        Ok(self.state().renew(claim, lease))
    }

    async fn forget(&self, event: &EventKey) -> Result<u64, StoreError> {
        Ok(self.state().forget_rows(|row| row.claim.event() == event))
    }

    async fn forget_claimed(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        let mut state = self.state();
        if self.fault == TheLedgerGoesByAcceptance {
            let accepted: Vec<_> = state.deliveries.values().map(|d| (*d.request.claim().key(), d.accepted)).collect();
            for (key, accepted) in accepted {
                state.ledger.entry(key).and_modify(|row| row.claimed = accepted);
            }
        }
        Ok(state.forget_claimed(&window))
    }

    async fn purge(&self, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }
}

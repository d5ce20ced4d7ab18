//! The reference as a ledger.

use std::{mem, time::Duration};

use tower_klikit::dedupe::{Claim, ClaimOutcome};

use super::{Row, State};

impl State {
    pub(crate) fn claim(&mut self, claim: &Claim, lease: Duration) -> ClaimOutcome {
        let (now, until) = (self.now, self.now + lease);
        match self.row(claim.key()) {
            Some(row) if row.is_done => ClaimOutcome::Done { digest: *row.claim.digest() },
            Some(row) if row.claim.token() != claim.token() => {
                ClaimOutcome::InFlight { digest: *row.claim.digest(), remaining: row.until - now }
            }
            Some(_) => {
                self.ledger.get_mut(claim.key()).expect("it was found").until = until;
                ClaimOutcome::Claimed
            }
            None => {
                self.ledger.insert(*claim.key(), Row { claim: claim.clone(), is_done: false, until, claimed: now });
                ClaimOutcome::Claimed
            }
        }
    }

    /// The row that this token has claimed or completed.
    fn own(&mut self, claim: &Claim) -> Option<&mut Row> {
        let now = self.now;
        self.ledger.get_mut(claim.key()).filter(|row| row.until > now && row.claim.token() == claim.token())
    }

    pub(crate) fn complete(&mut self, claim: &Claim, retention: Duration) -> bool {
        let until = self.now + retention;
        let Some(row) = self.own(claim) else { return false };
        if !mem::replace(&mut row.is_done, true) {
            row.until = until;
        }
        true
    }

    pub(crate) fn release(&mut self, claim: &Claim) {
        if self.own(claim).is_some_and(|row| !row.is_done) {
            self.ledger.remove(claim.key());
        }
    }

    pub(crate) fn renew(&mut self, claim: &Claim, lease: Duration) -> bool {
        let until = self.now + lease;
        match self.own(claim) {
            Some(row) if !row.is_done => {
                row.until = until;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn forget_rows(&mut self, which: impl Fn(&Row) -> bool) -> u64 {
        let now = self.now;
        let forgotten = self.ledger.values().filter(|row| which(row) && row.until > now).count();
        self.ledger.retain(|_, row| !which(row));
        forgotten as u64
    }
}

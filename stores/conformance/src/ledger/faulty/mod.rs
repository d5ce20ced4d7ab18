//! Tests that the suite and the model find faulty ledgers, and that the suite names the broken rule.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
};
use tower_klikit::dedupe::{
    BodyDigest, Claim, ClaimOutcome, ClaimTerms, EventKey, Ledger, LedgerAdmin, LedgerEntry, LedgerSelection,
    StoreError,
};

mod count;
mod faults;
mod forget;
mod listing;

use self::faults::{
    LedgerFault::{self, *},
    NOT_FOUND_BY_CHANCE, RULES,
};
use crate::{
    ledger::{
        self, model,
        reference::{Entries, Entry},
    },
    random::{cases, finds},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const LONG: Duration = Duration::from_secs(1000 * 24 * 60 * 60);

#[test]
fn suite_names_each_broken_rule() {
    let mut wrong = Vec::new();
    for (fault, rule) in RULES {
        let make = async || FaultyLedger::new(*fault);
        let found = panic::catch_unwind(AssertUnwindSafe(|| runtime().block_on(ledger::check(make, advance))));
        let message = match found {
            Ok(()) => "nothing".into(),
            Err(panic) => *panic.downcast::<String>().unwrap(),
        };
        if !message.contains(&format!("`{rule}`")) {
            wrong.push(format!("{fault:?}: the suite reported {message}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn suite_accepts_the_reference() {
    runtime().block_on(ledger::check(async || FaultyLedger::new(Sound), advance));
}

#[test]
fn model_finds_most_faults() {
    let (runtime, cases) = (runtime(), cases(500, &model::steps(100)));
    let is_found =
        |fault| finds(&cases, |steps| runtime.block_on(model::run(&FaultyLedger::new(fault), &advance, steps)));
    assert!(!is_found(Sound), "the reference differs from itself");
    let faults = RULES.iter().map(|(fault, _)| *fault).filter(|fault| !NOT_FOUND_BY_CHANCE.contains(fault));
    let missed: Vec<_> = faults.filter(|fault| !is_found(*fault)).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

async fn advance(store: &FaultyLedger, time: Duration) {
    store.state().now += time;
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// A store that follows the reference except for one fault.
#[derive(Debug)]
struct FaultyLedger {
    fault: LedgerFault,
    created_at: SystemTime,
    state: Mutex<FaultyState>,
}

/// The state of a [`FaultyLedger`].
#[derive(Debug, Default)]
struct FaultyState {
    now: Duration,
    entries: Entries,
    /// The last claim that was forgotten.
    forgotten: Option<Claim>,
    /// The last claim whose entry another token took over.
    lost: Option<Claim>,
}

impl FaultyLedger {
    fn new(fault: LedgerFault) -> Self {
        Self { fault, created_at: SystemTime::now(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, FaultyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the claim as this store stores it.
    fn stored(&self, claim: &Claim) -> Claim {
        let (mut key, mut event) = (*claim.key().as_bytes(), *claim.event().as_bytes());
        let mut digest = *claim.digest().as_bytes();
        match self.fault {
            ConflictsShareAnEntry => key = event,
            KeyIsCut => key[15] = 0,
            DigestIsCut => digest[31] = 0,
            ForgettingLeavesConflicts => event = key,
            _ => {}
        }
        Claim::new(key, event, BodyDigest::from(digest), *claim.token().as_bytes())
    }

    fn claim_now(&self, state: &mut FaultyState, claim: &Claim, terms: &ClaimTerms) -> ClaimOutcome {
        let FaultyState { now, entries, lost, .. } = state;
        let (fault, now) = (self.fault, *now);
        let before = entries.kept(claim.key(), now).cloned();
        let is_own = before.as_ref().is_some_and(|entry| !entry.is_done && entry.claim.token() == claim.token());
        let has_expired = before.as_ref().is_some_and(|entry| entry.has_expired(now));
        let rejected = ClaimOutcome::InFlight { digest: *claim.digest(), remaining: terms.lease };
        match fault {
            HolderCannotClaimAgain if is_own && !has_expired => return rejected,
            ExpiredClaimIsNotClaimedAgain if is_own && has_expired => return rejected,
            ExpiredClaimBlocksOthers if has_expired && !is_own => return rejected,
            ClaimingAgainDoesNotRenew if is_own && !has_expired => return ClaimOutcome::Claimed,
            _ => {}
        }
        let outcome = entries.claim(claim, terms, now);
        if has_expired && !is_own {
            *lost = before.as_ref().map(|entry| entry.claim.clone());
        }
        let Some(entry) = entries.0.get_mut(claim.key()) else { return outcome };
        match (fault, &outcome) {
            (HeldEntryIsClaimed, ClaimOutcome::InFlight { .. }) => return ClaimOutcome::Claimed,
            (WholeLeaseRemains, ClaimOutcome::InFlight { digest, .. }) => {
                return ClaimOutcome::InFlight { digest: *digest, remaining: terms.lease };
            }
            (RemainingIncludesGrace, ClaimOutcome::InFlight { digest, .. }) => {
                return ClaimOutcome::InFlight { digest: *digest, remaining: entry.kept_until - now };
            }
            (RejectedClaimRenews, ClaimOutcome::InFlight { .. }) => {
                *entry = Entry::claimed(&entry.claim, terms, now);
            }
            (ExpiredClaimIsAbsent, ClaimOutcome::Claimed) => entry.kept_until = entry.until,
            (LeaseNeverEnds, ClaimOutcome::Claimed) => (entry.until, entry.kept_until) = (now + LONG, now + LONG),
            (GraceNeverEnds, ClaimOutcome::Claimed) => entry.kept_until = now + LONG,
            (EachClaimHasAGrace, ClaimOutcome::Claimed) => {
                entry.kept_until = entry.until + if terms.grace.is_zero() { DAY } else { terms.grace };
            }
            (ClaimingAgainMovesTheClaim, ClaimOutcome::Claimed) if is_own && !has_expired => entry.claimed_at = now,
            (ClaimingLateMovesTheClaim, ClaimOutcome::Claimed) if is_own && has_expired => entry.claimed_at = now,
            (TakingOverKeepsTheTime, ClaimOutcome::Claimed) if has_expired && !is_own => {
                entry.claimed_at = before.expect("an expired entry").claimed_at;
            }
            _ => {}
        }
        outcome
    }

    fn complete_now(&self, state: &mut FaultyState, claim: &Claim, retention: Duration) -> bool {
        let FaultyState { now, entries, forgotten, lost } = state;
        let (fault, now) = (self.fault, *now);
        let before = entries.kept(claim.key(), now).cloned();
        let has_expired = before.as_ref().is_some_and(|entry| entry.has_expired(now));
        let claim = match (fault, &before) {
            (AnyTokenCompletes, Some(entry)) => &entry.claim,
            _ => claim,
        };
        match (fault, &before) {
            (CompletingTwiceFails, Some(entry)) if entry.is_done => return false,
            (ExpiredClaimIsNotCompleted, _) if has_expired => return false,
            (LateCompletionIsForgotten, Some(entry)) if has_expired && entry.claim.token() == claim.token() => {
                return true;
            }
            (LostClaimCompletes, Some(_)) if lost.as_ref() == Some(claim) => {
                entries.0.insert(*claim.key(), Entry::done(claim, retention, now));
            }
            (ForgottenClaimCompletes, None) if forgotten.as_ref() == Some(claim) => {
                entries.0.insert(*claim.key(), Entry::claimed(claim, &DAY_LONG, now));
            }
            _ => {}
        }
        let completed = entries.complete(claim, retention, now);
        if let (true, Some(entry), Some(before)) = (completed, entries.0.get_mut(claim.key()), before)
            && !before.is_done
        {
            match fault {
                DoneEndsWithTheLease => (entry.until, entry.kept_until) = (before.until, before.until),
                DoneNeverEnds => (entry.until, entry.kept_until) = (now + LONG, now + LONG),
                LeaseOutlastsTheCompletion => {
                    let until = entry.until.max(before.until);
                    (entry.until, entry.kept_until) = (until, until);
                }
                CompletingMovesTheClaim => entry.claimed_at = now,
                _ => {}
            }
        }
        completed
    }

    fn renew_now(&self, state: &mut FaultyState, claim: &Claim, terms: &ClaimTerms) -> bool {
        let (fault, now) = (self.fault, state.now);
        let entries = &mut state.entries;
        let before = entries.kept(claim.key(), now).cloned();
        let has_expired = before.as_ref().is_some_and(|entry| entry.has_expired(now));
        let mut claim = claim;
        match (fault, &before) {
            (RenewingDoesNothing, _) => return entries.held(claim, now).is_some(),
            (ExpiredClaimIsNotRenewed, _) if has_expired => return false,
            (AnyTokenRenews, Some(entry)) if !has_expired => claim = &entry.claim,
            (AnyTokenRenewsExpiredClaims, Some(entry)) if has_expired => claim = &entry.claim,
            (DoneEntryIsRenewed, Some(entry)) if entry.is_done && entry.claim == *claim => {
                entries.0.insert(*claim.key(), Entry::done(claim, terms.lease, now));
                return true;
            }
            _ => {}
        }
        let renewed = entries.renew(claim, terms, now);
        if let (true, Some(entry), Some(before)) = (renewed, entries.0.get_mut(claim.key()), before) {
            match fault {
                RenewingExtendsOnlyTheGrace if has_expired => entry.until = before.until,
                RenewedClaimKeepsItsOldGrace => entry.kept_until = before.kept_until.max(entry.until),
                RenewingNeverShortensTheGrace => entry.kept_until = entry.kept_until.max(before.kept_until),
                RenewingNeverShortens => entry.until = entry.until.max(before.until),
                RenewingMovesTheClaim => entry.claimed_at = now,
                ExpiredClaimIsAbsent => entry.kept_until = entry.until,
                GraceNeverEnds => entry.kept_until = now + LONG,
                _ => {}
            }
        }
        renewed
    }
}

const DAY_LONG: ClaimTerms = ClaimTerms { lease: DAY, grace: DAY };

impl Ledger for FaultyLedger {
    async fn claim(&self, claim: &Claim, terms: &ClaimTerms) -> Result<ClaimOutcome, StoreError> {
        let claim = &self.stored(claim);
        if self.fault == ClaimFails {
            return Err(StoreError::new("the claim failed"));
        }
        // The entry that the first of the two steps finds.
        let found = {
            let state = self.state();
            let is_claimable = state.entries.live(claim.key(), state.now).is_none();
            match (self.fault, state.entries.kept(claim.key(), state.now)) {
                (ClaimingIsTwoSteps, None) if is_claimable => Some(None),
                (TakingOverIsTwoSteps, Some(expired)) if is_claimable => Some(Some(expired.clone())),
                _ => None,
            }
        };
        if let Some(found) = found {
            yield_now().await;
            let entries = &mut self.state().entries.0;
            entries.remove(claim.key());
            entries.extend(found.map(|entry| (*claim.key(), entry)));
        }
        Ok(self.claim_now(&mut self.state(), claim, terms))
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        let claim = &self.stored(claim);
        if self.fault == LateCompletionIsTwoSteps {
            let expired = {
                let mut state = self.state();
                let now = state.now;
                state.entries.held(claim, now).filter(|entry| entry.has_expired(now)).cloned()
            };
            if let Some(expired) = expired {
                yield_now().await;
                self.state().entries.0.insert(*claim.key(), expired);
            }
        }
        Ok(self.complete_now(&mut self.state(), claim, retention))
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let claim = &self.stored(claim);
        let mut state = self.state();
        let FaultyState { now, entries, lost, .. } = &mut *state;
        let now = *now;
        let before = entries.kept(claim.key(), now).cloned();
        let has_expired = before.as_ref().is_some_and(|entry| entry.has_expired(now));
        match (self.fault, before) {
            (ReleasingDoesNothing, _) => {}
            (ExpiredClaimIsNotReleased, _) if has_expired => {}
            (AnyTokenReleases, Some(entry)) if !has_expired => entries.release(&entry.claim, now),
            (AnyTokenReleasesExpiredClaims, Some(entry)) if has_expired => entries.release(&entry.claim, now),
            (LostClaimReleasesItsSuccessor, Some(entry)) if lost.as_ref() == Some(claim) => {
                entries.release(&entry.claim, now);
            }
            (ReleasingUndoesACompletion, Some(entry)) if entry.claim == *claim => drop(entries.0.remove(claim.key())),
            _ => entries.release(claim, now),
        }
        Ok(())
    }

    async fn renew(&self, claims: &[Claim], terms: &ClaimTerms) -> Result<Vec<bool>, StoreError> {
        let mut state = self.state();
        if self.fault == RenewingNothingFails && claims.is_empty() {
            return Err(StoreError::new("nothing to renew"));
        }
        let before = state.entries.clone();
        let mut renewed = Vec::new();
        for (n, claim) in claims.iter().enumerate() {
            let is_skipped = match self.fault {
                RenewsOnlyTheFirst => n > 0,
                RenewsUntilOneFails => renewed.contains(&false),
                _ => false,
            };
            renewed.push(!is_skipped && self.renew_now(&mut state, &self.stored(claim), terms));
        }
        match self.fault {
            RenewsAllOrNone if renewed.contains(&false) => {
                state.entries = before;
                renewed.fill(false);
            }
            RenewalsAreAnsweredBackwards => renewed.reverse(),
            _ => {}
        }
        Ok(renewed)
    }

    async fn forget(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        let mut state = self.state();
        Ok(match selection {
            LedgerSelection::Event(event) => self.forget_event(&mut state, event),
            LedgerSelection::Claimed(window) => self.forget_claimed(&mut state, window),
        })
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        let mut state = self.state();
        let now = state.now;
        Ok(match self.fault {
            PurgeIgnoresItsLimit => state.entries.purge(u32::MAX, now),
            PurgeTakesAll => {
                state.entries.0.clear();
                0
            }
            PurgeTakesExpiredClaims => {
                state.entries.0.retain(|_, entry| !entry.has_expired(now));
                0
            }
            _ => state.entries.purge(limit, now),
        })
    }
}

impl LedgerAdmin for FaultyLedger {
    async fn entries(
        &self,
        selection: &LedgerSelection,
        after: Option<EventKey>,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        Ok(self.list_now(&mut self.state(), selection, after, limit))
    }

    async fn count(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        Ok(self.count_now(&mut self.state(), selection))
    }
}

//! The suite finds a ledger that breaks a rule, and says which.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    panic::{self, AssertUnwindSafe},
    sync::Mutex,
    time::{Duration, SystemTime},
};

use tokio::runtime::Builder;
use tower_klikit::{
    dedupe::{BodyDigest, Claim, ClaimOutcome, EventKey, Ledger, StoreError},
    store::MemoryStore,
    testing::ledger,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const LONG: Duration = Duration::from_secs(1000 * 24 * 60 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    ClaimFails,
    WhatIsHeldIsClaimed,
    TheWholeLeaseRemains,
    RefusedClaimsRenew,
    TheHolderIsRefused,
    DoneEndsWithTheLease,
    DoneNeverEnds,
    TheLeaseOutlastsTheCompletion,
    AnyoneCompletes,
    CompletingAgainFails,
    LeasesNeverEnd,
    LatecomersTakeTheClaimBack,
    ReleasingDoesNothing,
    AnyoneReleases,
    ReleasingUndoesWhatIsDone,
    RenewingDoesNothing,
    AnyoneRenews,
    WhatIsDoneIsRenewed,
    ConflictsShareAnEntry,
    TheDigestsEndIsLost,
    TheKeysEndIsLost,
    ForgettingDoesNothing,
    ForgettingLeavesConflicts,
    ForgettingTakesAll,
    ForgettingCountsWhatIsUp,
    TheForgottenComeBack,
    WindowsTakeAll,
    WindowsAreMissed,
    RenewingMovesTheClaim,
    PurgingTakesTooMany,
    PurgingTakesAll,
    ClaimsAreTwoSteps,
    TakingOverIsTwoSteps,
}

use Fault::*;

const RULES: &[(Fault, &str)] = &[
    (ClaimFails, "what_is_absent_can_be_claimed"),
    (WhatIsHeldIsClaimed, "what_another_holds_is_in_flight"),
    (TheWholeLeaseRemains, "what_another_holds_is_in_flight"),
    (RefusedClaimsRenew, "a_refused_claim_changes_nothing"),
    (TheHolderIsRefused, "the_holder_can_claim_again"),
    (DoneEndsWithTheLease, "completing_twice_succeeds"),
    (DoneNeverEnds, "what_is_done_stays_done_for_its_retention"),
    (TheLeaseOutlastsTheCompletion, "the_retention_starts_at_the_completion"),
    (AnyoneCompletes, "only_the_holder_can_complete"),
    (CompletingAgainFails, "completing_twice_succeeds"),
    (LeasesNeverEnd, "what_another_holds_is_in_flight"),
    (LatecomersTakeTheClaimBack, "a_lease_ends"),
    (ReleasingDoesNothing, "what_was_released_can_be_claimed"),
    (AnyoneReleases, "only_the_holder_can_release"),
    (ReleasingUndoesWhatIsDone, "what_is_done_cannot_be_released"),
    (RenewingDoesNothing, "a_renewed_lease_starts_anew"),
    (AnyoneRenews, "only_the_holder_can_renew"),
    (WhatIsDoneIsRenewed, "what_is_done_cannot_be_renewed"),
    (ConflictsShareAnEntry, "entries_do_not_touch_each_other"),
    (TheDigestsEndIsLost, "what_another_holds_is_in_flight"),
    (TheKeysEndIsLost, "every_byte_is_kept"),
    (ForgettingDoesNothing, "a_forgotten_event_is_absent"),
    (ForgettingLeavesConflicts, "conflicts_are_forgotten_with_their_event"),
    (ForgettingTakesAll, "a_forgotten_event_is_absent"),
    (ForgettingCountsWhatIsUp, "what_is_absent_is_not_counted"),
    (TheForgottenComeBack, "who_was_forgotten_cannot_touch_the_next_claim"),
    (WindowsTakeAll, "a_window_forgets_what_was_claimed_in_it"),
    (WindowsAreMissed, "a_window_forgets_what_was_claimed_in_it"),
    (RenewingMovesTheClaim, "a_window_goes_by_the_claim_alone"),
    (PurgingTakesTooMany, "purging_takes_only_what_is_up"),
    (PurgingTakesAll, "purging_takes_only_what_is_up"),
    (ClaimsAreTwoSteps, "one_of_many_claims_wins"),
    (TakingOverIsTwoSteps, "one_of_many_takes_over_what_is_up"),
];

#[test]
fn every_fault_is_found() {
    let mut wrong = Vec::new();
    for (fault, rule) in RULES {
        let make = async || Broken { fault: *fault, ..Broken::default() };
        let advance = async |_: &Broken, time: Duration| tokio::time::advance(time).await;
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let found = panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(ledger::check(make, advance))));
        let message = match found {
            Ok(()) => "nothing".into(),
            Err(panic) => *panic.downcast::<String>().unwrap(),
        };
        if !message.contains(&format!("`{rule}`")) {
            wrong.push(format!("{fault:?}: the suite said {message}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A memory store with one fault.
#[derive(Debug)]
struct Broken {
    fault: Fault,
    store: MemoryStore,
    /// Who holds, or has completed, each entry, as far as it is known here.
    holders: Mutex<HashMap<EventKey, Claim>>,
    /// How many entries of each event were claimed ever.
    claimed: Mutex<HashMap<EventKey, u64>>,
    forgotten: Mutex<HashSet<EventKey>>,
}

impl Default for Broken {
    fn default() -> Self {
        Self {
            fault: ClaimFails,
            store: MemoryStore::new(),
            holders: Mutex::default(),
            claimed: Mutex::default(),
            forgotten: Mutex::default(),
        }
    }
}

impl Broken {
    fn holder(&self, claim: &Claim) -> Option<Claim> {
        self.holders.lock().unwrap().get(claim.key()).cloned()
    }

    /// The claim as this store understands it.
    fn seen(&self, claim: &Claim) -> Claim {
        let (mut key, event, mut digest) =
            (*claim.key().as_bytes(), *claim.event().as_bytes(), *claim.digest().as_bytes());
        match self.fault {
            ConflictsShareAnEntry => key = event,
            TheKeysEndIsLost => key[15] = 0,
            TheDigestsEndIsLost => digest[31] = 0,
            // Then an entry's event is never another's.
            ForgettingLeavesConflicts => {
                return Claim::new(key, key, BodyDigest::from(digest), *claim.token().as_bytes());
            }
            _ => {}
        }
        Claim::new(key, event, BodyDigest::from(digest), *claim.token().as_bytes())
    }

    /// What is there.
    async fn look(&self, claim: &Claim) -> Result<Option<ClaimOutcome>, StoreError> {
        let onlooker = Claim::new(*claim.key().as_bytes(), *claim.event().as_bytes(), *claim.digest(), [99; 16]);
        let outcome = self.store.claim(&onlooker, DAY).await?;
        self.store.release(&onlooker).await?;
        Ok(Some(outcome).filter(|outcome| *outcome != ClaimOutcome::Claimed))
    }

    async fn take(&self, claim: &Claim, lease: Duration) -> Result<ClaimOutcome, StoreError> {
        let outcome = self.store.claim(claim, lease).await?;
        if outcome == ClaimOutcome::Claimed {
            self.holders.lock().unwrap().insert(*claim.key(), claim.clone());
        }
        Ok(outcome)
    }
}

impl Ledger for Broken {
    async fn claim(&self, claim: &Claim, lease: Duration) -> Result<ClaimOutcome, StoreError> {
        let claim = &self.seen(claim);
        *self.claimed.lock().unwrap().entry(*claim.event()).or_default() += 1;
        let holder = self.holder(claim);
        let asked = if self.fault == LeasesNeverEnd { LONG } else { lease };
        let takes_two = match self.fault {
            ClaimsAreTwoSteps => holder.is_none(),
            TakingOverIsTwoSteps => holder.is_some(),
            _ => false,
        };
        if takes_two && self.look(claim).await?.is_none() {
            tokio::task::yield_now().await;
            if let Some(winner) = self.holder(claim) {
                self.store.release(&winner).await?;
            }
        }
        let outcome = self.take(claim, asked).await?;
        match (self.fault, outcome) {
            (ClaimFails, _) => Err(StoreError::new("no")),
            (WhatIsHeldIsClaimed, ClaimOutcome::InFlight { .. }) => Ok(ClaimOutcome::Claimed),
            (TheWholeLeaseRemains, ClaimOutcome::InFlight { digest, .. }) => {
                Ok(ClaimOutcome::InFlight { digest, remaining: lease })
            }
            (RefusedClaimsRenew, outcome @ ClaimOutcome::InFlight { .. }) => {
                self.store.renew(&holder.unwrap(), lease).await?;
                Ok(outcome)
            }
            (TheHolderIsRefused, ClaimOutcome::Claimed) if holder.as_ref() == Some(claim) => {
                Ok(ClaimOutcome::InFlight { digest: *claim.digest(), remaining: lease })
            }
            (_, outcome) => Ok(outcome),
        }
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        let claim = &self.seen(claim);
        let holder = self.holder(claim);
        match self.fault {
            DoneEndsWithTheLease => self.store.complete(claim, Duration::from_secs(60)).await,
            DoneNeverEnds => self.store.complete(claim, LONG).await,
            TheLeaseOutlastsTheCompletion => self.store.complete(claim, retention.max(Duration::from_secs(600))).await,
            AnyoneCompletes => self.store.complete(&holder.unwrap_or_else(|| claim.clone()), retention).await,
            CompletingAgainFails => {
                Ok(self.store.renew(claim, DAY).await? && self.store.complete(claim, retention).await?)
            }
            LatecomersTakeTheClaimBack | TheForgottenComeBack => {
                let was_forgotten = self.forgotten.lock().unwrap().contains(claim.event());
                let comes_back =
                    holder.as_ref() == Some(claim) && was_forgotten == (self.fault == TheForgottenComeBack);
                if comes_back && self.look(claim).await?.is_none() {
                    self.take(claim, DAY).await?;
                }
                self.store.complete(claim, retention).await
            }
            _ => self.store.complete(claim, retention).await,
        }
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let claim = &self.seen(claim);
        match (self.fault, self.holder(claim)) {
            (ReleasingDoesNothing, _) => Ok(()),
            (AnyoneReleases, Some(holder)) => self.store.release(&holder).await,
            (ReleasingUndoesWhatIsDone, Some(holder)) if holder == *claim => {
                self.store.forget(claim.event()).await.map(|_| ())
            }
            _ => self.store.release(claim).await,
        }
    }

    async fn renew(&self, claim: &Claim, lease: Duration) -> Result<bool, StoreError> {
        let claim = &self.seen(claim);
        match (self.fault, self.holder(claim)) {
            (RenewingDoesNothing, _) => match self.look(claim).await? {
                Some(ClaimOutcome::InFlight { remaining, .. }) => self.store.renew(claim, remaining).await,
                _ => Ok(false),
            },
            (AnyoneRenews, Some(holder)) => self.store.renew(&holder, lease).await,
            (WhatIsDoneIsRenewed, _) if matches!(self.look(claim).await?, Some(ClaimOutcome::Done { .. })) => {
                self.store.complete(claim, lease).await
            }
            (RenewingMovesTheClaim, _) => {
                let held = self.store.renew(claim, lease).await?;
                if held {
                    self.store.release(claim).await?;
                    self.store.claim(claim, lease).await?;
                }
                Ok(held)
            }
            _ => self.store.renew(claim, lease).await,
        }
    }

    async fn forget(&self, event: &EventKey) -> Result<u64, StoreError> {
        self.forgotten.lock().unwrap().insert(*event);
        match self.fault {
            ForgettingDoesNothing => Ok(1),
            ForgettingTakesAll => self.forget_claimed(SystemTime::UNIX_EPOCH..SystemTime::now() + DAY).await,
            ForgettingCountsWhatIsUp => {
                self.store.forget(event).await?;
                Ok(self.claimed.lock().unwrap().remove(event).unwrap_or_default())
            }
            _ => self.store.forget(event).await,
        }
    }

    async fn forget_claimed(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        match self.fault {
            WindowsTakeAll => self.store.forget_claimed(SystemTime::UNIX_EPOCH..SystemTime::now() + DAY).await,
            WindowsAreMissed => self.store.forget_claimed(window.start - DAY..window.end - DAY).await,
            _ => self.store.forget_claimed(window).await,
        }
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        match self.fault {
            PurgingTakesTooMany => self.store.purge(u32::MAX).await,
            PurgingTakesAll => {
                self.store.forget_claimed(SystemTime::UNIX_EPOCH..SystemTime::now() + DAY).await?;
                Ok(0)
            }
            _ => self.store.purge(limit).await,
        }
    }
}

//! The faults of ledgers, and the rule by which the suite finds each.

macro_rules! faults {
    ($($fault:ident: $rule:ident,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Fault {
            /// Without a fault.
            Sound,
            $($fault,)*
        }

        /// Each fault, and the rule by which the suite finds it.
        pub(crate) const RULES: &[(Fault, &str)] = &[$((Fault::$fault, stringify!($rule)),)*];
    };
}

faults! {
    ClaimFails: absent_entry_can_be_claimed,
    HeldEntryIsClaimed: held_entry_is_in_flight,
    WholeLeaseRemains: held_entry_is_in_flight,
    RemainingIncludesGrace: held_entry_is_in_flight,
    LeaseNeverEnds: held_entry_is_in_flight,
    DigestIsCut: held_entry_is_in_flight,
    RejectedClaimRenews: rejected_claim_changes_nothing,
    HolderCannotClaimAgain: holder_can_claim_again,
    ClaimingAgainDoesNotRenew: holder_can_claim_again,
    AnyTokenCompletes: only_holder_can_complete,
    CompletingTwiceFails: completing_twice_succeeds,
    DoneEndsWithTheLease: completing_twice_succeeds,
    ExpiredClaimBlocksOthers: expired_claim_can_be_taken_over,
    ExpiredClaimIsAbsent: expired_claim_can_be_completed,
    ExpiredClaimIsNotCompleted: expired_claim_can_be_completed,
    LateCompletionIsForgotten: expired_claim_can_be_completed,
    ExpiredClaimIsNotRenewed: expired_claim_can_be_renewed,
    RenewingExtendsOnlyTheGrace: expired_claim_can_be_renewed,
    ExpiredClaimIsNotClaimedAgain: expired_claim_can_be_claimed_again,
    ExpiredClaimIsNotReleased: expired_claim_can_be_released,
    AnyTokenReleasesExpiredClaims: expired_claim_can_be_released,
    LostClaimIsTakenBack: lost_claim_cannot_touch_its_successor,
    LostClaimReleasesItsSuccessor: lost_claim_cannot_touch_its_successor,
    GraceNeverEnds: claim_is_absent_after_its_grace,
    EachClaimHasAGrace: claim_is_absent_after_its_grace,
    RenewedClaimKeepsItsOldGrace: renewed_claim_has_a_new_grace,
    RenewingNeverShortensTheGrace: renewed_claim_has_a_new_grace,
    DoneNeverEnds: done_entry_lasts_for_its_retention,
    LeaseOutlastsTheCompletion: retention_starts_at_completion,
    ReleasingDoesNothing: released_entry_can_be_claimed,
    AnyTokenReleases: only_holder_can_release,
    ReleasingUndoesACompletion: done_entry_cannot_be_released,
    RenewingDoesNothing: renewed_lease_starts_anew,
    RenewingNeverShortens: renewed_lease_starts_anew,
    AnyTokenRenews: only_holder_can_renew,
    AnyTokenRenewsExpiredClaims: only_holder_can_renew,
    DoneEntryIsRenewed: done_entry_cannot_be_renewed,
    RenewsOnlyTheFirst: renews_many_claims_in_order,
    RenewsUntilOneFails: renews_many_claims_in_order,
    RenewsAllOrNone: renews_many_claims_in_order,
    RenewalsAreAnsweredBackwards: renews_many_claims_in_order,
    RenewingNothingFails: renews_many_claims_in_order,
    ConflictsShareAnEntry: entries_do_not_touch_each_other,
    KeyIsCut: keeps_every_byte,
    ForgettingDoesNothing: expired_claim_can_be_released,
    ForgettingLeavesConflicts: conflicts_are_forgotten_with_their_event,
    ForgettingTakesOtherEvents: forgotten_event_is_absent,
    ForgettingTakesOtherConflicts: other_events_are_not_forgotten,
    ForgettingCountsEntriesThatAreOver: claim_is_absent_after_its_grace,
    ForgettingCountsDoneEntriesThatAreOver: absent_entries_are_not_counted,
    ForgottenClaimComesBack: forgotten_claim_cannot_be_completed,
    ForgettingDoesNotCountExpiredClaims: forgets_expired_claims,
    ForgettingLeavesExpiredClaims: forgets_expired_claims,
    WindowLeavesExpiredClaims: forgets_expired_claims,
    WindowTakesAll: window_forgets_entries_claimed_in_it,
    WindowIsMissed: window_forgets_entries_claimed_in_it,
    RenewingMovesTheClaim: window_goes_by_time_of_claim,
    ClaimingAgainMovesTheClaim: window_goes_by_time_of_claim,
    ClaimingLateMovesTheClaim: window_goes_by_time_of_claim,
    CompletingMovesTheClaim: window_forgets_entries_claimed_in_it,
    TakingOverKeepsTheTime: window_goes_by_time_of_claim,
    PurgeIgnoresItsLimit: purges_only_entries_that_are_over,
    PurgeTakesAll: purges_only_entries_that_are_over,
    PurgeTakesExpiredClaims: purge_keeps_claims_within_their_grace,
    ClaimingIsTwoSteps: one_of_many_claims_wins,
    TakingOverIsTwoSteps: one_of_many_takes_over,
    LateCompletionIsTwoSteps: late_completion_races_with_a_takeover,
}

/// The faults that random calls do not find: they need keys that differ in one byte, or calls that run at once.
pub(crate) const NOT_FOUND_BY_CHANCE: &[Fault] =
    &[Fault::KeyIsCut, Fault::ClaimingIsTwoSteps, Fault::TakingOverIsTwoSteps, Fault::LateCompletionIsTwoSteps];

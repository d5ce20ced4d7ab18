//! Faults of ledgers, each with the rule that the suite must report for it.

macro_rules! faults {
    ($($fault:ident: $rule:ident,)*) => {
        /// A way in which a ledger differs from the reference.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum LedgerFault {
            /// No fault.
            Sound,
            $($fault,)*
        }

        /// Each fault, and the rule that the suite must report for it.
        pub(crate) const RULES: &[(LedgerFault, &str)] = &[$((LedgerFault::$fault, stringify!($rule)),)*];
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
    LostClaimCompletes: lost_claim_cannot_change_the_new_claim,
    LostClaimReleasesItsSuccessor: lost_claim_cannot_change_the_new_claim,
    GraceNeverEnds: claim_is_absent_after_its_grace,
    EachClaimHasAGrace: claim_is_absent_after_its_grace,
    RenewedClaimKeepsItsOldGrace: renewed_claim_has_a_new_grace,
    RenewingNeverShortensTheGrace: renewed_claim_has_a_new_grace,
    DoneNeverEnds: done_entry_lasts_for_its_retention,
    LeaseOutlastsTheCompletion: retention_starts_at_completion,
    ReleasingDoesNothing: released_entry_can_be_claimed,
    AnyTokenReleases: only_holder_can_release,
    ReleasingUndoesACompletion: done_entry_cannot_be_released,
    RenewingDoesNothing: renewed_lease_counts_from_the_renewal,
    RenewingNeverShortens: renewed_lease_counts_from_the_renewal,
    AnyTokenRenews: only_holder_can_renew,
    AnyTokenRenewsExpiredClaims: only_holder_can_renew,
    DoneEntryIsRenewed: done_entry_cannot_be_renewed,
    RenewsOnlyTheFirst: renews_many_claims_in_order,
    RenewsUntilOneFails: renews_many_claims_in_order,
    RenewsAllOrNone: renews_many_claims_in_order,
    RenewalsAreAnsweredBackwards: renews_many_claims_in_order,
    RenewingNothingFails: renews_many_claims_in_order,
    ConflictsShareAnEntry: entries_are_independent,
    KeyIsCut: keeps_every_byte,
    ForgettingDoesNothing: expired_claim_can_be_released,
    ForgettingLeavesConflicts: conflicts_are_forgotten_with_their_event,
    ForgettingTakesOtherEvents: forgotten_event_is_absent,
    ForgettingTakesOtherConflicts: other_events_are_not_forgotten,
    ForgettingCountsEntriesThatAreOver: claim_is_absent_after_its_grace,
    ForgettingCountsDoneEntriesThatAreOver: forgetting_counts_only_present_entries,
    ForgottenClaimCompletes: forgotten_claim_cannot_be_completed,
    ForgettingDoesNotCountExpiredClaims: forgets_expired_claims,
    ForgettingLeavesExpiredClaims: forgets_expired_claims,
    WindowLeavesExpiredClaims: forgets_expired_claims,
    WindowTakesAll: window_forgets_entries_claimed_in_it,
    WindowIsMissed: window_forgets_entries_claimed_in_it,
    RenewingMovesTheClaim: window_compares_the_time_of_claim,
    ClaimingAgainMovesTheClaim: window_compares_the_time_of_claim,
    ClaimingLateMovesTheClaim: window_compares_the_time_of_claim,
    CompletingMovesTheClaim: window_forgets_entries_claimed_in_it,
    TakingOverKeepsTheTime: window_compares_the_time_of_claim,
    ListingLeavesOutConflicts: lists_an_event_with_its_conflicts,
    ListingTakesOtherEvents: lists_an_event_with_its_conflicts,
    ListingTakesOtherConflicts: lists_an_event_with_its_conflicts,
    ListingFindsConflictsByKey: lists_an_event_with_its_conflicts,
    ListedConflictsAreEvents: lists_an_event_with_its_conflicts,
    ListingIgnoresTheWindow: lists_entries_claimed_in_a_window,
    ListingGoesByTheEnd: lists_entries_claimed_in_a_window,
    WindowLeavesOutConflicts: lists_entries_claimed_in_a_window,
    WindowExcludesItsStart: window_has_its_start_and_not_its_end,
    WindowIncludesItsEnd: window_has_its_start_and_not_its_end,
    EverythingIsListedAsDone: lists_claimed_and_done_entries,
    EverythingIsListedAsClaimed: lists_claimed_and_done_entries,
    ListedUntilIncludesTheGrace: lists_claimed_and_done_entries,
    ListedUntilIsTheTimeOfClaim: lists_claimed_and_done_entries,
    ListingRenews: lists_claimed_and_done_entries,
    ListingIsUnordered: lists_entries_in_pages,
    ListingIgnoresItsStart: lists_entries_in_pages,
    ListingIncludesItsStart: lists_entries_in_pages,
    ListingIgnoresItsLimit: lists_entries_in_pages,
    ListingShowsEntriesThatAreOver: leaves_out_entries_that_are_over,
    ListingLeavesOutExpiredClaims: leaves_out_entries_that_are_over,
    PurgeIgnoresItsLimit: purges_only_entries_that_are_over,
    PurgeTakesAll: purges_only_entries_that_are_over,
    PurgeTakesExpiredClaims: purge_keeps_claims_within_their_grace,
    ClaimingIsTwoSteps: one_of_many_claims_wins,
    TakingOverIsTwoSteps: one_of_many_claims_takes_over,
    LateCompletionIsTwoSteps: late_completion_excludes_a_takeover,
}

/// The faults that random calls do not find, because they need keys that differ in one byte, equal times, or concurrent calls.
pub(crate) const NOT_FOUND_BY_CHANCE: &[LedgerFault] = &[
    LedgerFault::KeyIsCut,
    // The model selects events only.
    LedgerFault::ListingFindsConflictsByKey,
    LedgerFault::WindowExcludesItsStart,
    LedgerFault::WindowIncludesItsEnd,
    LedgerFault::ClaimingIsTwoSteps,
    LedgerFault::TakingOverIsTwoSteps,
    LedgerFault::LateCompletionIsTwoSteps,
];

//! Faults of stores. Each one has a description of what a store with the fault does wrong, and the rule that the suite must
//! report for it.

macro_rules! faults {
    ($(#[doc = $wrong:literal] $fault:ident: $rule:ident,)*) => {
        /// A way in which a store differs from the reference.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum InboxFault {
            $(#[doc = $wrong] $fault,)*
        }

        /// Each fault, and the rule that the suite must report for it.
        pub(crate) const RULES: &[(InboxFault, &str)] = &[$((InboxFault::$fault, stringify!($rule)),)*];
    };
}

faults! {
    // Accepting.
    /// Stores a new delivery that is due only after a day.
    AcceptedIsNotDue: new_delivery_is_accepted_once,
    /// Returns `Known` with the digest of the new body, although another body is stored.
    ReturnsTheNewDigest: pending_delivery_is_known,
    /// Accepts a delivery again if only its ledger row is left.
    LedgerIsIgnored: handled_delivery_is_known_for_its_retention,
    /// Deletes the ledger row when a delivery is handled.
    HandlingDeletesTheRow: handled_delivery_is_known_for_its_retention,
    /// Gives a new delivery the id of a later delivery that was deleted.
    IdsAreReused: handled_delivery_is_known_for_its_retention,
    /// Writes a ledger row that is claimed, not done.
    AcceptedIsOnlyClaimed: handled_delivery_is_known_for_its_retention,
    /// Starts the retention again when a copy of a pending delivery arrives.
    CopiesExtendTheRetention: copies_do_not_extend_the_retention,
    /// Stores a conflict under the key of the event, as if it were the first delivery.
    ConflictsShareAKey: deliveries_are_independent,
    /// Makes a kept delivery ready again, instead of replacing it with the new delivery.
    KeptDeliveryIsReused: new_delivery_replaces_a_kept_one,
    /// Grants a claim on the key of a stored delivery.
    StoredCanBeClaimed: ledger_knows_accepted_deliveries,
    /// Reports a wrong digest for a claim on the key of a stored delivery.
    LedgerLosesDigests: ledger_knows_accepted_deliveries,
    /// Accepts a delivery that matches every body, although its key is in the ledger.
    AnyBodyIsAcceptedAgain: deliveries_done_in_the_ledger_are_known,
    /// Accepts a delivery although its key is claimed.
    ClaimsAreIgnored: claimed_deliveries_are_in_flight,
    /// Returns `Known` for a claimed key, instead of `InFlight`.
    ClaimsAreDone: claimed_deliveries_are_in_flight,
    /// Returns `InFlight` for a key whose claim has expired.
    ExpiredClaimsAreInFlight: expired_claim_does_not_block_accepting,
    /// Leaves the token of an expired claim in the ledger row of the accepted delivery.
    ExpiredClaimKeepsItsToken: expired_claim_does_not_block_accepting,
    /// Does not write a missing ledger row when a copy of a pending delivery arrives.
    MissingRowIsNotRestored: missing_ledger_row_is_restored,
    /// Restores a missing ledger row with the digest of the new body, not of the stored one.
    RestoredRowHasTheNewDigest: restored_ledger_row_has_the_stored_digest,
    /// Replaces the ledger row of a pending delivery although the row is claimed.
    ClaimedRowIsReplaced: claimed_ledger_row_is_not_replaced,
    /// Leaves an expired claim in the ledger row of a pending delivery.
    ExpiredClaimIsNotReplaced: expired_claim_on_a_ledger_row_is_replaced,

    // Reviving.
    /// Returns `Known` for a dead delivery, even if the new one revives.
    DeadIsNeverRevived: dead_delivery_is_revived,
    /// Revives a dead delivery although the new one does not ask for it.
    DeadIsRevivedUnasked: accept_reports_a_dead_delivery,
    /// Returns `Known` for a dead delivery, instead of `Dead`, if the new one does not revive.
    DeadIsKnown: accept_reports_a_dead_delivery,
    /// Returns `Dead` with the new head, not with the stored one.
    DeadHasTheNewHead: accept_reports_a_dead_delivery,
    /// Returns `Dead` for another body, which the dead delivery does not match.
    OtherBodyReturnsDead: accept_reports_a_dead_delivery,
    /// Revives a delivery with one attempt already counted.
    RevivedHasAttempts: dead_delivery_is_revived,
    /// Revives a delivery with the token of a new one.
    RevivedStartsAtTheFirstToken: dead_delivery_is_revived,
    /// Gives a revived delivery a new id.
    RevivedHasANewId: dead_delivery_is_revived,
    /// Revives a delivery with its old head.
    RevivedKeepsItsHead: revived_delivery_takes_the_new_request,
    /// Revives a delivery with any body.
    AnyBodyRevives: revived_delivery_takes_the_new_request,
    /// Does not revive a delivery with another body of the same JSON.
    SameJsonDoesNotRevive: same_json_revives_a_dead_delivery,
    /// Revives a delivery with any body, if the new one also matches bodies of the same JSON.
    AnyJsonRevives: same_json_revives_a_dead_delivery,
    /// Revives a delivery without a new token, so that the old lease is valid again.
    RevivedKeepsItsToken: revived_delivery_fences_the_old_token,
    /// Gives a revived delivery's ledger row an end shortly after the delivery was first accepted.
    RevivedRowEndsEarly: revived_delivery_has_the_new_retention,
    /// Sets the time of acceptance of a revived delivery to now.
    RevivedIsAcceptedAnew: revived_delivery_keeps_its_time_of_acceptance,
    /// Shows the ledger row's time of claim as the time of acceptance.
    ClaimTimeIsShown: revived_delivery_keeps_its_time_of_acceptance,
    /// Returns `Known` for a conflict, if the first delivery of the event is dead.
    ConflictOfADeadOneIsKnown: other_body_does_not_revive,

    // Bodies of known deliveries.
    /// Never returns the stored body.
    KnownBodyIsMissing: known_delivery_returns_its_body,
    /// Does not return the stored body of a ready delivery.
    BodyOfAReadyOneIsMissing: known_delivery_returns_its_body,
    /// Does not return the stored body of a dead delivery.
    BodyOfADeadOneIsMissing: known_delivery_returns_its_body,
    /// Does not return the stored body of a kept delivery.
    BodyOfAKeptOneIsMissing: known_delivery_returns_its_body,
    /// Returns the new body as the stored one.
    NewBodyIsReturned: known_delivery_returns_its_body,
    /// Returns the stored body although the new one is equal.
    EqualBodyIsReturned: known_delivery_returns_its_body,
    /// Returns the stored body although the new one has the same JSON.
    SameJsonIsReturned: matching_delivery_returns_no_body,
    /// Returns the body stored under the key, although its digest is not the known one.
    BodyWithAnotherDigestIsReturned: deleted_delivery_returns_no_body,

    // Contents.
    /// Replaces bytes that are not UTF-8 in a body.
    BodiesAreText: keeps_every_byte_of_a_body,
    /// Empties the body of a kept delivery.
    BodiesAreNotKept: kept_delivery_stays_with_its_body,
    /// Empties heads of 64 KiB and more.
    HeadsAreCut: keeps_every_character_of_a_head,
    /// Replaces characters of a reason that are not ASCII.
    ReasonsAreAscii: keeps_every_character_of_a_reason,
    /// Stores no reason when a delivery is dead-lettered.
    DeadReasonsAreLost: dead_letter_stays_until_it_is_purged,
    /// Leases deliveries without their ordering keys.
    OrderingKeysAreNotReturned: returns_the_ordering_keys,
    /// Leases deliveries with only their first ordering key.
    OneOrderingKeyIsReturned: returns_the_ordering_keys,
    /// Leases deliveries without their ordering keys, if the previous lease expired.
    LateOrderingKeysAreNotReturned: returns_the_ordering_keys,

    // Leasing.
    /// Leases in order of acceptance, not of due time.
    FirstAcceptedGoesFirst: leases_longest_due_first,
    /// Leases the delivery that was due last first.
    LastAcceptedGoesFirst: deliveries_are_independent,
    /// Leases more deliveries than requested.
    LimitIsIgnored: leases_no_more_than_requested,
    /// Dead-letters a delivery on its last attempt before the lease expires.
    UnexpiredAreDeadLettered: leased_delivery_is_not_leased_again,
    /// Leases for half the requested duration after the first attempt.
    LaterLeasesAreShort: expired_lease_can_be_taken_over,
    /// Leases for at least a day.
    LeasesNeverEnd: pending_delivery_is_known,
    /// Reports every attempt as the first.
    AttemptsAreNotCounted: pending_delivery_is_known,
    /// Does not mark deliveries whose previous lease expired.
    ExpiredAreNotMarked: marks_deliveries_whose_lease_expired,
    /// Marks every delivery as one whose previous lease expired.
    AllAreMarked: marks_deliveries_whose_lease_expired,
    /// Leases deliveries again after the last attempt.
    NoneIsDeadLettered: last_expired_attempt_is_dead_lettered,
    /// Allows one attempt more than requested.
    OneAttemptMore: last_expired_attempt_is_dead_lettered,
    /// Does not report the deliveries that the lease call dead-lettered.
    DeadLettersAreNotReported: lease_reports_its_dead_letters,
    /// Reports only the first delivery that the lease call dead-lettered.
    OneDeadLetterIsReported: lease_reports_its_dead_letters,
    /// Also reports deliveries that were dead-lettered before the lease call.
    AllDeadAreReported: lease_reports_its_dead_letters,
    /// Reports dead letters without their heads.
    DeadLettersHaveNoHead: lease_reports_its_dead_letters,
    /// Reports dead letters with one attempt too many.
    DeadLettersHaveAnAttemptMore: lease_reports_its_dead_letters,
    /// Stores no reason when the lease call dead-letters a delivery.
    DeadLettersHaveNoReason: lease_reports_its_dead_letters,
    /// Dead-letters a ready delivery without attempts left, instead of leasing it.
    ReadyAreDeadLettered: ready_delivery_is_leased_after_max_attempts,

    // Leasing ahead of need.
    /// Leases deliveries whose lease expired although no handler is free.
    ExpiredAreLeasedAhead: expired_lease_is_not_leased_ahead,
    /// Stops at a delivery whose lease expired, instead of leasing the ready ones after it.
    ExpiredHideTheReady: expired_lease_is_not_leased_ahead,
    /// Counts deliveries that are left out as if they occupied a free handler.
    ExpiredUseUpTheFreeHandlers: expired_lease_is_not_leased_ahead,
    /// Leases ready deliveries without attempts left although no handler is free.
    ExhaustedAreLeasedAhead: exhausted_delivery_is_not_leased_ahead,
    /// Counts the attempt of a delivery that is leased ahead.
    LeasingAheadCounts: lease_ahead_counts_no_attempt,
    /// Treats every delivery as leased for a free handler.
    FreeHandlersAreIgnored: lease_ahead_counts_no_attempt,
    /// Counts no attempt when a delivery is leased for a free handler.
    LeasingNeverCounts: retried_delivery_can_be_settled,
    /// Assumes one more free handler than there is.
    OneHandlerMoreIsFree: lease_ahead_counts_no_attempt,
    /// Counts an attempt when leasing, but reports it as uncounted.
    CountedAreNotMarked: lease_counts_attempts_for_free_handlers,
    /// Reports every attempt as counted.
    UncountedAreMarked: pending_delivery_is_known,
    /// Counts the last attempt when leasing, not when it starts.
    LeasingCountsTheLastAttempt: last_attempt_counts_when_it_starts,
    /// Counts the attempt before the last one when it starts, not when leasing.
    SecondLastAttemptCountsWhenItStarts: last_attempt_counts_when_it_starts,
    /// Counts the attempt when leasing a delivery whose lease expired.
    LeasingCountsAfterExpiry: expired_lease_is_not_leased_ahead,
    /// Dead-letters a delivery whose last attempt has not started.
    UnstartedAreDeadLettered: unstarted_attempts_do_not_dead_letter,

    // Starting.
    /// Reports a start without counting the attempt.
    StartingDoesNothing: pending_delivery_is_known,
    /// Counts an attempt each time it starts.
    StartingCountsAgain: lease_ahead_counts_no_attempt,
    /// Sets the number of attempts to the lease's, even if more are counted.
    StartingLowersTheCount: start_counts_the_attempt_once,
    /// Extends the lease when an attempt starts.
    StartingExtends: last_expired_attempt_is_dead_lettered,
    /// Does not start an attempt whose lease has expired.
    ExpiredAreNotStarted: start_does_not_extend_the_lease,
    /// Takes a started attempt off the count when its lease expires.
    ExpiryUndoesTheStart: last_expired_attempt_is_dead_lettered,
    /// Takes a started attempt off the count when its lease is extended.
    ExtendingUndoesTheStart: start_does_not_extend_the_lease,
    /// Starts an attempt with the token of any lease.
    StartsIgnoreTheToken: lost_lease_changes_nothing,
    /// Starts an attempt with the token of an earlier lease.
    StartsTakeSmallerTokens: lost_lease_changes_nothing,
    /// Starts an attempt of a dead delivery.
    DeadAreStarted: unleased_delivery_is_not_started,
    /// Starts an attempt of a ready delivery.
    ReadyAreStarted: unleased_delivery_is_not_started,
    /// Starts an attempt of a delivery that is done.
    DoneAreStarted: unleased_delivery_is_not_started,
    /// Reports a start for a delivery that does not exist.
    MissingAreStarted: unleased_delivery_is_not_started,
    /// Counts the attempt of a delivery that is not leased, although it does not start.
    UnleasedAreCounted: unleased_delivery_is_not_started,
    /// Starts only the first of several leases.
    StartsOnlyTheFirst: starts_many_leases_in_order,
    /// Starts no lease after the first that fails.
    StartsUntilOneFails: starts_many_leases_in_order,
    /// Starts no lease if one fails.
    StartsAllOrNone: starts_many_leases_in_order,
    /// Returns the results in reverse order.
    StartsAreAnsweredBackwards: starts_many_leases_in_order,
    /// Fails if there are no leases to start.
    StartingNothingFails: starts_many_leases_in_order,

    // Extending.
    /// Reports an extension without extending the lease.
    ExtendingDoesNothing: leases_longest_due_first,
    /// Extends a lease from its end, not from now.
    ExtendingAdds: leases_longest_due_first,
    /// Leaves a lease as it is, if the extension would end it earlier.
    ExtendingNeverShortens: leases_longest_due_first,
    /// Counts an attempt when a lease is extended.
    ExtendingIsAnAttempt: extended_lease_counts_from_the_extension,
    /// Does not extend an expired lease.
    ExpiredLeaseIsNotExtended: expired_lease_can_be_extended,
    /// Extends an expired lease, but returns `false`.
    ExtensionOfAnExpiredLeaseIsDenied: expired_lease_can_be_extended,
    /// Lets an earlier lease extend the current one, if that has expired.
    LostLeaseExtendsAnExpiredOne: expired_lease_can_be_extended,
    /// Leases a ready delivery when its last lease is extended.
    ReadyIsExtended: settled_delivery_is_not_extended,
    /// Leases a dead delivery when its last lease is extended.
    DeadIsExtended: settled_delivery_is_not_extended,
    /// Extends only the first of several leases.
    ExtendsOnlyTheFirst: extends_many_leases_in_order,
    /// Extends no lease after the first that fails.
    ExtendsUntilOneFails: extends_many_leases_in_order,
    /// Extends no lease if one fails.
    ExtendsAllOrNone: extends_many_leases_in_order,
    /// Returns the results in reverse order.
    ExtensionsAreAnsweredBackwards: extends_many_leases_in_order,
    /// Fails if there are no leases to extend.
    ExtendingNothingFails: extends_many_leases_in_order,

    // Held leases of a lease request.
    /// Ignores the held leases.
    HeldIsIgnored: held_lease_is_extended,
    /// Leaves out the deliveries of held leases, but does not extend the leases.
    HeldIsNotExtended: held_lease_is_extended,
    /// Extends no held leases if the limit is 0.
    HeldIsExtendedIfSomeAreRequested: held_lease_is_extended,
    /// Also extends held leases that have not expired.
    HeldIsAlwaysExtended: held_lease_is_extended,
    /// Dead-letters a held delivery whose lease expired on the last attempt.
    HeldIsDeadLettered: held_lease_is_not_dead_lettered,
    /// Leases a delivery although an earlier held one has the same ordering key.
    HeldDoesNotBlock: held_lease_blocks_its_ordering_keys,
    /// Extends held leases only after it has selected what to lease.
    HeldIsExtendedAfterSelecting: held_lease_blocks_a_retried_delivery,
    /// Begins an attempt when it leases a delivery of a held lease that was lost.
    HeldDeliveryBeginsAnAttempt: held_delivery_is_leased_without_an_attempt,
    /// Begins an attempt when it leases a ready delivery of a held lease.
    ReadyHeldDeliveryBeginsAnAttempt: held_delivery_is_leased_without_an_attempt,
    /// Never leases a delivery of a held lease that was lost.
    HeldDeliveryIsNeverLeased: held_delivery_is_leased_without_an_attempt,
    /// Extends the current lease of another worker if an earlier one is held.
    HeldExtendsForeignLeases: stale_held_lease_protects_nothing,
    /// Does not dead-letter a delivery of which an earlier lease is held.
    StaleHeldIsNotDeadLettered: stale_held_lease_protects_nothing,
    /// Leases a dead delivery again if its last lease is held.
    HeldRevivesTheDead: stale_held_lease_protects_nothing,

    // Settling.
    /// Lets every lease of a delivery settle it.
    TokensAreIgnored: expired_lease_can_be_taken_over,
    /// Takes a lease for the current one if its attempt is the delivery's.
    TokensAreAttempts: revived_delivery_fences_the_old_token,
    /// Lets an earlier lease settle a delivery that is not leased.
    LostLeaseSettlesUnleasedOnes: lost_lease_changes_nothing,
    /// Takes a lease with a larger token for the current one.
    LargerTokensAreCurrent: foreign_token_changes_nothing,
    /// Returns `Gone` for an earlier lease, instead of `Superseded`.
    SupersededIsGone: expired_lease_can_be_taken_over,
    /// Keeps a handled delivery for a day that must be deleted at once.
    HandledIsKeptForADay: handled_delivery_is_deleted,
    /// Deletes handled deliveries that must be kept.
    NothingIsKept: deliveries_are_independent,
    /// Leaves the reason of an earlier failure in a kept delivery.
    KeptHaveAReason: kept_delivery_stays_with_its_body,
    /// Purges kept deliveries whose time is not over.
    PurgeTakesAllDone: kept_delivery_stays_with_its_body,
    /// Deletes the ledger rows when it purges deliveries.
    PurgeClearsTheLedger: kept_delivery_stays_with_its_body,
    /// Purges more deliveries than the limit.
    PurgeIgnoresItsLimit: purges_only_deliveries_that_are_over,
    /// Purges dead deliveries.
    PurgeTakesTheDead: dead_letter_stays_until_it_is_purged,
    /// Makes a rescheduled delivery due at once.
    DelaysAreIgnored: pending_delivery_is_known,
    /// Limits the delay of a rescheduled delivery to half an hour.
    DelaysAreCut: rescheduled_delivery_is_due_after_its_delay,
    /// Leaves the attempt counted when a lease is released.
    ReleasingIsAnAttempt: release_takes_its_attempt_off,
    /// Gives the token of a released lease to the next lease.
    ReleasedTokensAreReused: repeated_settlement_changes_nothing,
    /// Gives the last token of a retried delivery to the next lease.
    RetriedTokensAreReused: attempts_and_tokens_grow,
    /// Shows one attempt for a released delivery without attempts.
    ReleasedIsShownAsAnAttempt: release_takes_its_attempt_off,
    /// Deletes dead deliveries after a month.
    DeadAreDeletedAfterAMonth: dead_letter_stays_until_it_is_purged,
    /// Returns `Superseded` if the delivery is ready.
    ReadyIsNotSettled: repeated_settlement_changes_nothing,
    /// Returns `Gone` if the delivery is done already.
    DoneIsGone: repeated_settlement_changes_nothing,
    /// Settles a delivery again that is done.
    DoneIsSettledAgain: repeated_settlement_changes_nothing,
    /// Keeps a delivery that is done for longer if the settlement is repeated.
    DoneIsKeptForLonger: repeated_settlement_changes_nothing,
    /// Deletes a kept delivery if it is settled again without a time to keep it.
    DoneIsDeletedByARepeat: repeated_settlement_changes_nothing,
    /// Takes another attempt off the count if a release is repeated.
    ReleaseCountsTwice: repeated_settlement_changes_nothing,
    /// Takes an attempt off the count at a release, even if the lease's attempt was not counted.
    ReleaseTakesOneAttemptOff: release_keeps_earlier_attempts,
    /// Leaves an attempt counted at a release, if it was counted when it started.
    ReleaseLeavesStartedAttempts: attempts_and_tokens_grow,
    /// Sets the number of attempts to 0 at a release.
    ReleaseTakesAllAttemptsOff: release_takes_its_attempt_off,
    /// Lets a release change a delivery that is ready already.
    RetriedIsReleased: release_keeps_earlier_attempts,
    /// Returns `Settled` for a delivery that does not exist.
    MissingIsSettled: repeated_settlement_changes_nothing,
    /// Returns `Superseded` for a delivery that does not exist.
    MissingIsSuperseded: repeated_settlement_changes_nothing,
    /// Returns `Settled` for the release of a delivery that does not exist.
    MissingIsReleased: settling_a_missing_delivery_returns_gone,
    /// Settles only the first of several deliveries.
    SettlesOnlyTheFirst: settles_many_leases_in_order,
    /// Settles no delivery after the first that fails.
    SettlesUntilOneFails: settles_many_leases_in_order,
    /// Settles no delivery if one fails.
    SettlesAllOrNone: settles_many_leases_in_order,
    /// Returns the outcomes in reverse order.
    SettlementsAreAnsweredBackwards: settles_many_leases_in_order,
    /// Fails if there are no deliveries to settle.
    SettlingNothingFails: settles_many_leases_in_order,

    // Settling after the lease has expired.
    /// Returns `Superseded` if the lease has expired.
    ExpiredLeaseIsNotSettled: expired_lease_can_be_settled,
    /// Counts deliveries whose lease has expired as ready.
    ExpiredCountAsReady: expired_lease_can_be_settled,
    /// Makes a delivery ready when its lease expires.
    ExpiredLeasesBecomeReady: pending_delivery_is_known,
    /// Returns `Superseded` for a success after the last attempt's lease expired.
    LateSuccessIsRejected: late_success_settles_a_dead_letter,
    /// Returns `Superseded` for a failure after the last attempt's lease expired.
    LateFailureIsRejected: late_failure_settles_a_dead_letter,
    /// Returns `Superseded` if the handler dead-letters after the last attempt's lease expired.
    LateDeadLetterIsRejected: late_failure_settles_a_dead_letter,
    /// Keeps the first reason of a dead letter if the handler dead-letters it later.
    LateReasonsAreLost: late_failure_settles_a_dead_letter,
    /// Returns `Superseded` for a release after the last attempt's lease expired.
    LateReleaseIsRejected: late_release_settles_a_dead_letter,
    /// Leaves the attempt counted at a release after the last attempt's lease expired.
    LateReleaseIsAnAttempt: late_release_settles_a_dead_letter,
    /// Removes the ordering keys of a dead letter that a late failure brings back.
    LateFailureLosesItsPlace: late_failure_keeps_its_place_in_the_queue,
    /// Lets a kept delivery that was settled after a retry block its ordering keys.
    SettledAfterARetryBlocks: late_success_unblocks_its_ordering_keys,
    /// Wraps the number of attempts below 0 at a release after a retry.
    ReleaseUnderflowsTheAttempts: retried_delivery_can_be_settled,
    /// Returns `Superseded` if the delivery was retried meanwhile.
    RetriedIsNotSettled: retried_delivery_can_be_settled,

    // Counting, showing and retrying.
    /// Counts at most 4 ready deliveries.
    CountsHaveALimit: counts_each_state,
    /// Reports the age of a dead delivery as that of the oldest pending one.
    OldestIsDead: reports_the_oldest_pending,
    /// Reports the age of the newest pending delivery.
    OldestIsTheNewest: reports_the_oldest_pending,
    /// Counts the backlog beyond the limit.
    BacklogHasNoLimit: counts_the_backlog_up_to_a_limit,
    /// Leaves leased deliveries out of the backlog.
    BacklogLeavesOutTheLeased: counts_the_backlog_up_to_a_limit,
    /// Counts dead deliveries in the backlog.
    BacklogCountsTheDead: counts_the_backlog_up_to_a_limit,
    /// Returns the last delivery of a page again on the next page.
    PagesOverlap: lists_dead_deliveries_in_pages,
    /// Returns more deliveries on a page than the limit.
    PagesHaveNoEnd: lists_dead_deliveries_in_pages,
    /// Returns bodies on a page.
    PagesHaveBodies: lists_dead_deliveries_in_pages,
    /// Returns the newest deliveries first.
    NewestComeFirst: lists_dead_deliveries_in_pages,
    /// Shows deliveries without their bodies.
    NoBodyIsShown: pending_delivery_is_known,
    /// Shows only dead deliveries.
    OnlyTheDeadAreShown: pending_delivery_is_known,
    /// Shows a time of acceptance that is an hour too early.
    ShownTimesAreOff: shows_every_state,
    /// Retries deliveries in every state.
    EverythingIsRetried: dead_delivery_can_be_retried,
    /// Retries kept deliveries.
    KeptAreRetried: only_dead_deliveries_are_retried,
    /// Leaves the attempts counted at a retry.
    RetriedHasAttempts: dead_delivery_can_be_retried,
    /// Gives a retried delivery a new id.
    RetriedGoesLast: dead_delivery_can_be_retried,
    /// Removes the ordering keys at a retry.
    RetriedHaveNoKeys: retried_delivery_keeps_its_place_in_the_queue,

    // Ordering.
    /// Leaves the old ordering keys in a revived delivery.
    RevivedKeepsItsKeys: revived_delivery_takes_its_new_keys,
    /// Ignores ordering keys.
    NothingIsOrdered: head_of_the_queue_blocks_the_others,
    /// Stores only one ordering key.
    OneOrderingKeyIsKept: each_ordering_key_blocks,
    /// Leases a delivery although the head of its queue is leased.
    LeasedHeadDoesNotBlock: head_of_the_queue_blocks_the_others,
    /// Leases a delivery although the head of its queue waits for its delay.
    RescheduledHeadDoesNotBlock: rescheduled_head_blocks_its_key,
    /// Leases a delivery although the head of its queue has an expired lease.
    ExpiredHeadDoesNotBlock: expired_head_blocks_its_key,
    /// Leaves the ordering keys when a delivery is rescheduled without its order.
    OrderIsNeverLost: unordered_reschedule_stops_blocking,
    /// Leaves the ordering keys when a late failure reschedules without the order.
    LateFailureKeepsItsOrder: late_unordered_reschedule_stops_blocking,
    /// Removes the ordering keys at every failure.
    EveryFailureLosesItsOrder: rescheduled_head_blocks_its_key,
    /// Lets dead deliveries block their ordering keys.
    DeadBlock: dead_delivery_does_not_block,
    /// Leases a retried delivery although a later one of its queue is leased.
    LaterLeasedDoNotBlock: leased_delivery_blocks_a_retried_one,
    /// Lets a later delivery block an earlier one even after its lease has expired.
    LaterExpiredBlock: leased_delivery_blocks_a_retried_one,
    /// Leases a revived delivery although a later one of its queue is leased.
    RevivedIgnoresLeasesBehindIt: leased_delivery_blocks_a_revived_one,

    // Finding, dead-lettering and forgetting by hand.
    /// Finds deliveries in every state.
    FilterIgnoresStates: lists_dead_deliveries_in_pages,
    /// Finds deliveries only in the first of the filter's states.
    FilterTakesOneState: finds_deliveries_by_state,
    /// Finds deliveries of every tenant.
    FilterIgnoresTheTenant: finds_deliveries_by_each_filter,
    /// Finds deliveries with every event id.
    FilterIgnoresTheEventId: finds_deliveries_by_each_filter,
    /// Finds deliveries with every body.
    FilterIgnoresTheBody: finds_deliveries_by_each_filter,
    /// Finds deliveries that were accepted before the window.
    FilterIgnoresTheStart: finds_deliveries_by_each_filter,
    /// Finds deliveries that were accepted after the window.
    FilterIgnoresTheEnd: finds_deliveries_by_each_filter,
    /// Returns pages without digests.
    NoDigestIsShown: finds_deliveries_by_state,
    /// Reports that no page follows.
    FirstPageIsTheLast: finds_deliveries_in_pages,
    /// Skips a delivery between two pages.
    NextPageSkipsOne: finds_deliveries_in_pages,
    /// Dead-letters pending deliveries in states that were not named.
    DeadLettersAnyState: dead_letters_only_the_states_named,
    /// Dead-letters kept deliveries.
    DoneAreDeadLettered: dead_letters_only_the_states_named,
    /// Dead-letters only the first of several deliveries.
    DeadLettersOnlyTheFirst: dead_letters_only_the_states_named,
    /// Does not store the operator's reason.
    DeadLetterByHandHasNoReason: dead_letters_only_the_states_named,
    /// Invalidates the lease of a delivery that is dead-lettered by hand.
    DeadLetterByHandFencesTheLease: success_replaces_a_dead_letter_by_hand,
    /// Deletes the ledger row of a delivery that is dead-lettered by hand.
    DeadLetterByHandDeletesTheRow: success_replaces_a_dead_letter_by_hand,
    /// Lets a failure bring back a delivery that was dead-lettered by hand.
    FailureBringsBackAnyDeadLetter: success_replaces_a_dead_letter_by_hand,
    /// Lets a release bring back a delivery that was dead-lettered by hand.
    ReleaseBringsBackAnyDeadLetter: retried_delivery_can_be_settled,
    /// Forgets deliveries in states that were not named.
    ForgetsAnyState: forgets_only_the_states_named,
    /// Never forgets pending deliveries.
    ForgetsNothingPending: forgets_only_the_states_named,
    /// Forgets only the first of several deliveries.
    ForgetsOnlyTheFirst: forgets_only_the_states_named,
    /// Leaves the ledger rows of forgotten deliveries.
    ForgottenAreStillKnown: forgets_only_the_states_named,
    /// Counts a delivery for each time that its id is named.
    ForgettingFindsDeliveriesTwice: forgets_only_the_states_named,

    // Forgetting an event.
    /// Forgets the ledger rows of an event, but not its dead deliveries.
    ForgettingLeavesTheDead: forgotten_event_is_accepted_again,
    /// Forgets the deliveries of an event, but not its ledger rows.
    ForgettingLeavesTheLedger: forgotten_event_is_accepted_again,
    /// Does not count the expired claims that it forgets.
    ForgettingDoesNotCountExpiredClaims: forgotten_event_is_accepted_again,
    /// Forgets pending deliveries.
    ForgettingTakesPendingOnes: pending_delivery_is_not_forgotten,
    /// Forgets the ledger rows of pending deliveries.
    ForgettingTakesPendingRows: pending_delivery_is_not_forgotten,
    /// Does not forget the conflicts of an event.
    ForgettingLeavesConflicts: pending_delivery_is_not_forgotten,
    /// Forgets all events.
    ForgettingTakesAll: later_deliveries_have_larger_ids,
    /// Forgets the conflicts of other events.
    ForgettingTakesOtherConflicts: other_events_are_not_forgotten,
    /// Counts ledger rows whose retention is over.
    ForgettingCountsRowsThatAreOver: forgetting_counts_only_known_keys,
    /// Counts the delivery and its ledger row.
    ForgettingCountsTwice: later_deliveries_have_larger_ids,

    // Forgetting a window of time.
    /// Forgets deliveries outside of the window.
    WindowTakesAll: window_forgets_deliveries_accepted_in_it,
    /// Forgets the deliveries of the day before.
    WindowIsMissed: window_forgets_deliveries_accepted_in_it,
    /// Does not count expired claims in the window.
    WindowIgnoresExpiredClaims: window_forgets_deliveries_accepted_in_it,
    /// Deletes pending deliveries.
    WindowTakesPendingOnes: window_keeps_pending_deliveries,
    /// Does not forget a delivery in the window whose ledger row was claimed at another time.
    WindowGoesByTheRowAlone: window_compares_the_time_of_acceptance,
    /// Leaves the ledger row of a forgotten delivery, if the row was claimed outside of the window.
    WindowLeavesOtherRows: window_compares_the_time_of_acceptance,
    /// Restores a ledger row with the time of acceptance as its time of claim.
    RestoredRowIsNotClaimedAnew: window_compares_the_time_of_acceptance,
    /// Does not forget a ledger row in the window whose delivery was accepted at another time.
    WindowGoesByTheDeliveryAlone: window_compares_the_ledger_row_too,
    /// Revives a delivery with the time of acceptance as its ledger row's time of claim.
    RevivedRowIsNotClaimedAnew: window_compares_the_ledger_row_too,
    /// Forgets a delivery whose ledger row is in the window, although the row's retention is over.
    WindowGoesByRowsThatAreOver: window_ignores_ledger_rows_that_are_over,
    /// Compares the window of claims with the time of acceptance.
    LedgerGoesByAcceptance: restored_ledger_row_has_a_new_claim_time,

    // Counting the keys that can be forgotten.
    /// Forgets the keys that it counts.
    CountingForgets: counts_the_keys_of_an_event,
    /// Counts pending deliveries.
    CountTakesPendingOnes: counts_the_keys_of_an_event,
    /// Counts the ledger rows of pending deliveries.
    CountTakesPendingRows: counts_the_keys_of_an_event,
    /// Counts a delivery and its ledger row as two.
    CountTakesDeliveriesAndRows: counts_the_keys_of_an_event,
    /// Counts ledger rows whose retention is over.
    CountTakesRowsThatAreOver: counts_the_keys_of_an_event,
    /// Does not count claims whose lease is over.
    CountLeavesOutExpiredClaims: counts_the_keys_of_an_event,
    /// Does not count deliveries of an event that have no ledger row.
    CountLeavesOutDeliveries: counts_the_keys_of_an_event,
    /// Does not count ledger rows of an event that have no delivery.
    CountLeavesOutRows: counts_the_keys_of_an_event,
    /// Does not count the conflicts of an event.
    CountLeavesOutConflicts: counts_the_keys_of_an_event,
    /// Counts the keys of all events.
    CountTakesOtherEvents: counts_the_keys_of_an_event,
    /// Counts keys outside of the window.
    WindowCountTakesAll: counts_the_keys_of_a_window,
    /// Does not count a delivery in the window whose ledger row was claimed at another time.
    WindowCountLeavesOutDeliveries: counts_the_keys_of_a_window,
    /// Does not count a ledger row in the window that has no delivery.
    WindowCountLeavesOutRows: counts_the_keys_of_a_window,

    // Limits on stored deliveries.
    /// Counts stored deliveries beyond the limit.
    StoredHasNoLimit: counts_all_stored_up_to_a_limit,
    /// Does not count leased deliveries as stored.
    StoredLeavesOutTheLeased: counts_all_stored_up_to_a_limit,
    /// Does not count dead deliveries as stored.
    StoredLeavesOutTheDead: counts_all_stored_up_to_a_limit,
    /// Does not count kept deliveries as stored.
    StoredLeavesOutTheDone: counts_all_stored_up_to_a_limit,
    /// Does not count kept deliveries whose time is over as stored.
    StoredLeavesOutThePurgeable: counts_all_stored_up_to_a_limit,
    /// Evicts only kept deliveries whose time is over.
    EvictsOnlyThePurgeable: evicts_only_kept_deliveries,
    /// Never evicts kept deliveries whose time is over.
    NeverEvictsThePurgeable: evicts_only_kept_deliveries,
    /// Evicts dead deliveries.
    EvictsTheDead: evicts_only_kept_deliveries,
    /// Dead-letters kept deliveries instead of deleting them.
    EvictionDeadLetters: evicts_only_kept_deliveries,
    /// Evicts the deliveries first that were accepted first.
    EvictsInOrderOfAcceptance: evicts_deliveries_that_end_soonest,
    /// Evicts the deliveries first that would be kept longest.
    EvictsTheLatestFirst: evicts_deliveries_that_end_soonest,
    /// Evicts more deliveries than the limit.
    EvictionIgnoresItsLimit: evicts_deliveries_that_end_soonest,
    /// Deletes the ledger rows of evicted deliveries.
    EvictionDeletesTheRow: evicted_delivery_is_still_known,
    /// Purges dead letters of any age.
    PurgeOfDeadIgnoresTheAge: purges_only_dead_letters_of_the_given_age,
    /// Compares the age with the end of the last lease, not with the time of acceptance.
    PurgeOfDeadGoesByTheLastLease: purges_only_dead_letters_of_the_given_age,
    /// Purges kept deliveries with the dead letters.
    PurgeOfDeadTakesTheDone: purges_only_dead_letters_of_the_given_age,
    /// Purges more dead letters than the limit.
    PurgeOfDeadIgnoresItsLimit: purges_the_oldest_dead_letters_first,
    /// Purges the newest dead letters first.
    NewestDeadArePurgedFirst: purges_the_oldest_dead_letters_first,
    /// Deletes the ledger rows of purged dead letters.
    PurgeOfDeadDeletesTheRow: purged_dead_letter_is_still_known,

    // Records of attempts.
    /// Records no status.
    StatusesAreLost: each_outcome_is_recorded,
    /// Records no reason.
    ReasonsOfRecordsAreLost: each_outcome_is_recorded,
    /// Records no end of an attempt.
    RecordsHaveNoEnd: each_outcome_is_recorded,
    /// Records the number of the attempt before.
    RecordsAreNumberedFrom0: each_outcome_is_recorded,
    /// Records no success.
    SuccessHasNoRecord: each_outcome_is_recorded,
    /// Records no failure.
    FailureHasNoRecord: each_outcome_is_recorded,
    /// Records no failure that dead-letters.
    DeadLetterHasNoRecord: each_outcome_is_recorded,
    /// Keeps only the last record.
    SettlingDeletesEarlierRecords: each_outcome_is_recorded,
    /// Shows the newest record first.
    NewestRecordComesFirst: each_outcome_is_recorded,
    /// Records the start of an attempt as its end.
    RecordsEndWhenTheyStart: records_have_times,
    /// Records the end of an attempt as its start.
    RecordsStartWhenTheyEnd: records_have_times,
    /// Shows no record of an open attempt.
    OpenAttemptIsNotShown: records_have_times,
    /// Shows an open attempt with an end.
    OpenAttemptHasAnEnd: records_have_times,
    /// Does not open the attempt that the lease counts.
    LeasingOpensNothing: each_outcome_is_recorded,
    /// Does not store the name of the worker that leases.
    LeasesNameNoWorker: each_outcome_is_recorded,
    /// Opens an attempt that is leased ahead.
    LeasingAheadOpens: records_have_times,
    /// Does not open an attempt when it starts.
    StartingOpensNothing: records_have_times,
    /// Opens an attempt again when it starts again.
    StartingReopens: attempt_opens_when_it_starts,
    /// Does not store the name of the worker that starts.
    StartsNameNoWorker: attempt_opens_when_it_starts,
    /// Records a release.
    ReleaseIsRecorded: untaken_attempt_leaves_no_record,
    /// Records an expiry.
    ExpiryIsRecorded: untaken_attempt_leaves_no_record,
    /// Deletes all records at a release.
    ReleaseDeletesRecords: untaken_attempt_leaves_no_record,
    /// Leaves the attempt open at a release.
    ReleaseLeavesTheAttemptOpen: untaken_attempt_leaves_no_record,
    /// Does not record an attempt that is lost when the delivery is leased again.
    LostAttemptIsNotRecorded: lost_attempt_is_recorded,
    /// Records an end of a lost attempt.
    LostAttemptHasAnEnd: lost_attempt_is_recorded,
    /// Records no reason for a lost attempt.
    LostAttemptHasNoReason: lost_attempt_is_recorded,
    /// Does not record an attempt that is lost when the lease call dead-letters the delivery.
    LostAttemptOfADeadLetterIsNotRecorded: lost_attempt_is_recorded,
    /// Records a lost attempt with the number 0 after a retry.
    LostAttemptMayHaveNumber0: lost_attempt_has_a_number,
    /// Closes the attempt when the lease call dead-letters the delivery.
    DeadLetteringClosesTheAttempt: late_outcome_replaces_its_record,
    /// Adds a late outcome to the record of the lost attempt.
    LateOutcomeAddsARecord: late_outcome_replaces_its_record,
    /// Does not record a late outcome.
    LateOutcomeIsNotRecorded: late_outcome_replaces_its_record,
    /// Leaves the record of a lost attempt at a late release.
    LateReleaseLeavesTheRecord: late_outcome_replaces_its_record,
    /// Records nothing if a settlement leaves a dead letter as it is.
    LeftDeadLettersRecordNothing: failure_of_a_dead_letter_is_recorded,
    /// Ends the attempt of a handler that takes over a lease.
    TakeoverEndsTheAttempt: taken_over_attempt_continues,
    /// Deletes the records at a retry.
    RequeueingDeletesRecords: records_survive_retries,
    /// Deletes the records at a revival.
    RevivalDeletesRecords: taken_over_attempt_continues,
    /// Gives a new delivery the records of the one that it replaces.
    ReplacementKeepsTheRecords: records_are_deleted_with_the_delivery,
    /// Shows more than the last records.
    AllRecordsAreShown: shows_the_last_records,
    /// Shows the first records instead of the last.
    FirstRecordsAreShown: shows_the_last_records,
    /// Shows an open attempt in addition to the largest number of records.
    OpenAttemptIsShownBeyondTheLimit: shows_the_last_records,
    /// Records a settlement each time that it is repeated.
    RepeatedSettlementIsRecorded: repeated_settlement_adds_no_record,

    // Keeping the history.
    /// Deletes the history with the body.
    HistoryIsNotKept: history_is_kept_without_the_body,
    /// Keeps the body for as long as the history.
    HistoryKeepsTheBody: history_is_kept_without_the_body,
    /// Keeps the history for half the time.
    HistoryEndsEarly: history_is_kept_without_the_body,
    /// Keeps the history for a day longer.
    HistoryIsKeptForLonger: history_is_kept_without_the_body,
    /// Purges the history with the body.
    PurgeTakesTheHistory: body_is_purged_before_the_history,
    /// Purges no body whose history is kept for longer.
    PurgeLeavesTheBody: body_is_purged_before_the_history,
    /// Does not count a purged body.
    PurgedBodiesAreNotCounted: body_is_purged_before_the_history,
    /// Counts a purged body again at the next purge.
    PurgedBodiesCountAgain: history_is_kept_without_the_body,
    /// Purges the body when the history is over.
    BodyGoesWithTheHistory: body_may_outlast_the_history,
    /// Needs two purges for a delivery whose body and history are over.
    OverdueHistoryStays: overdue_history_is_purged_with_its_body,
    /// Never evicts a delivery without a body.
    EvictionSparesTheHistory: evicts_deliveries_without_bodies,
    /// Deletes the ledger row of a delivery whose history alone is kept.
    HistoryDeletesTheRow: delivery_without_body_is_known,
    /// Requeues a delivery without its body.
    RequeuesWithoutABody: delivery_without_body_is_known,

    // Expiring.
    /// Counts the attempt of a delivery that expired.
    ExpiryCountsTheAttempt: expired_delivery_is_dead,
    /// Takes all attempts off a delivery that expired.
    ExpiryTakesAllAttemptsOff: expired_delivery_is_dead,
    /// Stores no reason for a delivery that expired.
    ExpiryHasNoReason: expired_delivery_is_dead,
    /// Makes a delivery that expired ready.
    ExpiryReschedules: untaken_attempt_leaves_no_record,
    /// Lets a delivery that expired block its ordering keys.
    ExpiredBlock: expired_delivery_blocks_nothing,
    /// Replaces the reason of a dead letter by hand with that of the expiry.
    ExpiryReplacesAnyDeadLetter: expiry_leaves_a_dead_letter_by_hand,
    /// Leases deliveries without their age.
    AgeIsNotReturned: leased_delivery_has_its_age,
    /// Measures the age from the time at which the delivery was due.
    AgeCountsFromTheDueTime: leased_delivery_has_its_age,
    /// Measures the age of a revived delivery from its revival.
    AgeCountsFromTheRevival: leased_delivery_has_its_age,
    /// Does not mark deliveries that were retried after they had expired.
    RetriedAfterExpiryIsNotMarked: marks_deliveries_retried_after_expiry,
    /// Marks every retried delivery as one that had expired.
    EveryRetriedIsMarked: marks_deliveries_retried_after_expiry,
    /// Does not mark such a delivery again if its lease expires.
    OnlyTheFirstLeaseIsMarked: marks_deliveries_retried_after_expiry,

    // Searching.
    /// Finds deliveries with every id.
    FilterIgnoresTheId: finds_by_id,
    /// Finds the delivery with this id on each page.
    IdIgnoresTheStart: finds_by_id,
    /// Finds deliveries with every order.
    FilterIgnoresTheOrder: finds_by_order_and_branch,
    /// Finds deliveries of every branch.
    FilterIgnoresTheBranch: finds_by_order_and_branch,
    /// Finds deliveries by their order alone if the filter names a branch too.
    FilterTakesOneTerm: finds_by_order_and_branch,
    /// Stores only one search term.
    OneTermIsKept: finds_by_order_and_branch,
    /// Finds orders whose ids begin with the filter's.
    TermsAreBeginnings: finds_by_order_and_branch,
    /// Finds branches by the ids of orders.
    TermsIgnoreTheKind: finds_by_order_and_branch,
    /// Leaves the old search terms in a revived delivery.
    RevivedKeepsItsTerms: revived_delivery_has_new_terms,
    /// Finds deliveries with every event type.
    FilterIgnoresTheEventType: finds_by_event_type,
    /// Finds deliveries with every reason.
    FilterIgnoresTheReason: finds_by_reason,
    /// Finds reasons in upper and lower case.
    ReasonsIgnoreTheCase: finds_by_reason,
    /// Treats the part of a reason as a pattern.
    ReasonsArePatterns: finds_by_reason,
    /// Finds only whole reasons.
    ReasonsAreCompared: finds_by_reason,
    /// Finds deliveries with every number of attempts.
    FilterIgnoresTheAttempts: finds_by_attempts,
    /// Does not find deliveries with the largest number of attempts.
    AttemptsExcludeTheEnd: finds_by_attempts,
    /// Finds deliveries that are too young.
    FilterIgnoresTheLeastAge: finds_by_age,
    /// Finds deliveries that are too old.
    FilterIgnoresTheLargestAge: finds_by_age,
    /// Returns records of attempts on a page.
    PagesHaveRecords: lists_dead_deliveries_in_pages,
    /// Returns pages that say that no body is stored.
    BodiesAreNotAnnounced: body_is_purged_before_the_history,
    /// Returns pages without search terms.
    PagesHaveNoTerms: entries_describe_the_delivery,
    /// Returns pages without ages.
    PagesHaveNoAges: entries_describe_the_delivery,
    /// Shows the body even if it is not requested.
    ShowIgnoresTheBody: shows_the_body_only_if_asked,
    /// Reports that no page follows if the filter names an order or a branch.
    FirstPageOfTermsIsTheLast: finds_each_part_in_pages,
    /// Reports that no page follows if the filter selects dead deliveries.
    FirstPageOfTheDeadIsTheLast: finds_each_part_in_pages,

    // Requeueing and deleting.
    /// Requeues deliveries in states that were not named.
    RequeuesAnyState: only_dead_deliveries_are_retried,
    /// Requeues pending deliveries.
    RequeuesPendingOnes: requeues_only_the_states_named,
    /// Never requeues kept deliveries.
    KeptAreNeverRequeued: requeues_only_the_states_named,
    /// Counts a delivery for each time that its id is named.
    RequeueingCountsIds: requeues_only_the_states_named,
    /// Requeues only the first of several deliveries.
    RequeuesOnlyTheFirst: requeues_only_the_states_named,
    /// Counts only one of several deliveries.
    RequeueingCountsOne: requeues_many_at_once,
    /// Leaves the attempts counted when a kept delivery is requeued.
    RequeuedKeptHasAttempts: requeues_only_the_states_named,
    /// Makes a kept delivery due when its time to be kept ends.
    RequeuedKeptIsDueLater: requeues_only_the_states_named,
    /// Removes the ordering keys of a kept delivery when it is requeued.
    RequeuedKeptGoesLast: requeued_delivery_keeps_the_rest,
    /// Removes the reason of a requeued delivery that failed.
    RequeuedHasNoReason: requeued_delivery_keeps_the_rest,
    /// Deletes the ledger row of a requeued delivery.
    RequeueingDeletesTheRow: dead_delivery_can_be_retried,
    /// Deletes the ledger rows of deleted deliveries although they must stay.
    DeletingAlwaysDeletesTheRows: deleted_delivery_stays_known,
    /// Dead-letters deliveries instead of deleting them, if their ledger rows are kept.
    KeptRowsKeepTheDelivery: deleted_delivery_stays_known,
    /// Does not delete deliveries with ordering keys, if their ledger rows are kept.
    KeptRowsKeepTheQueue: deleted_delivery_frees_its_queue,

    // Pausing.
    /// Leases paused deliveries.
    NothingIsPaused: pauses_select_by_tenant_and_type,
    /// Pauses the deliveries of every tenant.
    PausesIgnoreTheTenant: pauses_select_by_tenant_and_type,
    /// Pauses the deliveries with every event type.
    PausesIgnoreTheType: pauses_select_by_tenant_and_type,
    /// Pauses deliveries that match one part of a pause with two.
    PausesSelectOneOfTwo: pauses_select_by_tenant_and_type,
    /// Pauses deliveries without an event type if one is paused.
    TypelessIsPausedByType: pauses_select_by_tenant_and_type,
    /// Does not pause deliveries without an event type.
    TypelessIsNeverPaused: pauses_select_by_tenant_and_type,
    /// Lifts nothing.
    ResumeLiftsNothing: pauses_select_by_tenant_and_type,
    /// Lifts a pause after a day.
    PausesEndAfterADay: paused_delivery_stays_pending,
    /// Leases deliveries that a paused one blocks.
    PausedDoesNotBlock: paused_delivery_stays_pending,
    /// Leaves paused deliveries out of the backlog.
    PausedIsNotPending: paused_delivery_stays_pending,
    /// Dead-letters paused deliveries whose lease expired on the last attempt.
    PausedIsDeadLettered: paused_delivery_is_not_dead_lettered,
    /// Releases no leases at a pause.
    PauseReleasesNothing: pause_releases_what_has_not_started,
    /// Reports that a pause released nothing.
    PauseReportsNoReleases: pause_releases_what_has_not_started,
    /// Releases deliveries whose attempts have started.
    PauseReleasesRunningOnes: paused_delivery_is_not_dead_lettered,
    /// Releases deliveries that the pause does not select.
    PauseReleasesOtherOnes: pause_releases_what_has_not_started,
    /// Leaves the lease of a released delivery valid.
    PauseLeavesTheTokenLeased: pause_releases_what_has_not_started,
    /// Releases deliveries that are due only after a day.
    PauseReleasesForADay: pause_releases_what_has_not_started,
    /// Starts no attempt of a paused delivery.
    PausedIsNotStarted: pause_releases_what_has_not_started,
    /// Extends no lease of a paused delivery.
    PausedIsNotExtended: pause_releases_what_has_not_started,
    /// Does not release a delivery whose lease has expired.
    PauseSparesExpiredLeases: pause_releases_expired_leases,
    /// Makes rescheduled deliveries due at a pause.
    PauseMakesEverythingDue: pause_releases_expired_leases,
    /// Lifts all pauses.
    ResumeLiftsEverything: only_the_equal_pause_is_lifted,
    /// Lifts pauses that select fewer deliveries too.
    ResumeLiftsNarrowerPauses: only_the_equal_pause_is_lifted,
    /// Reports that it lifted a pause that is not in force.
    ResumeIsAlwaysTrue: only_the_equal_pause_is_lifted,
    /// Lifts the other pauses when another begins.
    PausesReplaceEachOther: only_the_equal_pause_is_lifted,
    /// Begins a pause again that is in force already.
    SecondPauseReplacesTheFirst: lists_pauses_in_order,
    /// Stores no name of the operator.
    PausesNameNoOperator: lists_pauses_in_order,
    /// Lists the pauses in reverse order.
    PausesAreListedBackwards: lists_pauses_in_order,
    /// Lists pauses that began now.
    PausesBeginNow: lists_pauses_in_order,
    /// Lists only one pause.
    OnePauseIsListed: lists_pauses_in_order,
    /// Does not extend held leases of paused deliveries.
    HeldIsNotExtendedIfPaused: held_lease_of_a_paused_one_is_extended,

    // Sharing.
    /// Leases longest due first among the deliveries of all tenants.
    TenantsDoNotShare: tenants_share_the_leases,
    /// Leases all deliveries of one tenant before those of the next.
    OneTenantGoesFirst: tenants_share_the_leases,
    /// Prefetches longest due first among the deliveries of all tenants.
    PrefetchingDoesNotShare: prefetching_shares_the_leases,
    /// Leases longest due first among the deliveries of equal rank.
    TiesGoToTheLongestDue: every_tenant_gets_its_turn,
    /// Does not count held deliveries in the ranks.
    HeldDoNotCountInRanks: held_deliveries_count_in_the_rank,
    /// Leases the deliveries of each tenant in order of acceptance, if there are several tenants.
    SharedTenantsAreServedAsAccepted: tenant_is_served_longest_due_first,

    // Concurrent calls.
    /// Looks up the key, and stores the delivery later without a lock.
    AcceptingIsTwoSteps: one_of_many_copies_is_accepted,
    /// Selects deliveries, and leases them later without a lock.
    LeasingIsTwoSteps: each_delivery_is_leased_once,
    /// Draws a delivery's id, and stores the delivery after others with larger ids.
    IdsAreDrawnEarly: ordered_deliveries_are_leased_one_at_a_time,
    /// Reads a delivery, and settles it later without a lock.
    SettlingIsTwoSteps: concurrent_settlements_count_once,
    /// Reads a delivery whose lease has expired, and settles it later without a lock.
    LateSettlementIsTwoSteps: late_settlement_excludes_a_new_lease,
    /// Reads a delivery, and starts its attempt later without a lock.
    StartingIsTwoSteps: concurrent_starts_count_once,
}

/// The faults that random calls seldom or never find. They must find all others.
pub(crate) const NOT_FOUND_BY_CHANCE: &[InboxFault] = &[
    InboxFault::RevivedKeepsItsHead,
    InboxFault::BodyWithAnotherDigestIsReturned,
    InboxFault::HeadsAreCut,
    InboxFault::ReasonsAreAscii,
    InboxFault::LargerTokensAreCurrent,
    InboxFault::StartingLowersTheCount,
    InboxFault::DeadAreDeletedAfterAMonth,
    // The model filters by state, tenant and order only.
    InboxFault::FilterIgnoresTheEventId,
    InboxFault::FilterIgnoresTheId,
    InboxFault::IdIgnoresTheStart,
    InboxFault::FilterIgnoresTheBranch,
    InboxFault::FilterTakesOneTerm,
    InboxFault::TermsAreBeginnings,
    InboxFault::TermsIgnoreTheKind,
    InboxFault::FilterIgnoresTheEventType,
    InboxFault::FilterIgnoresTheReason,
    InboxFault::ReasonsIgnoreTheCase,
    InboxFault::ReasonsArePatterns,
    InboxFault::ReasonsAreCompared,
    InboxFault::FilterIgnoresTheAttempts,
    InboxFault::AttemptsExcludeTheEnd,
    InboxFault::FilterIgnoresTheLeastAge,
    InboxFault::FilterIgnoresTheLargestAge,
    InboxFault::FilterIgnoresTheBody,
    InboxFault::FilterIgnoresTheStart,
    InboxFault::FilterIgnoresTheEnd,
    InboxFault::FirstPageOfTheDeadIsTheLast,
    // Every delivery of the model has an event type.
    InboxFault::TypelessIsPausedByType,
    InboxFault::TypelessIsNeverPaused,
    // The model seldom pauses a delivery whose attempt runs, or for long.
    InboxFault::PausedIsDeadLettered,
    InboxFault::HeldIsNotExtendedIfPaused,
    InboxFault::PausesEndAfterADay,
    InboxFault::ExpiredClaimIsNotReplaced,
    InboxFault::EvictsInOrderOfAcceptance,
    // The model always reads the body, and makes fewer attempts than a store shows.
    InboxFault::ShowIgnoresTheBody,
    InboxFault::AllRecordsAreShown,
    InboxFault::FirstRecordsAreShown,
    InboxFault::OpenAttemptIsShownBeyondTheLimit,
    // The model allows every order of tenants that share a rank.
    InboxFault::TiesGoToTheLongestDue,
    // The model purges expired deliveries whenever time passes.
    InboxFault::StoredLeavesOutThePurgeable,
    InboxFault::NeverEvictsThePurgeable,
    InboxFault::AcceptingIsTwoSteps,
    InboxFault::LeasingIsTwoSteps,
    InboxFault::IdsAreDrawnEarly,
    InboxFault::SettlingIsTwoSteps,
    InboxFault::LateSettlementIsTwoSteps,
    InboxFault::StartingIsTwoSteps,
];

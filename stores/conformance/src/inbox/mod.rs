//! Tests for implementations of [`InboxStore`] and [`InboxAdmin`], and deliveries for tests of your own.
//!
//! ```
//! use std::time::Duration;
//! use tower_klikit::store::MemoryStore;
//! use tower_klikit_store_tests::inbox;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! // In a test of your own: #[tokio::test(start_paused = true)]
//! let make = async || MemoryStore::new();
//! let advance = async |_: &MemoryStore, time: Duration| tokio::time::advance(time).await;
//! inbox::check(make, advance).await;
//! # });
//! ```

mod accept;
mod admin;
mod ahead;
mod attempts;
mod contents;
mod expire;
mod extend;
#[cfg(test)]
mod faulty;
mod find;
mod fixtures;
mod forget;
mod forget_window;
mod held;
mod history;
mod known_body;
mod late_settle;
mod lease;
mod ledger_row;
mod limits;
mod lost_lease;
mod model;
mod ordering;
mod pauses;
mod races;
mod requeue;
mod revive;
mod search;
mod settle;
mod sharing;
mod start;
mod state;
mod steps;
mod tested;
mod worklog;

use std::{pin::Pin, time::Duration};

use tower_klikit::{
    dedupe::Ledger,
    inbox::{InboxAdmin, InboxStore},
};

use self::tested::TestedInbox;
pub use self::{
    fixtures::{conflict, delivery},
    model::compare,
    races::{race, race_between},
};

/// Checks every rule of [`InboxStore`] and [`InboxAdmin`]. [`ledger::check`](crate::ledger::check) checks the rules of the store's
/// [`Ledger`].
///
/// `make` is called once for each rule and returns an empty store that nothing else uses. It may empty and return the same database
/// each time.
///
/// `advance` makes time pass for the store that `make` returned last. For a store in a database, run `UPDATE`s that move every stored
/// time into the past, including the times at which deliveries were accepted and entries were claimed. A few seconds of real time that
/// pass during a rule do not matter. The store's clock may differ from this machine's by 5 minutes.
///
/// `check` spawns up to 76 tasks at a time, so it needs a tokio runtime. If `advance` needs a single-threaded runtime, as tokio's
/// paused clock does, also call [`race`] on a multi-threaded one.
///
/// # Panics
///
/// If the store breaks a rule. The message contains the rule's name, the store's result and the expected one.
pub async fn check<S: InboxStore + InboxAdmin + Ledger>(
    make: impl AsyncFn() -> S,
    advance: impl AsyncFn(&S, Duration),
) {
    macro_rules! rules {
        ($($rule:ident,)*) => {
            [$((stringify!($rule), |tested| Box::pin(tested.$rule()))),*]
        };
    }
    let rules: [(&str, InboxRule<'_, S, _>); _] = rules! {
        new_delivery_is_accepted_once,
        pending_delivery_is_known,
        handled_delivery_is_known_for_its_retention,
        copies_do_not_extend_the_retention,
        deliveries_are_independent,
        new_delivery_replaces_a_kept_one,
        later_deliveries_have_larger_ids,
        ledger_knows_accepted_deliveries,
        deliveries_done_in_the_ledger_are_known,
        claimed_deliveries_are_in_flight,
        expired_claim_does_not_block_accepting,
        missing_ledger_row_is_restored,
        restored_ledger_row_has_the_stored_digest,
        claimed_ledger_row_is_not_replaced,
        expired_claim_on_a_ledger_row_is_replaced,
        leases_longest_due_first,
        leases_no_more_than_requested,
        leased_delivery_is_not_leased_again,
        expired_lease_can_be_taken_over,
        marks_deliveries_whose_lease_expired,
        last_expired_attempt_is_dead_lettered,
        ready_delivery_is_leased_after_max_attempts,
        lease_reports_its_dead_letters,
        handled_delivery_is_deleted,
        kept_delivery_stays_with_its_body,
        rescheduled_delivery_is_due_after_its_delay,
        release_takes_its_attempt_off,
        dead_letter_stays_until_it_is_purged,
        expired_lease_can_be_settled,
        repeated_settlement_changes_nothing,
        settles_many_leases_in_order,
        purges_only_deliveries_that_are_over,
        extended_lease_counts_from_the_extension,
        expired_lease_can_be_extended,
        settled_delivery_is_not_extended,
        extends_many_leases_in_order,
        counts_each_state,
        reports_the_oldest_pending,
        counts_the_backlog_up_to_a_limit,
        lists_dead_deliveries_in_pages,
        shows_every_state,
        finds_deliveries_by_state,
        finds_deliveries_by_each_filter,
        finds_deliveries_in_pages,
        dead_delivery_can_be_retried,
        only_dead_deliveries_are_retried,
        dead_delivery_is_revived,
        revived_delivery_takes_the_new_request,
        same_json_revives_a_dead_delivery,
        revived_delivery_fences_the_old_token,
        revived_delivery_has_the_new_retention,
        revived_delivery_keeps_its_time_of_acceptance,
        other_body_does_not_revive,
        accept_reports_a_dead_delivery,
        attempts_and_tokens_grow,
        lost_lease_changes_nothing,
        foreign_token_changes_nothing,
        known_delivery_returns_its_body,
        matching_delivery_returns_no_body,
        deleted_delivery_returns_no_body,
        keeps_every_byte_of_a_body,
        keeps_every_character_of_a_head,
        keeps_every_character_of_a_reason,
        head_of_the_queue_blocks_the_others,
        rescheduled_head_blocks_its_key,
        expired_head_blocks_its_key,
        each_ordering_key_blocks,
        dead_delivery_does_not_block,
        retried_delivery_keeps_its_place_in_the_queue,
        revived_delivery_takes_its_new_keys,
        leased_delivery_blocks_a_retried_one,
        leased_delivery_blocks_a_revived_one,
        returns_the_ordering_keys,
        held_lease_is_extended,
        held_lease_is_not_dead_lettered,
        held_lease_blocks_its_ordering_keys,
        held_lease_blocks_a_retried_delivery,
        held_delivery_is_leased_without_an_attempt,
        stale_held_lease_protects_nothing,
        late_success_settles_a_dead_letter,
        late_failure_settles_a_dead_letter,
        late_release_settles_a_dead_letter,
        retried_delivery_can_be_settled,
        late_failure_keeps_its_place_in_the_queue,
        late_success_unblocks_its_ordering_keys,
        unordered_reschedule_stops_blocking,
        late_unordered_reschedule_stops_blocking,
        forgotten_event_is_accepted_again,
        pending_delivery_is_not_forgotten,
        other_events_are_not_forgotten,
        forgetting_counts_only_known_keys,
        counts_the_keys_of_an_event,
        settling_a_missing_delivery_returns_gone,
        window_forgets_deliveries_accepted_in_it,
        window_keeps_pending_deliveries,
        window_compares_the_time_of_acceptance,
        window_compares_the_ledger_row_too,
        window_ignores_ledger_rows_that_are_over,
        counts_the_keys_of_a_window,
        restored_ledger_row_has_a_new_claim_time,
        lease_counts_attempts_for_free_handlers,
        lease_ahead_counts_no_attempt,
        expired_lease_is_not_leased_ahead,
        exhausted_delivery_is_not_leased_ahead,
        last_attempt_counts_when_it_starts,
        expired_lease_counts_when_it_starts,
        unstarted_attempts_do_not_dead_letter,
        release_keeps_earlier_attempts,
        start_counts_the_attempt_once,
        start_does_not_extend_the_lease,
        start_is_fenced_by_the_token,
        unleased_delivery_is_not_started,
        starts_many_leases_in_order,
        counts_all_stored_up_to_a_limit,
        evicts_only_kept_deliveries,
        evicts_deliveries_that_end_soonest,
        evicted_delivery_is_still_known,
        purges_only_dead_letters_of_the_given_age,
        purges_the_oldest_dead_letters_first,
        purged_dead_letter_is_still_known,
        dead_letters_only_the_states_named,
        dead_letter_by_hand_is_an_ordinary_one,
        success_replaces_a_dead_letter_by_hand,
        release_leaves_a_dead_letter_by_hand,
        forgets_only_the_states_named,
        forgotten_pending_delivery_is_deleted,
        each_outcome_is_recorded,
        records_have_times,
        attempt_opens_when_it_starts,
        untaken_attempt_leaves_no_record,
        lost_attempt_is_recorded,
        lost_attempt_has_a_number,
        late_outcome_replaces_its_record,
        failure_of_a_dead_letter_is_recorded,
        taken_over_attempt_continues,
        records_survive_retries,
        records_are_deleted_with_the_delivery,
        shows_the_last_records,
        repeated_settlement_adds_no_record,
        history_is_kept_without_the_body,
        body_is_purged_before_the_history,
        body_may_outlast_the_history,
        overdue_history_is_purged_with_its_body,
        evicts_deliveries_without_bodies,
        delivery_without_body_is_known,
        expired_delivery_is_dead,
        expired_delivery_blocks_nothing,
        expiry_leaves_a_dead_letter_by_hand,
        leased_delivery_has_its_age,
        marks_deliveries_retried_after_expiry,
        finds_by_id,
        finds_by_order_and_branch,
        revived_delivery_has_new_terms,
        finds_by_event_type,
        finds_by_reason,
        finds_by_attempts,
        finds_by_age,
        entries_describe_the_delivery,
        shows_the_body_only_if_asked,
        finds_each_part_in_pages,
        requeues_only_the_states_named,
        requeues_many_at_once,
        requeued_delivery_keeps_the_rest,
        deleted_delivery_stays_known,
        deleted_delivery_frees_its_queue,
        pauses_select_by_tenant_and_type,
        paused_delivery_stays_pending,
        paused_delivery_is_not_dead_lettered,
        pause_releases_what_has_not_started,
        pause_releases_expired_leases,
        only_the_equal_pause_is_lifted,
        lists_pauses_in_order,
        held_lease_of_a_paused_one_is_extended,
        tenants_share_the_leases,
        prefetching_shares_the_leases,
        every_tenant_gets_its_turn,
        held_deliveries_count_in_the_rank,
        tenant_is_served_longest_due_first,
        one_of_many_copies_is_accepted,
        each_delivery_is_leased_once,
        ordered_deliveries_are_leased_one_at_a_time,
        concurrent_settlements_count_once,
        late_settlement_excludes_a_new_lease,
        concurrent_starts_count_once,
    };
    for (name, rule) in rules {
        let tested = TestedInbox::new(name, make().await, &advance);
        rule(&tested).await;
    }
}

/// A rule. Its future is boxed, because one future that contains all rules would overflow a thread's stack.
type InboxRule<'s, S, A> = for<'a> fn(&'a TestedInbox<'s, S, A>) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

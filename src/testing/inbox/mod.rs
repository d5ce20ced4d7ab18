//! For the tests of an [`InboxStore`]: deliveries to accept, and the suite that this crate's own stores pass.
//!
//! ```
//! use std::time::Duration;
//! use tower_klikit::{store::MemoryStore, testing::inbox};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! // In a test of your own: #[tokio::test(start_paused = true)]
//! let make = async || MemoryStore::new();
//! let advance = async |_: &MemoryStore, time: Duration| tokio::time::advance(time).await;
//! inbox::check(make, advance).await;
//! # });
//! ```

mod accepting;
mod book;
mod contents;
mod ending;
mod forgetting;
mod knowing;
mod leasing;
mod losing;
mod operating;
mod ordering;
mod races;
mod reviving;
mod subject;
mod windows;

use std::time::Duration;

use bytes::Bytes;

pub use self::races::{race, race_between};
use self::subject::Subject;
use super::ledger;
use crate::{
    dedupe::{Claim, Ledger},
    inbox::{InboxStore, NewDelivery},
};

/// The event of this id, of this tenant, with this body. Its token is no other claim's, so a second call gives a copy that
/// klikit sent once more.
///
/// Its head and its ordering keys can be [set](NewDelivery::with_head).
///
/// # Panics
///
/// When the system has no random bytes.
#[track_caller]
pub fn delivery(scope: &str, id: &str, body: impl AsRef<[u8]>) -> NewDelivery {
    let claim = ledger::claim(scope, id, body.as_ref());
    made(claim, scope, id, body.as_ref())
}

/// Another body under an id that is taken: what an acceptor makes when it finds another digest. It is forgotten with the event.
///
/// # Panics
///
/// When the system has no random bytes.
#[track_caller]
pub fn conflict(scope: &str, id: &str, body: impl AsRef<[u8]>) -> NewDelivery {
    let claim = ledger::conflict(scope, id, body.as_ref());
    made(claim, scope, id, body.as_ref())
}

fn made(claim: Claim, scope: &str, id: &str, body: &[u8]) -> NewDelivery {
    let head = serde_json::json!({
        "method": "POST",
        "uri": "/webhooks/klikit?from=klikit",
        "content_type": "application/json",
        "event_id": id,
        "event_type": "order.created",
        "tenant": scope,
        "secret_id": "default",
        "received_at": 1_700_000_000_000_u64,
        "conflict": claim.is_conflict(),
    });
    NewDelivery::new(claim, head.to_string(), Bytes::copy_from_slice(body))
}

/// Checks every rule of [`InboxStore`], one after the other. What the store does as a [`Ledger`] alone is for
/// [`ledger::check`].
///
/// `make` is called for each rule and gives a store with nothing in it, that nobody else uses. It may be the same database each
/// time, emptied.
///
/// `advance` makes time pass for a store, the last that `make` gave: the least that a store in a database needs are `UPDATE`s
/// that move every time that is stored into the past, those at which deliveries were accepted and entries were claimed too. That
/// time passes by itself as well does not matter, up to some seconds for each rule. The store's clock may differ from this
/// machine's by 5 minutes.
///
/// Spawns tasks, 64 at a time, so it needs a tokio runtime. If `advance` needs a runtime of one thread, as tokio's paused clock
/// does, call [`race`] on several threads as well.
///
/// # Panics
///
/// When a rule is broken, with its name and what should have been.
pub async fn check<S: InboxStore + Ledger>(make: impl AsyncFn() -> S, advance: impl AsyncFn(&S, Duration)) {
    macro_rules! check {
        ($($rule:ident,)*) => {$(
            let subject = Subject::new(stringify!($rule), make().await, &advance);
            subject.$rule().await;
        )*};
    }
    check! {
        what_is_new_is_accepted_once,
        what_is_not_finished_is_known,
        what_is_finished_is_known_for_its_retention,
        a_copy_does_not_prolong_what_is_known,
        deliveries_do_not_touch_each_other,
        what_is_kept_gives_way,
        ids_grow,
        the_ledger_knows_what_was_accepted,
        what_the_ledger_has_done_is_known,
        what_the_ledger_holds_is_in_flight,
        a_ledger_row_that_has_gone_is_there_again,
        a_ledger_row_that_has_gone_gets_its_own_digest_back,
        a_ledger_row_that_is_claimed_has_not_gone,
        a_dead_delivery_is_revived,
        a_revived_delivery_takes_the_new_request,
        a_revived_delivery_is_known_for_the_new_retention,
        a_revived_delivery_keeps_its_time_of_acceptance,
        another_body_revives_nothing,
        every_byte_of_a_body_is_kept,
        every_character_of_a_head_is_kept,
        every_character_of_a_reason_is_kept,
        the_longest_due_is_leased_first,
        no_more_are_leased_than_asked_for,
        what_is_leased_is_not_leased_again,
        a_lease_ends,
        what_ran_out_is_marked,
        attempts_and_tokens_grow,
        an_extended_lease_starts_anew,
        who_died_of_the_last_attempt_is_buried,
        what_is_ready_is_leased_however_many_attempts_it_has,
        a_lease_that_ran_out_is_held_until_another_takes_it,
        a_lease_that_ran_out_is_not_extended,
        who_lost_a_lease_changes_nothing,
        only_its_own_token_holds_a_lease,
        what_is_finished_is_gone,
        what_is_kept_stays_with_its_body,
        purging_takes_only_what_is_up,
        what_is_postponed_waits,
        what_is_given_back_was_no_attempt,
        what_is_buried_stays,
        all_are_counted,
        the_oldest_is_told,
        the_backlog_is_counted_up_to_a_limit,
        the_dead_are_listed_in_pages,
        every_state_is_shown,
        the_dead_are_retried,
        nothing_but_the_dead_is_retried,
        a_head_holds_those_behind_it,
        a_head_that_is_postponed_holds_its_key,
        a_head_whose_lease_ran_out_holds_its_key,
        a_delivery_waits_for_each_of_its_keys,
        the_dead_hold_nobody,
        a_retried_delivery_takes_its_old_place,
        a_revived_delivery_takes_its_old_place_and_its_new_keys,
        a_retried_delivery_waits_for_one_behind_it_that_is_leased,
        a_revived_delivery_waits_for_one_behind_it_that_is_leased,
        a_forgotten_event_is_accepted_again,
        what_is_not_finished_is_not_forgotten,
        other_events_are_not_forgotten,
        what_is_absent_is_not_counted,
        a_window_forgets_what_was_accepted_in_it,
        a_window_leaves_what_is_not_finished,
        a_window_takes_what_was_accepted_in_it_and_came_again_since,
        a_window_takes_what_came_again_in_it,
        a_window_does_not_go_by_a_ledger_row_whose_time_is_up,
        what_came_again_was_claimed_anew,
        one_of_many_copies_is_accepted,
        each_is_leased_once,
        those_that_share_a_key_are_leased_one_after_the_other,
        one_of_many_ends_a_lease,
    }
}

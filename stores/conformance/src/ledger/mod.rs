//! Tests for implementations of [`Ledger`], and claims for tests of your own.
//!
//! ```
//! use std::time::Duration;
//! use tower_klikit::store::MemoryStore;
//! use tower_klikit_store_tests::ledger;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! // In a test of your own: #[tokio::test(start_paused = true)]
//! let make = async || MemoryStore::new();
//! let advance = async |_: &MemoryStore, time: Duration| tokio::time::advance(time).await;
//! ledger::check(make, advance).await;
//! # });
//! ```

mod entries;
mod expiry;
#[cfg(test)]
mod faulty;
mod forget;
mod listing;
pub(crate) mod model;
mod races;
pub(crate) mod reference;
mod renew;
mod tested;

use std::{pin::Pin, time::Duration};

use tower_klikit::dedupe::{BodyDigest, Claim, EventKey, Ledger, LedgerAdmin};

use self::tested::TestedLedger;
pub use self::{model::compare, races::race};

/// Makes a claim on tenant `scope`'s event `id`, for a delivery with this body. Each call uses a fresh token, so a second call makes
/// a rival claim on the same entry.
///
/// # Panics
///
/// If the system has no random bytes.
#[track_caller]
pub fn claim(scope: &str, id: &str, body: impl AsRef<[u8]>) -> Claim {
    let event = EventKey::of_event(scope, id);
    with_fresh_token(event, event, BodyDigest::of(body.as_ref()))
}

/// Makes a claim for a delivery whose event id was already used with a different body, as the layer does when [`claim`] finds another
/// digest. The claim has its own entry. Forgetting the event also forgets this entry.
///
/// # Panics
///
/// If the system has no random bytes.
#[track_caller]
pub fn conflict(scope: &str, id: &str, body: impl AsRef<[u8]>) -> Claim {
    let event = EventKey::of_event(scope, id);
    let digest = BodyDigest::of(body.as_ref());
    with_fresh_token(event.with_body(&digest), event, digest)
}

#[track_caller]
fn with_fresh_token(key: EventKey, event: EventKey, digest: BodyDigest) -> Claim {
    let mut token = [0; 16];
    getrandom::fill(&mut token).unwrap_or_else(|error| panic!("the system has no random bytes: {error}"));
    Claim::new(*key.as_bytes(), *event.as_bytes(), digest, token)
}

/// Checks every rule of [`Ledger`] and [`LedgerAdmin`].
///
/// `make` is called once for each rule and returns an empty store that nothing else uses. It may empty and return the same database
/// each time.
///
/// `advance` makes time pass for the store that `make` returned last. For a store in a database, run an `UPDATE` that moves every
/// stored time into the past, including the times at which entries were claimed. A few seconds of real time that pass during a rule
/// do not matter. The store's clock may differ from this machine's by 5 minutes.
///
/// `check` spawns up to 65 tasks at a time, so it needs a tokio runtime. If `advance` needs a single-threaded runtime, as tokio's
/// paused clock does, also call [`race`] on a multi-threaded one.
///
/// # Panics
///
/// If the store breaks a rule. The message contains the rule's name, the store's result and the expected one.
pub async fn check<L: Ledger + LedgerAdmin>(make: impl AsyncFn() -> L, advance: impl AsyncFn(&L, Duration)) {
    macro_rules! rules {
        ($($rule:ident,)*) => {
            [$((stringify!($rule), |tested| Box::pin(tested.$rule()))),*]
        };
    }
    let rules: [(&str, LedgerRule<'_, L, _>); _] = rules! {
        absent_entry_can_be_claimed,
        held_entry_is_in_flight,
        holder_can_claim_again,
        only_holder_can_complete,
        completing_twice_succeeds,
        expired_claim_can_be_taken_over,
        done_entry_lasts_for_its_retention,
        retention_starts_at_completion,
        released_entry_can_be_claimed,
        only_holder_can_release,
        done_entry_cannot_be_released,
        only_holder_can_renew,
        rejected_claim_changes_nothing,
        renewed_lease_counts_from_the_renewal,
        done_entry_cannot_be_renewed,
        entries_are_independent,
        keeps_every_byte,
        expired_claim_can_be_completed,
        expired_claim_can_be_renewed,
        expired_claim_can_be_claimed_again,
        expired_claim_can_be_released,
        lost_claim_cannot_change_the_new_claim,
        claim_is_absent_after_its_grace,
        renewed_claim_has_a_new_grace,
        renews_many_claims_in_order,
        forgotten_event_is_absent,
        other_events_are_not_forgotten,
        conflicts_are_forgotten_with_their_event,
        forgetting_counts_only_present_entries,
        forgotten_claim_cannot_be_completed,
        window_forgets_entries_claimed_in_it,
        window_compares_the_time_of_claim,
        forgets_expired_claims,
        lists_an_event_with_its_conflicts,
        lists_entries_claimed_in_a_window,
        window_has_its_start_and_not_its_end,
        lists_claimed_and_done_entries,
        lists_entries_in_pages,
        leaves_out_entries_that_are_over,
        purges_only_entries_that_are_over,
        purge_keeps_claims_within_their_grace,
        one_of_many_claims_wins,
        one_of_many_claims_takes_over,
        late_completion_excludes_a_takeover,
    };
    for (name, rule) in rules {
        let tested = TestedLedger::new(name, make().await, &advance);
        rule(&tested).await;
    }
}

/// A rule. Its future is boxed, because one future that contains all rules would overflow a thread's stack.
type LedgerRule<'s, L, A> = for<'a> fn(&'a TestedLedger<'s, L, A>) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

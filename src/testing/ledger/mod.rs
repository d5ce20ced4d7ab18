//! For the tests of a [`Ledger`]: claims to make, and the suite that this crate's own stores pass.
//!
//! ```
//! use std::time::Duration;
//! use tower_klikit::{store::MemoryStore, testing::ledger};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! // In a test of your own: #[tokio::test(start_paused = true)]
//! let make = async || MemoryStore::new();
//! let advance = async |_: &MemoryStore, time: Duration| tokio::time::advance(time).await;
//! ledger::check(make, advance).await;
//! # });
//! ```

mod entries;
mod forgetting;
mod races;
mod subject;

use std::time::Duration;

pub use self::races::race;
use self::subject::Subject;
use crate::dedupe::{BodyDigest, Claim, EventKey, Ledger};

/// A claim on the event of this id, of this tenant, that came with this body. Its token is no other claim's, so a second call
/// gives a rival for the same entry.
///
/// # Panics
///
/// When the system has no random bytes.
#[track_caller]
pub fn claim(scope: &str, id: &str, body: impl AsRef<[u8]>) -> Claim {
    let event = EventKey::of_event(scope, id);
    with_fresh_token(event, event, BodyDigest::of(body.as_ref()))
}

/// A claim on the entry of another body under an id that is taken: what the layer makes when [`claim`] finds another digest.
/// It is forgotten with the event.
///
/// # Panics
///
/// When the system has no random bytes.
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

/// Checks every rule of [`Ledger`], one after the other.
///
/// `make` is called for each rule and gives a store with no entries, that nobody else uses. It may be the same database each
/// time, emptied.
///
/// `advance` makes time pass for a store, the last that `make` gave: the least that a store in a database needs is an `UPDATE`
/// that moves every time that is stored into the past, those at which entries were claimed too. That time passes by itself as
/// well does not matter, up to some seconds for each rule. The store's clock may differ from this machine's by 5 minutes.
///
/// Spawns tasks, 64 at a time, so it needs a tokio runtime. If `advance` needs a runtime of one thread, as tokio's paused clock
/// does, call [`race`] on several threads as well.
///
/// # Panics
///
/// When a rule is broken, with its name and what should have been.
pub async fn check<L: Ledger>(make: impl AsyncFn() -> L, advance: impl AsyncFn(&L, Duration)) {
    macro_rules! check {
        ($($rule:ident,)*) => {$(
            let subject = Subject::new(stringify!($rule), make().await, &advance);
            subject.$rule().await;
        )*};
    }
    check! {
        what_is_absent_can_be_claimed,
        what_another_holds_is_in_flight,
        the_holder_can_claim_again,
        only_the_holder_can_complete,
        completing_twice_succeeds,
        a_lease_ends,
        what_is_done_stays_done_for_its_retention,
        the_retention_starts_at_the_completion,
        what_was_released_can_be_claimed,
        only_the_holder_can_release,
        what_is_done_cannot_be_released,
        only_the_holder_can_renew,
        a_refused_claim_changes_nothing,
        a_renewed_lease_starts_anew,
        what_is_done_cannot_be_renewed,
        who_lost_a_claim_cannot_touch_the_next_one,
        entries_do_not_touch_each_other,
        every_byte_is_kept,
        a_forgotten_event_is_absent,
        conflicts_are_forgotten_with_their_event,
        other_events_are_not_forgotten,
        what_is_absent_is_not_counted,
        who_was_forgotten_cannot_touch_the_next_claim,
        a_window_forgets_what_was_claimed_in_it,
        a_window_goes_by_the_claim_alone,
        purging_takes_only_what_is_up,
        one_of_many_claims_wins,
        one_of_many_takes_over_what_is_up,
    }
}

//! The checks of the inbox.

use std::time::Duration;

use tower_klikit::{
    ErrorChain,
    inbox::{ActivePause, Counts, Inbox},
};

use super::row::{Check, Row};
use crate::store::values;

/// The age of a pending delivery from which its restaurant misses it.
const LATE: Duration = Duration::from_secs(5 * 60);

/// Checks the counts and the pauses. Returns the text of the error if the store fails.
pub(super) async fn check(inbox: &Inbox, max_stored: u64) -> Result<Vec<Row>, String> {
    let counts = inbox.counts().await.map_err(|error| ErrorChain::new(&error).to_string())?;
    let pauses = inbox.pauses().await.map_err(|error| ErrorChain::new(&error).to_string())?;
    Ok(vec![dead_letters(&counts), pending(&counts), stored(&counts, max_stored), paused(&pauses)])
}

fn dead_letters(counts: &Counts) -> Row {
    match counts.dead {
        0 => Check::DeadLetters.ok("no dead letters"),
        dead => Check::DeadLetters.warning(
            format!("dead letters: {dead}"),
            "find the reason with `klikit inbox stats --reasons`, remove it, and run `klikit inbox retry`",
        ),
    }
}

fn pending(counts: &Counts) -> Row {
    let Counts { ready, leased, oldest, .. } = *counts;
    let Some(age) = oldest else { return Check::Pending.ok("no pending deliveries") };
    let seen = format!("{ready} ready, {leased} leased, the oldest accepted {} ago", values::age(age));
    if age <= LATE {
        return Check::Pending.ok(seen);
    }
    let action = "check that workers run, that no pause is in force, and why attempts fail: `klikit inbox list`";
    Check::Pending.warning(seen, action)
}

fn stored(counts: &Counts, max_stored: u64) -> Row {
    let seen = format!("{} of at most {max_stored}, {} of them handled", counts.stored(), counts.done);
    // The share of the alert for the gauge `klikit_inbox_stored_ratio`.
    if counts.stored().saturating_mul(5) <= max_stored.saturating_mul(4) {
        return Check::Stored.ok(seen);
    }
    let action = "make space with `klikit inbox purge`: at the limit, handled deliveries are deleted early, and then \
        new deliveries are rejected with 503";
    Check::Stored.warning(seen, action)
}

fn paused(pauses: &[ActivePause]) -> Row {
    if pauses.is_empty() {
        return Check::Pauses.ok("no pause is in force");
    }
    let named = |ActivePause { pause, operator, since }: &ActivePause| {
        format!("{pause} by {operator} since {}", values::time(*since))
    };
    let seen: Vec<_> = pauses.iter().map(named).collect();
    Check::Pauses.warning(seen.join("; "), "ask the operator, and lift the pause with `klikit inbox resume`")
}

//! Acknowledged deliveries survive killed processes, power cuts, deliveries that kill their worker, and restarts, all under load.
//!
//! The tests play klikit. Their children, this same program with `KLIKIT_SOAK_CHILD` set, accept and handle deliveries, and write to a
//! journal what their stores answered and what their handlers did. Nothing is judged by how long it took, but nothing may hang.
//!
//! `KLIKIT_SOAK_ROUNDS` sets how often each test kills a child. Default: 10.

mod child;
mod client;
mod deliveries;
mod drain;
mod journal;
mod kill;
mod node;
mod nodes;
mod poison;
mod power_cut;
mod recorder;
mod report;
mod soak;

use std::{env, time::Duration};

use tower_klikit_test_support::servers;

/// How long a lease lasts.
const LEASE: Duration = Duration::from_secs(1);

/// How long anything may take before it counts as hanging.
const FOR_EVER: Duration = Duration::from_secs(120);

fn rounds() -> usize {
    env::var("KLIKIT_SOAK_ROUNDS").map_or(10, |text| text.parse().expect("KLIKIT_SOAK_ROUNDS is a number"))
}

/// Returns a random number below `end`.
fn random(end: u64) -> u64 {
    getrandom::u64().expect("the system has randomness") % end
}

/// Returns a random time to go on before the next kill.
fn a_while() -> Duration {
    Duration::from_millis(20 + random(281))
}

//! Tests that acknowledged deliveries survive killed processes, power cuts, poisonous deliveries and restarts under
//! load.
//!
//! The tests send deliveries as klikit does. Their children accept and handle the deliveries, and record in a journal
//! what their stores returned and what their handlers did. A child is this program with the environment variable
//! `KLIKIT_SOAK_CHILD`. No test depends on how long a step takes, but steps have generous timeouts.
//!
//! `KLIKIT_SOAK_ROUNDS` sets how often each test kills a child. The default is 10.

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

/// The default duration of leases.
const LEASE: Duration = Duration::from_secs(1);

/// The time after which a step counts as hanging.
const TIMEOUT: Duration = Duration::from_secs(120);

fn rounds() -> usize {
    env::var("KLIKIT_SOAK_ROUNDS").map_or(10, |text| text.parse().expect("KLIKIT_SOAK_ROUNDS is a number"))
}

/// Returns a random number below `end`.
fn random(end: u64) -> u64 {
    getrandom::u64().expect("the system has a random generator") % end
}

/// Returns a random time to wait before the next kill.
fn a_while() -> Duration {
    Duration::from_millis(20 + random(281))
}

//! What is acknowledged survives: processes that are killed, machines that lose power, workers that die of a delivery, and
//! restarts, all under load.
//!
//! The tests are klikit. They have children, this same program with `KLIKIT_SOAK_CHILD` set, that accept deliveries and handle
//! them, and write down in a journal what their stores told them and what their handlers did. Nothing is judged by how long it
//! took; but nothing may take for ever.
//!
//! `KLIKIT_SOAK_ROUNDS` is how often a child is killed in each test: 10 unless set.
#![cfg(all(feature = "sqlite", feature = "postgres", feature = "testing", unix))]

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

#[path = "../support/servers/mod.rs"]
mod servers;

use std::{env, time::Duration};

/// How long a lease lasts.
const LEASE: Duration = Duration::from_secs(1);

/// How long anything may take before it counts as hanging.
const FOR_EVER: Duration = Duration::from_secs(120);

fn rounds() -> usize {
    env::var("KLIKIT_SOAK_ROUNDS").map_or(10, |text| text.parse().expect("KLIKIT_SOAK_ROUNDS is a number"))
}

/// A number below `end`, each as likely as the next.
fn random(end: u64) -> u64 {
    getrandom::u64().expect("the system has randomness") % end
}

/// How long to go on before the next kill.
fn a_while() -> Duration {
    Duration::from_millis(20 + random(281))
}

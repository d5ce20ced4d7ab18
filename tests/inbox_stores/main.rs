//! Tests that every store of an inbox passes: the suite, and a model with random calls.
#![cfg(all(feature = "inbox", feature = "testing"))]

mod faults;
mod faulty;
mod memory;
mod model;
#[cfg(feature = "postgres")]
mod postgres;
mod reference;
#[cfg(feature = "sqlite")]
mod sqlite;
mod state;
mod steps;

#[path = "../support/reference_ledger.rs"]
mod reference_ledger;
#[cfg(feature = "postgres")]
#[path = "../support/servers/mod.rs"]
mod servers;

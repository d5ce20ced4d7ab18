//! Tests that every ledger passes: the suite, and a model with random calls.
#![cfg(feature = "dedupe")]

mod bounds;
mod faults;
mod faulty;
mod memory;
mod model;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

#[path = "../support/reference_ledger.rs"]
mod reference_ledger;
#[cfg(any(feature = "postgres", feature = "redis"))]
#[path = "../support/servers/mod.rs"]
mod servers;

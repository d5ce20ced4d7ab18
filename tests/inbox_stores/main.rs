//! What holds for every store of accepted deliveries: the suite, and a model with random calls.
#![cfg(all(feature = "inbox", feature = "testing"))]

mod broken;
mod faults;
mod memory;
mod model;
#[cfg(feature = "postgres")]
mod postgres;
mod reference;
#[cfg(feature = "sqlite")]
mod sqlite;
mod state;
mod steps;

#[cfg(feature = "postgres")]
#[path = "../support/servers/mod.rs"]
mod servers;

//! Tests of the diagnosis: real programs produce each fault, and forgeries get no cause.
#![cfg(feature = "diagnose")]

mod bodies;
use tower_klikit_test_support::deliveries;
mod forgeries;
mod headers;
mod kit;
mod measured;
use tower_klikit_test_support::random;
mod reencoded;
mod report;
mod secrets;
mod silence;

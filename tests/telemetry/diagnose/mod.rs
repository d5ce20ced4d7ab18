//! Why a delivery does not verify: each cause by really doing that thing, and none for a forgery.
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

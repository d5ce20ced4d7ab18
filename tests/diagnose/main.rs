//! Why a delivery does not verify: each cause by really doing that thing, and none for a forgery.
#![cfg(feature = "diagnose")]

mod bodies;
#[path = "../support/deliveries.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test that shares this file uses some of it")]
mod deliveries;
mod forgeries;
mod headers;
mod kit;
mod measured;
#[path = "../support/random.rs"]
mod random;
mod reencoded;
mod report;
mod secrets;
mod silence;

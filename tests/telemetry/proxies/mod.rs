//! What a real proxy does to klikit's deliveries, and what the receiver can say of it.
#![cfg(all(feature = "diagnose", feature = "testing", feature = "tracing"))]

mod bodies;
use tower_klikit_test_support::deliveries;
mod gzip;
mod headers;
use tower_klikit_test_support::log;
mod passing;
mod receiver;
mod sender;
use tower_klikit_test_support::servers;

const PATH: &str = "/webhooks/klikit";

//! Tests behind nginx: how the proxy changes deliveries, and how the receiver diagnoses the change.
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

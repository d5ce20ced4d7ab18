//! What a real proxy does to klikit's deliveries, and what the receiver can say of it.
#![cfg(all(feature = "diagnose", feature = "testing", feature = "tracing"))]

mod bodies;
#[path = "../support/deliveries.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test that shares this file uses some of it")]
mod deliveries;
mod gzip;
mod headers;
#[path = "../support/log.rs"]
mod log;
mod passing;
mod receiver;
mod sender;
#[path = "../support/servers/mod.rs"]
mod servers;

const PATH: &str = "/webhooks/klikit";

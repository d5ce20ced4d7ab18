//! Code that the tests of several packages share: servers, a service, logs, bodies and sample deliveries.
#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::exhaustive_enums,
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    reason = "no public API"
)]

pub mod body;
pub mod deliveries;
pub mod large_table;
pub mod log;
pub mod random;
pub mod servers;
#[cfg(feature = "service")]
pub mod service;

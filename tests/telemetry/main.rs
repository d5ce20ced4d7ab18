//! Tests of logs, spans, metrics and diagnoses.

#[path = "../support/mod.rs"]
mod support;

mod deploy;
mod diagnose;
mod explain;
mod logs;
mod metrics;
mod proxies;
mod spans;

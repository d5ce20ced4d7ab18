//! Tests of what is logged, counted and diagnosed.

#[path = "../support/mod.rs"]
mod support;

mod diagnose;
mod explain;
mod logs;
mod metrics;
mod proxies;
mod spans;

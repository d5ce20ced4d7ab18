//! Tests of `klikit conform`, against receivers of this process.

#[path = "../receivers/mod.rs"]
mod receivers;
#[allow(dead_code, reason = "the tests of other commands use the rest")]
#[path = "../support/mod.rs"]
mod support;

mod command;
mod faults;
mod own_receivers;
mod report;

//! Tests of `klikit doctor` as a process, on SQLite and on Postgres.

mod clock;
mod inbox;
mod output;
mod report;
mod secrets;
mod store;
#[path = "../inbox/stores.rs"]
#[allow(dead_code, reason = "the tests of the inbox use the rest")]
mod stores;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the tests of other commands use the rest")]
mod support;

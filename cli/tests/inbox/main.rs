//! Tests of `klikit inbox`, `klikit ledger` and `klikit migrate` as processes, on SQLite and on Postgres.

mod acting;
mod asking;
mod backup;
mod errors;
mod examples;
mod ledger;
mod migrating;
mod pausing;
mod reading;
#[path = "../../../examples/tests/operating/service.rs"]
#[allow(dead_code, reason = "the tests of the guide use the rest")]
mod service;
mod stores;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the tests of other commands use the rest")]
mod support;
mod tailing;
#[path = "../support/terminal.rs"]
#[allow(dead_code, reason = "the tests of other commands use the rest")]
mod terminal;

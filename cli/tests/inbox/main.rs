//! Tests of `klikit inbox`, `klikit ledger` and `klikit migrate` as processes, on SQLite and on Postgres.

mod acting;
mod asking;
mod backup;
mod errors;
mod examples;
mod fields;
mod interrupting;
mod ledger;
mod migrating;
mod pausing;
mod reading;
mod stores;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the tests of other commands use the rest")]
mod support;
mod tailing;
#[path = "../support/terminal.rs"]
#[allow(dead_code, reason = "the tests of other commands use the rest")]
mod terminal;

use tower_klikit_test_support::service;

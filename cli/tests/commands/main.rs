//! Tests of the commands as processes.

mod arguments;
mod basic;
mod examples;
mod explain;
mod on_terminal;
mod receiver;
mod send;
mod send_errors;
mod sign;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the tests of other commands use the rest")]
mod support;
#[path = "../support/terminal.rs"]
mod terminal;
mod tls;

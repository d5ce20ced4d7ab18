//! Tests of the commands as processes.

mod arguments;
mod examples;
mod explain;
mod readme;
mod receiver;
mod send;
mod send_errors;
mod sign;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod tls;

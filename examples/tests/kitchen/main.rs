//! Process tests of the example `kitchen_printer`.
#![cfg(unix)]

mod kitchen;
mod orders;
mod process;

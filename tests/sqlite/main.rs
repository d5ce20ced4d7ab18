//! `SqliteStore` on real files: restarts, several stores and processes on one file, and what goes wrong with files.
#![cfg(feature = "sqlite")]

mod faults;
mod processes;
mod purging;
mod restarts;
mod support;

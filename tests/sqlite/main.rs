//! `SqliteStore` on real files: restarts, several stores and processes on one file, and faults.
#![cfg(feature = "sqlite")]

mod checkpoint;
mod clock;
mod deliveries;
mod faults;
mod inbox_accepting;
mod inbox_files;
mod inbox_leasing;
mod lost_files;
mod outages;
mod processes;
mod purging;
mod restarts;
mod support;
#[path = "../support/log.rs"]
mod syslog;
mod unreadable;

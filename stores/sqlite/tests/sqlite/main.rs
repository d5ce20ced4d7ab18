//! Tests of `SqliteStore` on real files: restarts, several stores and processes on one file, and faults.

mod backup;
mod blocking;
mod checkpoint;
mod clock;
mod closing;
mod deliveries;
mod faults;
mod inbox_accepting;
mod inbox_files;
mod inbox_leasing;
mod inbox_suite;
mod ledger_suite;
mod logs;
mod lost_files;
mod opening;
mod outages;
mod processes;
mod purging;
mod queries;
mod replays;
mod restarts;
mod schema;
mod space;
mod support;
use tower_klikit_test_support::log as syslog;
mod unreadable;

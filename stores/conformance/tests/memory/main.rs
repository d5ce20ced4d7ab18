//! Tests that `MemoryStore` passes the suites.

mod inbox;
mod ledger;

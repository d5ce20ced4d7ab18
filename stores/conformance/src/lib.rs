//! Test suites for stores of [`tower_klikit`]: every store of the project passes them, and a store of your own can too.
//!
//! - [`ledger`] contains the suite for a [`Ledger`](tower_klikit::dedupe::Ledger) with its
//!   [`LedgerAdmin`](tower_klikit::dedupe::LedgerAdmin).
//! - [`inbox`] contains the suite for an [`InboxStore`](tower_klikit::inbox::InboxStore) with its
//!   [`InboxAdmin`](tower_klikit::inbox::InboxAdmin).
//!
//! Each suite has three functions: `check` tests one rule after the other and names the rule that a store breaks. `race` makes
//! many calls at the same time. `compare` makes random calls on the store and on a reference, and compares the results.
#![forbid(unsafe_code)]

pub mod inbox;
pub mod ledger;
mod random;

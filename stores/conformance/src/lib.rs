//! The test suites that every store of [`tower_klikit`] passes, and that a store of your own can pass too.
//!
//! - [`ledger`] has the suite for a [`Ledger`](tower_klikit::dedupe::Ledger),
//! - [`inbox`] has the suite for an [`InboxStore`](tower_klikit::inbox::InboxStore) with its
//!   [`InboxAdmin`](tower_klikit::inbox::InboxAdmin).
//!
//! Each has three parts: `check` tests rule by rule and names the rule that a store breaks, `race` makes calls that meet, and
//! `compare` makes random calls on the store and on a reference, which have to agree.
#![forbid(unsafe_code)]

#[cfg(test)]
mod by_chance;
pub mod inbox;
pub mod ledger;

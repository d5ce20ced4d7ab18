//! All statements on the inbox's tables.
//!
//! Stored times come from `clock_timestamp()`, as in the ledger. Searches compare with `statement_timestamp()`, because an
//! index search needs a time that does not change. Only statements that wait for no locks search in this way.

mod accept;
mod admin;
mod find;
mod lease;
mod pauses;
mod settle;
mod statements;
mod states;
mod tables;
mod tenants;

pub(crate) use self::{lease::CONTENT_MISSING, settle::ByLease, statements::InboxSql};

//! All statements on the inbox's tables.
//!
//! Stored times come from `clock_timestamp()`, as in the ledger. Times that rows are searched by come from
//! `statement_timestamp()`, because an index can be searched by it, and only in statements that do not wait.

mod accept;
mod admin;
mod lease;
mod settle;
mod statements;
mod states;
mod tables;

pub(crate) use self::{lease::CONTENT_MISSING, settle::ByLease, statements::InboxSql};

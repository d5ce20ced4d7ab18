//! The calls of the inbox, and their batches and SQL statements.

mod accept;
mod admin;
mod batches;
mod by_lease;
mod finish;
mod floors;
mod hand_off;
mod lease;
mod leases;
mod settle;
mod sql;
mod store;

pub(crate) use self::{batches::InboxBatches, floors::Floors, hand_off::HandOff, sql::InboxSql};

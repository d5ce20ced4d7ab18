//! The inbox.

mod accept;
mod admin;
mod by_lease;
mod finish;
mod floors;
mod hand_off;
mod lease;
mod leases;
mod settle;
mod sql;
mod store;
mod together;

pub(crate) use self::{floors::Floors, hand_off::HandOff, sql::InboxSql, together::Together};

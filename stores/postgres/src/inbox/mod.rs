//! The inbox.

mod accept;
mod admin;
mod finish;
mod hand_off;
mod lease;
mod settle;
mod sql;
mod store;

pub(crate) use self::{hand_off::HandOff, sql::InboxSql};

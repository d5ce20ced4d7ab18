//! The inbox: its statements, and what is made of what they say.

mod accept;
mod finish;
mod hand_off;
mod sql;
mod store;

pub(super) use self::{hand_off::HandOff, sql::InboxSql};

//! The inbox.

mod accept;
mod admin;
mod by_lease;
mod finish;
mod floors;
mod hand_off;
mod keep;
mod lease;
mod settle;
mod sql;
mod store;

pub(crate) use self::{
    accept::{Arrivals, arrivals},
    floors::Floors,
    hand_off::HandOff,
    keep::{Starts, starts},
    settle::{Endings, endings},
    sql::InboxSql,
};

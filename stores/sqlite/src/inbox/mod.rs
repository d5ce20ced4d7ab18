//! The calls of the inbox, each within a transaction.

mod accept;
mod deliveries;
mod forget;
mod leases;
mod ordering_keys;
mod ordering_queue;
mod queries;
mod rows;
mod select;
mod settle;
mod sql;
mod state;

pub(super) use self::{
    deliveries::Deliveries,
    forget::{Cursor, DeletedPart},
    leases::LeaseOutcome,
    select::SelectTerms,
    sql::InboxSql,
};

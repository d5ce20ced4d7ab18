//! The calls of the inbox, each within a transaction.

mod accept;
mod attempts;
mod count_keys;
mod deliveries;
mod forget;
mod leases;
mod ordering_keys;
mod ordering_queue;
mod pauses;
mod queries;
mod rows;
mod search;
mod select;
mod selection;
mod settle;
mod sql;
mod state;
mod tenant;
mod terms;
mod turns;

pub(super) use self::{
    deliveries::Deliveries,
    forget::{Cursor, FinishedPart},
    leases::{LeaseOutcome, LeaseTerms},
    selection::SelectTerms,
    sql::InboxSql,
};

//! The calls of the inbox, and their batches and SQL statements.

mod accept;
mod admin;
mod arrivals;
mod batches;
mod by_lease;
mod finish;
mod hand_off;
mod lease;
mod leases;
mod searches;
mod settle;
mod sql;
mod store;
mod tenants;

pub(crate) use self::{
    batches::InboxBatches, hand_off::HandOff, searches::Searches, sql::InboxSql, tenants::KnownTenants,
};

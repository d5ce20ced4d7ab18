//! The SQL statements on the inbox's tables.
//!
//! The statements compare states as the partial indexes of the schema do, so that SQLite can use these indexes, and so
//! that each value of a state counts as one of the known states:
//!
//! - `state < DEAD`: READY or LEASED.
//! - `state >= DEAD`: DEAD or DONE.
//! - `state >= DEAD AND state <> DONE`: DEAD. This includes states that are unknown to this crate, which another
//!   program may have written.

mod accept;
mod admin;
mod attempt;
mod lease;
mod pause;
mod rows;
mod settle;
mod tables;

pub(super) use self::admin::BUCKET_BITS;
use self::{
    accept::AcceptSql, admin::AdminSql, attempt::AttemptSql, lease::LeaseSql, pause::PauseSql, rows::RowSql,
    settle::SettleSql, tables::Tables,
};

/// The SQL statements on the inbox's tables, by topic.
pub(crate) struct InboxSql {
    pub(super) rows: RowSql,
    pub(super) accept: AcceptSql,
    pub(super) lease: LeaseSql,
    pub(super) attempt: AttemptSql,
    pub(super) settle: SettleSql,
    pub(super) admin: AdminSql,
    pub(super) pause: PauseSql,
}

impl InboxSql {
    /// Returns the statements for tables whose names begin with `prefix`.
    pub(crate) fn new(prefix: &str) -> Self {
        let tables = Tables::new(prefix);
        Self {
            rows: RowSql::new(&tables),
            accept: AcceptSql::new(&tables),
            lease: LeaseSql::new(&tables),
            attempt: AttemptSql::new(&tables),
            settle: SettleSql::new(&tables),
            admin: AdminSql::new(&tables),
            pause: PauseSql::new(&tables),
        }
    }
}

#[cfg(test)]
mod tests;

//! The calls of the ledger, each within a transaction.

mod entries;
mod slice;
mod sql;

pub(super) use self::{
    entries::{Entries, LiveEntry},
    slice::{SKIPPED, Slice, skip_damaged},
    sql::{LedgerSql, OF_EVENT},
};

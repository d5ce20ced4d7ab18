//! The ledger: claims, and the events that are done.

mod statements;
mod store;

pub(crate) use self::statements::LedgerSql;

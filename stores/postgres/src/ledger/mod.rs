//! The ledger.

mod statements;
mod store;

pub(crate) use self::statements::LedgerSql;

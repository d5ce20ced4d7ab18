//! The statements on the tables whose names begin with one prefix.

use super::{clock, inbox, ledger};

/// All statements, with the names of the tables in them.
pub(super) struct Statements {
    pub(super) clock: clock::Sql,
    pub(super) ledger: ledger::Sql,
    pub(super) inbox: inbox::Sql,
}

impl Statements {
    pub(super) fn new(prefix: &str) -> Self {
        Self { clock: clock::Sql::new(prefix), ledger: ledger::Sql::new(prefix), inbox: inbox::Sql::new(prefix) }
    }
}

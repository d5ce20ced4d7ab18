//! The SQL statements of a store, with its table prefix filled in.

use super::{clock, inbox, ledger};

/// All SQL statements of a store, grouped by the table they concern.
pub(super) struct Statements {
    pub(super) clock: clock::ClockSql,
    pub(super) ledger: ledger::LedgerSql,
    pub(super) inbox: inbox::InboxSql,
}

impl Statements {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            clock: clock::ClockSql::new(prefix),
            ledger: ledger::LedgerSql::new(prefix),
            inbox: inbox::InboxSql::new(prefix),
        }
    }
}

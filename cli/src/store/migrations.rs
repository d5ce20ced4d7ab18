//! The migrations that a store lacks, and the parts of a store.

use std::slice;

use super::Location;
use crate::error::CliError;

/// The parts of a store: a service that only has the dedupe layer needs no inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    Ledger,
    LedgerAndInbox,
}

impl Parts {
    /// Returns whether these parts include the one with this name.
    pub(crate) fn contains(self, part: &str) -> bool {
        self == Self::LedgerAndInbox || part == "ledger"
    }
}

/// A migration that a store lacks.
#[derive(Debug)]
pub(crate) struct PendingMigration {
    /// The part of the schema: `ledger` or `inbox`.
    pub(crate) part: String,
    /// The version of the part after the migration.
    pub(crate) version: u32,
    /// The statements, below a comment that names the part and the version.
    pub(crate) sql: String,
}

impl PendingMigration {
    pub(super) fn new(part: &str, version: u32, sql: &impl ToString) -> Self {
        Self { part: part.into(), version, sql: sql.to_string() }
    }
}

/// The migrations that a store lacks, in order.
#[derive(Debug)]
pub(crate) struct PendingMigrations(pub(super) Vec<PendingMigration>);

impl PendingMigrations {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> slice::Iter<'_, PendingMigration> {
        self.0.iter()
    }

    /// Returns the parts that the store has. A store without any tables is to have all parts.
    pub(crate) fn parts(&self) -> Parts {
        let lacks = |part: &str| self.iter().any(|step| step.part == part && step.version == 1);
        if lacks("inbox") && !lacks("ledger") { Parts::Ledger } else { Parts::LedgerAndInbox }
    }

    /// Leaves out the migrations of other parts.
    pub(crate) fn of(self, parts: Parts) -> Self {
        Self(self.0.into_iter().filter(|step| parts.contains(&step.part)).collect())
    }

    /// Returns the names, such as `inbox 1, inbox 2`.
    pub(crate) fn names(&self) -> String {
        let names: Vec<_> = self.iter().map(|step| format!("{} {}", step.part, step.version)).collect();
        names.join(", ")
    }

    /// Returns what to do if there are any.
    pub(crate) fn remedy(&self) -> &'static str {
        if self.iter().any(|step| step.version == 1) {
            "name another store or --table-prefix, or create the tables with `klikit migrate`"
        } else {
            "stop the processes of older releases, and run `klikit migrate`"
        }
    }

    /// Returns the error of a command that cannot use the store without them.
    pub(super) fn error(&self, location: &Location) -> CliError {
        CliError::new(format_args!("{location} lacks the migrations {}: {}", self.names(), self.remedy()))
    }
}

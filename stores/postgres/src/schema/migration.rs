//! The public type of a migration.

use std::fmt;

/// One step of a store's schema, as SQL for your own migration tool.
///
/// [`PostgresStoreBuilder::migrations`](crate::PostgresStoreBuilder::migrations) returns them.
/// [`Display`](fmt::Display) writes the SQL below a comment that names the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    part: &'static str,
    version: u32,
    sql: String,
}

impl Migration {
    pub(super) fn new(part: &'static str, version: u32, sql: String) -> Self {
        Self { part, version, sql }
    }

    /// Returns the part of the schema that the step belongs to: `ledger` or `inbox`. Each part has its own versions.
    pub fn part(&self) -> &str {
        self.part
    }

    /// Returns the version that the part has after the step, from 1.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Returns the statements, which must run in one transaction. The last one records the version.
    pub fn sql(&self) -> &str {
        &self.sql
    }
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "-- {}, version {}\n{}", self.part, self.version, self.sql)
    }
}

//! A migration, as users see it.

use std::fmt;

/// One step of a store's schema, as SQL for a migration tool of your own.
///
/// [`SqliteStoreBuilder::migrations`](crate::SqliteStoreBuilder::migrations) returns them. A store applies those that are
/// missing when it is opened, so most services never need them.
/// [`Display`](fmt::Display) writes the SQL below a comment that names the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    part: &'static str,
    version: u32,
    sql: String,
}

impl Migration {
    /// Makes a step from statements on tables whose names begin with `klikit_`, for tables with this prefix.
    pub(super) fn new(part: &'static str, version: u32, sql: &str, prefix: &str) -> Self {
        let record = format!(
            "
-- Records the version.
INSERT INTO klikit_schema (part, version, applied_at)
VALUES ('{part}', {version}, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
ON CONFLICT (part) DO UPDATE SET
    version = excluded.version,
    applied_at = excluded.applied_at;
"
        );
        Self { part, version, sql: format!("{sql}{record}").replace("klikit_", prefix) }
    }

    /// Returns the part of the schema that the step belongs to: `ledger` or `inbox`. Each has versions of its own.
    pub fn part(&self) -> &str {
        self.part
    }

    /// Returns the version that the part has after the step, from 1.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Returns the statements, which have to run in one transaction. The last one records the version.
    pub fn sql(&self) -> &str {
        &self.sql
    }
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "-- {}, version {}\n{}", self.part, self.version, self.sql)
    }
}

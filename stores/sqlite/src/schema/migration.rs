//! The public type of a migration.

use std::fmt;

/// A migration of a store's schema, as SQL for your own migration tool.
///
/// [`SqliteStoreBuilder::migrations`](crate::SqliteStoreBuilder::migrations) returns the migrations. Opening a store
/// applies the missing ones, so most services need no tool. [`Display`](fmt::Display) writes the SQL below a comment
/// that names the part and the version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    part: &'static str,
    version: u32,
    sql: String,
}

impl Migration {
    /// Returns a migration for tables with this prefix. In `sql`, the names of tables begin with `klikit_`.
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

    /// Returns the part of the schema that the migration belongs to: `ledger` or `inbox`. Each part has its own
    /// version.
    pub fn part(&self) -> &str {
        self.part
    }

    /// Returns the version of the part after the migration. The first version is 1.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Returns the statements, which must run in one transaction. The last statement records the version.
    pub fn sql(&self) -> &str {
        &self.sql
    }
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "-- {}, version {}\n{}", self.part, self.version, self.sql)
    }
}

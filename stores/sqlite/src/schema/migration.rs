//! The steps by which the tables are created and changed.

use std::fmt;

/// A step that creates or changes the tables of one [part](SchemaPart) of the schema.
///
/// [`SqliteStoreBuilder::migrations`](crate::SqliteStoreBuilder::migrations) returns all steps. A store applies those
/// that are missing when it is opened, so most services never need them. If a migration tool of your own changes your
/// tables, let it run [`sql`](Self::sql) of each step, in order and each in a transaction. The SQL records the version,
/// so that the store finds nothing left to do.
///
/// [`Display`](fmt::Display) prints the SQL under a comment that names the step.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migration {
    /// The part whose tables the step creates or changes.
    pub part: SchemaPart,
    /// The version of the part after the step.
    pub version: u32,
    /// A few words that say what the step does.
    pub name: &'static str,
    /// The statements, the last of which records the version.
    pub sql: String,
}

/// A part of the schema: tables that are created together, and have one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SchemaPart {
    /// The ledger, and the tables that every store needs.
    Ledger,
    /// The inbox, which [ledger-only](crate::SqliteStoreBuilder::ledger_only) stores do without.
    Inbox,
}

impl Migration {
    /// Makes a step from statements on tables whose names begin with `klikit_`, for tables with this prefix.
    pub(super) fn new(part: SchemaPart, version: u32, name: &'static str, sql: &str, prefix: &str) -> Self {
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
        let sql = format!("{sql}{record}").replace("klikit_", prefix);
        Self { part, version, name, sql }
    }
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, version, name, sql } = self;
        write!(f, "-- The {part}, version {version}: {name}\n\n{sql}")
    }
}

/// The name that the part has in the schema's table.
impl fmt::Display for SchemaPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ledger => "ledger",
            Self::Inbox => "inbox",
        })
    }
}

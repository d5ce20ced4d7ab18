//! Errors of opening a store, and of using the inbox of a ledger-only store.

use std::{error::Error, fmt};

use tower_klikit::ErrorChain;

type Source = Box<dyn Error + Send + Sync>;

/// An error of opening a [`PostgresStore`](crate::PostgresStore), or of using the inbox of a
/// [ledger-only](crate::PostgresStoreBuilder::ledger_only) store.
///
/// An error of using the inbox is the [source](Error::source) of a [`StoreError`](tower_klikit::dedupe::StoreError).
///
/// The text names the server and the database, but never the user or the password. The server's error is the
/// [source](Error::source). `Debug` writes both, on one line.
pub struct PostgresError {
    kind: Kind,
    source: Option<Source>,
}

/// The kind of a [`PostgresError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PostgresErrorKind {
    /// The [prefix](crate::PostgresStoreBuilder::table_prefix) is invalid.
    TablePrefix,
    /// The URL is invalid.
    Url,
    /// The certificates that the system trusts cannot be read.
    Certificates,
    /// The connection pool could not be made.
    Pool,
    /// There was no connection, no TLS session, or no response in time.
    Unreachable,
    /// The user name or the password is wrong, or the user may not connect to the database.
    Denied,
    /// The database has tables of a release before schema version 1.
    OutdatedSchema,
    /// The tables have a schema version of a later release.
    NewerSchema,
    /// A migration failed, or another node was still migrating after five minutes. The database is as it was before.
    Migration,
    /// The tables have the right version, but cannot be used: one is missing, or this user lacks a permission.
    Tables,
    /// The server cannot run the [hand-off](crate::PostgresStoreBuilder::hand_off).
    HandOff,
    /// The store was opened as [ledger-only](crate::PostgresStoreBuilder::ledger_only), and has no inbox.
    LedgerOnly,
}

/// The kind of an error, with the values for its text.
#[derive(Debug)]
pub(crate) enum Kind {
    TablePrefix(String),
    Url,
    Certificates,
    Pool,
    Unreachable(Target),
    Denied(Target),
    OutdatedSchema { table: String },
    NewerSchema { part: &'static str, found: u32, known: u32 },
    Migration { part: &'static str, version: u32, hint: Option<&'static str> },
    LateMigration,
    Tables(String),
    HandOff,
    LedgerOnly,
}

/// The host and the database that a store connects to. Empty if the pool is the user's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target(pub(crate) Option<String>);

impl PostgresError {
    /// Returns the kind of error.
    pub fn kind(&self) -> PostgresErrorKind {
        match self.kind {
            Kind::TablePrefix(_) => PostgresErrorKind::TablePrefix,
            Kind::Url => PostgresErrorKind::Url,
            Kind::Certificates => PostgresErrorKind::Certificates,
            Kind::Pool => PostgresErrorKind::Pool,
            Kind::Unreachable(_) => PostgresErrorKind::Unreachable,
            Kind::Denied(_) => PostgresErrorKind::Denied,
            Kind::OutdatedSchema { .. } => PostgresErrorKind::OutdatedSchema,
            Kind::NewerSchema { .. } => PostgresErrorKind::NewerSchema,
            Kind::Migration { .. } | Kind::LateMigration => PostgresErrorKind::Migration,
            Kind::Tables(_) => PostgresErrorKind::Tables,
            Kind::HandOff => PostgresErrorKind::HandOff,
            Kind::LedgerOnly => PostgresErrorKind::LedgerOnly,
        }
    }

    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, source: None }
    }

    pub(crate) fn because(kind: Kind, source: impl Into<Source>) -> Self {
        Self { kind, source: Some(source.into()) }
    }
}

impl fmt::Display for PostgresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::TablePrefix(prefix) => write!(
                f,
                "{prefix:?} is not a valid table prefix: use up to 40 of a-z, 0-9 and _, not starting with a digit, \
                 and put a schema's name and a dot before it if needed"
            ),
            Kind::Url => f.write_str(
                "the URL of the Postgres database is invalid: percent-encode reserved characters in its user name and \
                 its password",
            ),
            Kind::Certificates => f.write_str(
                "could not read the certificates that this system trusts: install its package ca-certificates",
            ),
            Kind::Pool => f.write_str("could not make the connection pool"),
            Kind::Unreachable(target) => {
                write!(f, "could not connect to Postgres{target}: check the URL, and that the server is running")
            }
            Kind::Denied(target) => {
                write!(f, "Postgres denies access{target}: check the user, the password and the server's pg_hba.conf")
            }
            Kind::OutdatedSchema { table } => write!(
                f,
                "{table} is a table of a release that had no schema versions: let that release handle what is pending \
                 and then drop or rename its tables, or set another table prefix"
            ),
            Kind::NewerSchema { part, found, known } => write!(
                f,
                "the tables of the {part} have schema version {found}, and this release knows no version after {known}: \
                 use the release that migrated them, or a later one"
            ),
            Kind::Migration { part, version, hint } => {
                write!(f, "could not bring the tables of the {part} to schema version {version}")?;
                hint.map_or(Ok(()), |hint| write!(f, ": {hint}"))
            }
            Kind::LateMigration => f.write_str(
                "the tables were not migrated in time: another node is still migrating them, or another session has \
                 locked them",
            ),
            Kind::Tables(tables) => {
                write!(f, "could not use {tables}: check for missing tables and permissions")
            }
            Kind::HandOff => f.write_str("Postgres cannot run the hand-off statement"),
            Kind::LedgerOnly => f.write_str(
                "the store was opened with ledger_only(), which leaves out the inbox: open it without that setting",
            ),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |target| write!(f, " at {target}"))
    }
}

/// Writes the text and all sources, because a `main` that returns the error prints its `Debug`.
impl fmt::Debug for PostgresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&ErrorChain::new(self), f)
    }
}

impl Error for PostgresError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

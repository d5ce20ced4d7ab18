//! Errors of opening a store.

use std::{error::Error, fmt};

type Source = Box<dyn Error + Send + Sync>;

/// An error of opening a [`PostgresStore`](super::PostgresStore).
///
/// Its text names no password. The server's error is the [source](Error::source).
#[derive(Debug)]
pub struct PostgresError {
    kind: Kind,
    source: Option<Source>,
}

#[derive(Debug)]
pub(super) enum Kind {
    TableName(String),
    Url,
    Roots,
    Pool,
    Connect,
    Table(String),
    HandOff,
}

impl PostgresError {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, source: None }
    }

    pub(super) fn because(kind: Kind, source: impl Into<Source>) -> Self {
        Self { kind, source: Some(source.into()) }
    }
}

impl fmt::Display for PostgresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::TableName(name) => write!(
                f,
                "{name:?} is not a valid table name: use up to 48 of a-z, 0-9 and _, not starting with a digit, and \
                 put a schema's name and a dot before it if needed"
            ),
            Kind::Url => f.write_str("the URL of the Postgres database is invalid"),
            Kind::Roots => f.write_str("could not read the certificates that this system trusts"),
            Kind::Pool => f.write_str("could not create the connection pool"),
            Kind::Connect => f.write_str("could not connect to Postgres"),
            Kind::Table(name) => write!(f, "could not create or use the table {name}"),
            Kind::HandOff => f.write_str("Postgres cannot run the hand-off statement"),
        }
    }
}

impl Error for PostgresError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

//! Why a store could not be opened.

use std::{error::Error, fmt};

type Source = Box<dyn Error + Send + Sync>;

/// A [`PostgresStore`](super::PostgresStore) could not be opened.
///
/// The text names no password; what Postgres said is the [source](Error::source).
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
                "{name:?} is no name for the table: at most 48 of a-z, 0-9 and _, not a digit first, \
                 after a schema's name and a dot or not"
            ),
            Kind::Url => f.write_str("this is no URL of a Postgres database"),
            Kind::Roots => f.write_str("the certificates that this system trusts could not be read"),
            Kind::Pool => f.write_str("the pool of connections could not be made"),
            Kind::Connect => f.write_str("could not connect to Postgres"),
            Kind::Table(name) => write!(f, "could not create or use the table {name}"),
            Kind::HandOff => f.write_str("the statement that hands deliveries off is none that Postgres can run"),
        }
    }
}

impl Error for PostgresError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

//! The error of opening a store.

use tower_klikit::ErrorChain;
use tower_klikit_postgres::{PostgresError, PostgresErrorKind};
use tower_klikit_sqlite::{SqliteError, SqliteErrorKind};

use super::Location;
use crate::error::CliError;

/// The error of opening a store, or of looking at its schema. It names the store without a password.
#[derive(Debug)]
pub(crate) struct OpenError {
    pub(crate) kind: OpenErrorKind,
    /// The error, which may say what to do.
    pub(crate) message: String,
    /// The remedy, if the message has none.
    pub(crate) remedy: Option<&'static str>,
}

/// The kind of an [`OpenError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenErrorKind {
    /// The arguments or the environment name no store: a missing file, an invalid URL or an invalid prefix.
    Arguments,
    /// The store cannot be reached or used, or is locked.
    Store,
    /// A later release has migrated the tables.
    NewerSchema,
    /// This release cannot use the tables for another reason.
    Schema,
}

impl OpenError {
    pub(super) fn of_sqlite(location: &Location, error: &SqliteError) -> Self {
        use SqliteErrorKind as Kind;

        let kind = match error.kind() {
            Kind::NotFound | Kind::TablePrefix => OpenErrorKind::Arguments,
            Kind::NewerSchema => OpenErrorKind::NewerSchema,
            Kind::OutdatedSchema | Kind::Migration | Kind::Tables => OpenErrorKind::Schema,
            _ => OpenErrorKind::Store,
        };
        let remedy = match error.kind() {
            Kind::NotFound => Some("name the service's file with --store, or set KLIKIT_STORE"),
            Kind::File => Some("name a store's file that can be read and written, on a disk with free space"),
            Kind::Busy => Some("wait for that process, or stop it"),
            Kind::Tables => Some("`klikit migrate --print` prints it for an empty file"),
            _ => None,
        };
        let message = match error.kind() {
            Kind::NotFound => format!("{location} does not exist"),
            _ => named(location, error.to_string()),
        };
        Self { kind, message, remedy }
    }

    pub(super) fn of_postgres(location: &Location, error: &PostgresError) -> Self {
        use PostgresErrorKind as Kind;

        let kind = match error.kind() {
            Kind::Url | Kind::TablePrefix => OpenErrorKind::Arguments,
            Kind::NewerSchema => OpenErrorKind::NewerSchema,
            Kind::OutdatedSchema | Kind::Migration | Kind::Tables => OpenErrorKind::Schema,
            _ => OpenErrorKind::Store,
        };
        let remedy = match error.kind() {
            Kind::Migration => Some("`klikit migrate --print` prints the SQL"),
            _ => None,
        };
        Self { kind, message: named(location, ErrorChain::new(error).to_string()), remedy }
    }

    /// Returns the error for a database that has just been reached, to read its versions.
    pub(super) fn of_reached_postgres(location: &Location, error: &PostgresError) -> Self {
        if error.kind() != PostgresErrorKind::Unreachable {
            return Self::of_postgres(location, error);
        }
        let message = format!("{location} has stopped answering: another session may have locked its tables");
        Self { kind: OpenErrorKind::Store, message, remedy: Some("end that session") }
    }
}

/// Returns a message that names the store, without a user and a password.
fn named(location: &Location, message: String) -> String {
    let location = location.to_string();
    // The messages about connections name the server and the database.
    let name = location.split_once("://").map_or(&*location, |(_, name)| name);
    if message.contains(name) { message } else { format!("{location}: {message}") }
}

impl From<OpenError> for CliError {
    fn from(OpenError { message, remedy, .. }: OpenError) -> Self {
        match remedy {
            Some(remedy) => Self::new(format_args!("{message}: {remedy}")),
            None => Self::new(message),
        }
    }
}

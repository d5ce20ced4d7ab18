//! Errors of connections and statements.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use deadpool_postgres::PoolError;
use tokio_postgres::error::{DbError, SqlState};

use crate::hand_off_error::HandOffError;

/// The reason why a statement has no [`Answer`](super::Answer).
#[derive(Debug)]
pub(crate) enum Failure {
    Pool(PoolError),
    Statement(tokio_postgres::Error),
    /// The user's hand-off statement failed.
    HandOff(HandOffError),
    /// Another node changed the row between two statements, in every try.
    Contended,
    /// There was no response in time.
    TimedOut {
        limit: Duration,
        /// The number of connections in use.
        used: usize,
        size: usize,
    },
}

/// Errors after which the same statement may succeed a moment later.
const ROLLED_BACK: [SqlState; 3] = [
    // These two occur only if the database's default isolation is stricter than Postgres's own.
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::T_R_DEADLOCK_DETECTED,
    // Another process behind the same pooler has dropped the statement.
    SqlState::INVALID_SQL_STATEMENT_NAME,
];

/// Errors with which the server ends the connection.
const ENDED: [SqlState; 2] = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN];

/// Errors that a connection would return again.
const UNFIT: [SqlState; 4] = [
    // The server has become a standby. Another of the URL's hosts may be the primary.
    SqlState::READ_ONLY_SQL_TRANSACTION,
    // The plan or the name of a named statement is lost.
    SqlState::FEATURE_NOT_SUPPORTED,
    SqlState::INVALID_SQL_STATEMENT_NAME,
    SqlState::DUPLICATE_PSTATEMENT,
];

impl Failure {
    pub(super) fn of_hand_off(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(hand_off_error) => Self::HandOff(HandOffError::of(hand_off_error)),
            None => Self::Statement(error),
        }
    }

    /// Returns whether another transaction has added a row with the same key.
    pub(crate) fn is_collision(&self) -> bool {
        matches!(self, Self::Statement(_)) && self.code() == Some(&SqlState::UNIQUE_VIOLATION)
    }

    /// Returns whether the server has rejected a statement, as opposed to a connection that is broken or could not be
    /// opened.
    pub(crate) fn is_from_server(&self) -> bool {
        self.code().is_some() && !matches!(self, Self::Pool(_))
    }

    /// Returns whether the server may have rejected a batch because of one of its rows, or of a lock on one. Triggers may
    /// raise any error, so this excludes only errors of the connection, the transaction, the server's resources and its
    /// operation.
    pub(crate) fn may_be_of_one_row(&self) -> bool {
        const OTHER: [&str; 6] = ["08", "25", "40", "53", "57", "58"];
        self.is_from_server()
            && self.code().is_some_and(|code| !OTHER.iter().any(|class| code.code().starts_with(class)))
    }

    /// Returns the server's message if its files are damaged. Later attempts would fail in the same way.
    pub(crate) fn damage(&self) -> Option<&str> {
        match self {
            Self::Statement(error) => error.as_db_error(),
            _ => None,
        }
        .filter(|error| *error.code() == SqlState::DATA_CORRUPTED)
        .map(DbError::message)
    }

    /// Returns the server's code of the error.
    pub(crate) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Pool(PoolError::Backend(error)) => error.code(),
            Self::Pool(_) | Self::Contended | Self::TimedOut { .. } => None,
            Self::Statement(error) => error.code(),
            Self::HandOff(hand_off_error) => Some(hand_off_error.code()),
        }
    }

    /// Returns whether the server has rolled the transaction back, and a new transaction may succeed.
    pub(super) fn was_rolled_back(&self) -> bool {
        self.has_code_of(&ROLLED_BACK)
    }

    /// Returns whether a retry on another connection, or a moment later, may succeed.
    pub(super) fn may_succeed_on_retry(&self) -> bool {
        let is_closed = matches!(self, Self::Statement(error) if error.is_closed());
        is_closed || self.was_rolled_back() || self.has_code_of(&ENDED)
    }

    /// Returns whether the connection must be closed.
    pub(super) fn needs_new_connection(&self) -> bool {
        self.has_code_of(&UNFIT)
    }

    fn has_code_of(&self, codes: &[SqlState]) -> bool {
        self.code().is_some_and(|code| codes.contains(code))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(_) => f.write_str("could not get a connection to Postgres"),
            Self::Statement(_) => f.write_str("Postgres could not run a statement"),
            Self::HandOff(_) => f.write_str("Postgres could not run the hand-off statement"),
            Self::Contended => f.write_str("another node kept changing the same row"),
            Self::TimedOut { limit, used, size } => {
                write!(f, "Postgres did not answer within {limit:?} ({used} of {size} connections are in use)")
            }
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Pool(error) => Some(error),
            Self::Statement(error) => Some(error),
            Self::HandOff(hand_off_error) => Some(hand_off_error),
            Self::Contended | Self::TimedOut { .. } => None,
        }
    }
}

/// The failure of a batch. Each call of the batch gets a clone.
#[derive(Debug, Clone)]
pub(crate) struct SharedFailure(Arc<Failure>);

impl From<Failure> for SharedFailure {
    fn from(failure: Failure) -> Self {
        Self(Arc::new(failure))
    }
}

impl fmt::Display for SharedFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for SharedFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

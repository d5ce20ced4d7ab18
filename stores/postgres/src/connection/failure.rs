//! Errors of statements.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use deadpool_postgres::PoolError;
use tokio_postgres::error::{DbError, SqlState};

use crate::refusal::Refusal;

/// The reason why a statement has no [`Answer`](super::Answer).
#[derive(Debug)]
pub(crate) enum Failure {
    Pool(PoolError),
    Statement(tokio_postgres::Error),
    /// The user's own statement failed.
    Users(Refusal),
    /// The row changed each time between one statement and the next.
    Restless,
    /// There was no answer in time.
    Late {
        limit: Duration,
        /// How many of all connections are in use.
        used: usize,
        size: usize,
    },
}

/// After these errors the same statement may succeed a moment later.
const UNDONE: [SqlState; 3] = [
    // These two occur only if the database's default isolation is stricter than Postgres's own.
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::T_R_DEADLOCK_DETECTED,
    // Another process behind the same pooler has dropped the statement.
    SqlState::INVALID_SQL_STATEMENT_NAME,
];

/// The server ends the connection with these errors.
const ENDED: [SqlState; 2] = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN];

/// A connection that has answered with one of these errors would do so again.
const UNFIT: [SqlState; 4] = [
    // The server has become a standby. Another of the URL's hosts may be the primary.
    SqlState::READ_ONLY_SQL_TRANSACTION,
    // Named statements whose plan or name is lost.
    SqlState::FEATURE_NOT_SUPPORTED,
    SqlState::INVALID_SQL_STATEMENT_NAME,
    SqlState::DUPLICATE_PSTATEMENT,
];

impl Failure {
    pub(super) fn of_users(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refusal) => Self::Users(Refusal::of(refusal)),
            None => Self::Statement(error),
        }
    }

    /// Returns whether a row that was added meanwhile is in the way.
    pub(crate) fn is_collision(&self) -> bool {
        matches!(self, Self::Statement(_)) && self.code() == Some(&SqlState::UNIQUE_VIOLATION)
    }

    /// Returns whether the server has rejected a statement, as opposed to a connection that is broken or could not be
    /// opened.
    pub(crate) fn is_servers(&self) -> bool {
        self.code().is_some() && !matches!(self, Self::Pool(_))
    }

    /// Returns whether the server has rejected a batch because of one of its rows, or of a lock on one, as far as can be
    /// told. Triggers may raise any error. So this leaves out only errors of the connection, the transaction, the server's
    /// resources and its operation.
    pub(crate) fn may_be_of_one_row(&self) -> bool {
        const OTHER: [&str; 6] = ["08", "25", "40", "53", "57", "58"];
        self.is_servers() && self.code().is_some_and(|code| !OTHER.iter().any(|class| code.code().starts_with(class)))
    }

    /// Returns the server's message, if it has found its files damaged. Later attempts find the same.
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
            Self::Pool(_) | Self::Restless | Self::Late { .. } => None,
            Self::Statement(error) => error.code(),
            Self::Users(refusal) => Some(refusal.code()),
        }
    }

    /// Returns whether the server has rolled the transaction back, and the next one may succeed.
    pub(super) fn was_undone(&self) -> bool {
        self.has_code_of(&UNDONE)
    }

    /// Returns whether another connection, or the same statement a moment later, may succeed.
    pub(super) fn may_pass(&self) -> bool {
        let is_closed = matches!(self, Self::Statement(error) if error.is_closed());
        is_closed || self.was_undone() || self.has_code_of(&ENDED)
    }

    /// Returns whether the connection has to be closed.
    pub(super) fn is_of_connection(&self) -> bool {
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
            Self::Users(_) => f.write_str("Postgres could not run the hand-off statement"),
            Self::Restless => f.write_str("another node changed the same row again and again"),
            Self::Late { limit, used, size } => {
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
            Self::Users(refusal) => Some(refusal),
            Self::Restless | Self::Late { .. } => None,
        }
    }
}

/// The failure of a batch, for each of its calls.
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

//! Errors of the user's own statement.

use std::{error::Error, fmt};

use tokio_postgres::error::{DbError, SqlState};

/// An error of the server, without the parts that may repeat the parameters, and so the body: its detail, its hint, its
/// place, and mostly its message too.
#[derive(Debug)]
pub(crate) struct Refusal {
    severity: String,
    code: SqlState,
    /// The message, if it is about the statement itself, and so the same for all bodies.
    message: Option<String>,
}

/// The class of "Syntax Error or Access Rule Violation" in Postgres's table of error codes.
const ABOUT_THE_STATEMENT: &str = "42";

impl Refusal {
    pub(crate) fn of(error: &DbError) -> Self {
        let is_about_the_statement = error.code().code().starts_with(ABOUT_THE_STATEMENT);
        let message = is_about_the_statement.then(|| error.message().into());
        Self { severity: error.severity().into(), code: error.code().clone(), message }
    }

    pub(crate) fn code(&self) -> &SqlState {
        &self.code
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message.as_deref().unwrap_or("SQLSTATE");
        write!(f, "{}: {message} {}", self.severity, self.code.code())
    }
}

impl Error for Refusal {}

//! Errors of the user's hand-off statement.

use std::{error::Error, fmt};

use tokio_postgres::error::{DbError, SqlState};

/// An error of the server, without the parts that may repeat the parameters, which include the body. Omits the detail, the
/// hint, the position and, unless the statement itself is wrong, the message.
#[derive(Debug)]
pub(crate) struct HandOffError {
    severity: String,
    code: SqlState,
    /// The message, if the statement itself is wrong, so that the message does not depend on the body.
    message: Option<String>,
}

/// The class "Syntax Error or Access Rule Violation" in Postgres's table of error codes.
const ABOUT_THE_STATEMENT: &str = "42";

impl HandOffError {
    pub(crate) fn of(error: &DbError) -> Self {
        let is_about_the_statement = error.code().code().starts_with(ABOUT_THE_STATEMENT);
        let message = is_about_the_statement.then(|| error.message().into());
        Self { severity: error.severity().into(), code: error.code().clone(), message }
    }

    pub(crate) fn code(&self) -> &SqlState {
        &self.code
    }
}

impl fmt::Display for HandOffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message.as_deref().unwrap_or("SQLSTATE");
        write!(f, "{}: {message} {}", self.severity, self.code.code())
    }
}

impl Error for HandOffError {}

//! Errors of the user's hand-off statement.

use std::{error::Error, fmt};

use tokio_postgres::error::{DbError, SqlState};

/// An error of the server, without the parts that may repeat the body. Omits the detail, the hint and the position.
/// Keeps the message only if the statement is wrong.
#[derive(Debug)]
pub(crate) struct HandOffError {
    severity: String,
    code: SqlState,
    /// The message, if the statement is wrong. Such a message names parts of the statement. It repeats a parameter only if
    /// the statement uses the parameter as a name or as SQL.
    message: Option<String>,
}

/// The class "Syntax Error or Access Rule Violation" in Postgres's table of error codes.
const ABOUT_THE_STATEMENT: &str = "42";

impl HandOffError {
    /// Copies the kept parts of the server's error.
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
        let Self { severity, code, message } = self;
        match message {
            Some(message) => write!(f, "{severity}: {message} {}", code.code()),
            None => write!(f, "{severity}: SQLSTATE {}", code.code()),
        }
    }
}

impl Error for HandOffError {}

//! What the server says of the user's own statement.

use std::{error::Error, fmt};

use tokio_postgres::error::{DbError, SqlState};

/// An error of the server's, without its detail, its hint and where it arose: these repeat the parameters, and so the body.
#[derive(Debug)]
pub(super) struct Refusal {
    severity: String,
    code: SqlState,
    message: String,
}

impl Refusal {
    pub(super) fn of(error: &DbError) -> Self {
        let message = error.message().into();
        Self { severity: error.severity().into(), code: error.code().clone(), message }
    }

    pub(super) fn code(&self) -> &SqlState {
        &self.code
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.severity, self.message, self.code.code())
    }
}

impl Error for Refusal {}

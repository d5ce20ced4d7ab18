//! The calls that the writer thread runs.

use tokio::sync::oneshot;

use crate::{
    error::{SqliteError, SqliteErrorKind},
    transaction::Transaction,
};

/// The kind of a call, which decides whether the call is dropped if its caller goes away before it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Adds to the ledger. Dropped, because the caller would not learn of its claim. Each claim also purges some rows.
    Claim,
    /// Leases deliveries. Dropped, because nobody would handle them.
    Lease,
    /// Any other call. Not dropped.
    Other,
}

/// A queued call with its result and the channel for its answer.
pub(super) struct Request<T, F> {
    call: Call,
    run: F,
    result: Option<Result<T, SqliteError>>,
    reply: oneshot::Sender<Result<T, SqliteError>>,
}

impl<T, F> Request<T, F> {
    pub(super) fn new(call: Call, run: F, reply: oneshot::Sender<Result<T, SqliteError>>) -> Self {
        Self { call, run, result: None, reply }
    }
}

/// A [`Request`] with any type of answer.
pub(super) trait Job: Send {
    fn is_claim(&self) -> bool;

    /// Returns whether the call must still run.
    fn is_wanted(&self) -> bool;

    /// Runs the call. The call may run several times.
    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), SqliteError>;

    /// Answers the caller with the result of the last run, or with the error of its batch.
    fn answer(self: Box<Self>, batch: Result<(), SqliteError>);
}

impl<T, F> Job for Request<T, F>
where
    T: Send,
    F: FnMut(&Transaction<'_>) -> rusqlite::Result<T> + Send,
{
    fn is_claim(&self) -> bool {
        self.call == Call::Claim
    }

    fn is_wanted(&self) -> bool {
        self.call == Call::Other || !self.reply.is_closed()
    }

    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), SqliteError> {
        let result = (self.run)(transaction).map_err(SqliteError::from);
        let error = result.as_ref().err().cloned();
        self.result = Some(result);
        error.map_or(Ok(()), Err)
    }

    fn answer(self: Box<Self>, batch: Result<(), SqliteError>) {
        let result = self.result.unwrap_or_else(|| Err(SqliteError::new(SqliteErrorKind::Stopped)));
        // Sending fails if the caller is gone.
        let _ = self.reply.send(batch.and(result));
    }
}

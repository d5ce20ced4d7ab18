//! Records of attempts in the reference.

use std::time::Duration;

use tower_klikit::inbox::{EXPIRED, OUTCOME_UNKNOWN};

use super::Delivery;

/// An attempt that has started and whose outcome is not known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OpenAttempt {
    /// The token of the lease with which the attempt started. No other attempt has it.
    pub(crate) token: i64,
    pub(crate) started: Duration,
    pub(crate) worker: String,
}

/// The record of an attempt that has ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EndedAttempt {
    pub(crate) attempt: OpenAttempt,
    pub(crate) number: u32,
    pub(crate) ended: Option<Duration>,
    pub(crate) status: Option<u16>,
    pub(crate) reason: Option<String>,
}

impl Delivery {
    /// Opens an attempt, unless one is open.
    pub(crate) fn open(&mut self, worker: &str, now: Duration) {
        let token = self.token;
        self.open.get_or_insert_with(|| OpenAttempt { token, started: now, worker: worker.into() });
    }

    /// Ends the open attempt. Replaces a record of the attempt without an outcome.
    pub(crate) fn end(&mut self, number: u32, now: Duration, status: Option<u16>, reason: Option<&str>) {
        if let Some(attempt) = self.take_open() {
            let reason = reason.map(str::to_owned);
            self.history.push(EndedAttempt { attempt, number, ended: Some(now), status, reason });
        }
    }

    /// Records that the outcome of the open attempt is unknown.
    pub(crate) fn end_unknown(&mut self) {
        let (is_running, number) = (self.is_running(), self.attempts.max(1));
        if let Some(attempt) = self.open.take().filter(|_| is_running) {
            let reason = Some(OUTCOME_UNKNOWN.into());
            self.history.push(EndedAttempt { attempt, number, ended: None, status: None, reason });
        }
    }

    /// Removes the open attempt, and its record without an outcome.
    pub(crate) fn take_open(&mut self) -> Option<OpenAttempt> {
        let open = self.open.take()?;
        self.history.retain(|ended| ended.attempt.token != open.token);
        Some(open)
    }

    /// Returns whether the open attempt has no record yet.
    pub(crate) fn is_running(&self) -> bool {
        let has_record = |open: &OpenAttempt| self.history.iter().any(|ended| ended.attempt.token == open.token);
        self.open.as_ref().is_some_and(|open| !has_record(open))
    }

    /// Returns the records of all attempts, oldest first. The last one is the open attempt's, if there is one.
    pub(crate) fn records(&self) -> Vec<EndedAttempt> {
        let open = self.open.clone().filter(|_| self.is_running());
        let open = open.map(|attempt| EndedAttempt {
            attempt,
            number: self.attempts.max(1),
            ended: None,
            status: None,
            reason: None,
        });
        self.history.iter().cloned().chain(open).collect()
    }

    /// Returns whether the last reason is that the delivery expired.
    pub(crate) fn is_after_expiry(&self) -> bool {
        self.reason.as_deref() == Some(EXPIRED)
    }
}

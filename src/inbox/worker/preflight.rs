use super::worker::Worker;
use crate::preflight::{PreflightError, ProblemKind, Problems};

impl<S> Worker<S> {
    /// Checks the settings of the worker when a service starts: see [`preflight`](crate::preflight) for the rules.
    ///
    /// # Errors
    ///
    /// Returns an error that lists all problems, if there are any.
    pub fn preflight(&self) -> Result<(), PreflightError> {
        let settings = &self.settings;
        let (first, last) = (settings.backoff.first, settings.backoff.last);
        let mut problems = Problems::default();
        problems.check(settings.handler_deadline.is_zero(), ProblemKind::HandlerDeadlineZero);
        let has_zero_pause = first.is_zero() || last.is_zero();
        // If the last pause is zero, report only that.
        problems.check(first > last && !has_zero_pause, ProblemKind::BackoffReversed);
        problems.check(has_zero_pause, ProblemKind::BackoffZero);
        problems.into_result()
    }
}

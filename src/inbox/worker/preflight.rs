use super::worker::Worker;
use crate::preflight::{PreflightError, ProblemKind, Problems};

impl<S> Worker<S> {
    /// Checks, for a service that starts, the times: see [`preflight`](crate::preflight) for the rules.
    ///
    /// # Errors
    ///
    /// When some will not do, with all that was found.
    pub fn preflight(&self) -> Result<(), PreflightError> {
        let settings = &self.settings;
        let (first, last) = (settings.backoff.first, settings.backoff.last);
        let mut problems = Problems::default();
        problems.check(settings.handler_deadline.is_zero(), ProblemKind::HandlerDeadlineZero);
        let has_no_pause = first.is_zero() || last.is_zero();
        problems.check(first > last && !has_no_pause, ProblemKind::BackoffReversed);
        problems.check(has_no_pause, ProblemKind::BackoffZero);
        problems.into_result()
    }
}

use super::Inbox;
use crate::{
    klikit,
    preflight::{PreflightError, ProblemKind, Problems},
};

impl Inbox {
    /// Checks, for a service that starts, the limits: see [`preflight`](crate::preflight) for the rules. The store is
    /// not asked, and the [worker](super::Worker::preflight) checks its own.
    ///
    /// # Errors
    ///
    /// When some will not do, with all that was found.
    pub fn preflight(&self) -> Result<(), PreflightError> {
        let config = &self.config;
        let mut problems = Problems::default();
        problems.check(config.retention < klikit::retries_span(), ProblemKind::RetentionTooShort);
        config.policy.look_at_replays(&mut problems);
        problems.check(config.accept_deadline.is_zero(), ProblemKind::AcceptDeadlineZero);
        problems.check(config.accept_deadline >= klikit::TIMEOUT, ProblemKind::AcceptDeadlineTooLong);
        problems.check(config.max_backlog == 0, ProblemKind::MaxBacklogZero);
        problems.check(config.max_stored < config.max_backlog, ProblemKind::MaxStoredTooLow);
        problems.into_result()
    }
}

use super::Inbox;
use crate::{
    klikit,
    preflight::{PreflightError, ProblemKind, Problems},
};

impl Inbox {
    /// Checks the settings of the inbox when a service starts: see [`preflight`](crate::preflight) for the rules.
    ///
    /// The check does not call the store. The [worker](super::Worker::preflight) checks its own settings.
    ///
    /// # Errors
    ///
    /// Returns an error that lists all problems, if there are any.
    pub fn preflight(&self) -> Result<(), PreflightError> {
        let config = &self.config;
        let mut problems = Problems::default();
        problems.check(config.retention < klikit::retries_span(), ProblemKind::RetentionTooShort);
        config.policy.check_replay_limit(&mut problems);
        problems.check(config.accept_deadline.is_zero(), ProblemKind::AcceptDeadlineZero);
        problems.check(config.accept_deadline >= klikit::timeout(), ProblemKind::AcceptDeadlineTooLong);
        problems.check(config.max_backlog == 0, ProblemKind::MaxBacklogZero);
        problems.check(config.max_stored < config.max_backlog, ProblemKind::MaxStoredTooLow);
        problems.into_result()
    }
}

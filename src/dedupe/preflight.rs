use super::KlikitDedupeLayer;
use crate::{
    klikit,
    preflight::{PreflightError, ProblemKind, Problems},
};

impl KlikitDedupeLayer {
    /// Checks the settings of the layer when a service starts: see [`preflight`](crate::preflight) for the rules. The
    /// check does not call the store.
    ///
    /// # Errors
    ///
    /// Returns an error that lists all problems, if there are any.
    pub fn preflight(&self) -> Result<(), PreflightError> {
        let config = &self.config;
        let mut problems = Problems::default();
        let renewed_by = (config.lease / 3).saturating_add(config.claim_deadline);
        problems.check(config.lease <= renewed_by, ProblemKind::LeaseTooShort);
        problems.check(config.lease >= klikit::pauses()[0], ProblemKind::LeaseTooLong);
        problems.check(config.retention < klikit::retries_span(), ProblemKind::RetentionTooShort);
        problems.check(config.claim_deadline.is_zero(), ProblemKind::ClaimDeadlineZero);
        let claim_and_completion = config.claim_deadline.saturating_mul(2);
        problems.check(claim_and_completion >= klikit::timeout(), ProblemKind::ClaimDeadlineTooLong);
        problems.check(config.handler_deadline.is_zero(), ProblemKind::HandlerDeadlineZero);
        config.policy.check_replay_limit(&mut problems);
        problems.into_result()
    }
}

use std::time::Duration;

use super::KlikitDedupeLayer;
use crate::preflight::{KLIKIT_RETRIES, KLIKIT_WAITS, PreflightError, ProblemKind, Problems};

/// klikit's first pause, by an older text of its own.
const FIRST_RETRY: Duration = Duration::from_secs(30);

impl KlikitDedupeLayer {
    /// Checks, for a service that starts, the times: see [`preflight`](crate::preflight) for the rules. The store is not asked.
    ///
    /// # Errors
    ///
    /// When some will not do, with all that was found.
    pub fn preflight(&self) -> Result<(), PreflightError> {
        let config = &self.config;
        let mut problems = Problems::default();
        let renewed_by = (config.lease / 3).saturating_add(config.claim_deadline);
        problems.check(config.lease <= renewed_by, ProblemKind::LeaseTooShort);
        problems.check(config.lease >= FIRST_RETRY, ProblemKind::LeaseTooLong);
        problems.check(config.retention < KLIKIT_RETRIES, ProblemKind::RetentionTooShort);
        problems.check(config.claim_deadline.is_zero(), ProblemKind::ClaimDeadlineZero);
        let claim_and_completion = config.claim_deadline.saturating_mul(2);
        problems.check(claim_and_completion >= KLIKIT_WAITS, ProblemKind::ClaimDeadlineTooLong);
        problems.check(config.handler_deadline.is_zero(), ProblemKind::HandlerDeadlineZero);
        problems.into_result()
    }
}

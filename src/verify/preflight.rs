use std::time::Duration;

use super::KlikitVerifyLayer;
use crate::{
    klikit,
    preflight::{PreflightError, ProblemKind, Problems},
};

/// In bytes, somewhat more than the largest batch that is known, of six large orders.
const LARGEST_BATCH: usize = 160 * 1024;

impl KlikitVerifyLayer {
    /// Checks, for a service that starts, the secrets and the limits: see [`preflight`](crate::preflight) for the rules.
    ///
    /// Which keyrings a [resolver](Self::with_resolver) may pick is known here as far as
    /// [`known_keyrings`](Self::known_keyrings) says; others [have a check of their own](crate::Keyring::preflight).
    ///
    /// ```
    /// use tower_klikit::KlikitVerifyLayer;
    ///
    /// fn layer(secret: &str) -> Result<KlikitVerifyLayer, Box<dyn std::error::Error>> {
    ///     let layer = KlikitVerifyLayer::try_new(secret)?;
    ///     layer.preflight()?;
    ///     Ok(layer)
    /// }
    ///
    /// let error = layer("your-webhook-secret").unwrap_err();
    /// assert!(error.to_string().contains("is a placeholder"));
    /// ```
    ///
    /// # Errors
    ///
    /// When something will not do, with all that was found. Nothing of a secret is in it.
    pub fn preflight(&self) -> Result<(), PreflightError> {
        let config = &self.config;
        let mut problems = Problems::default();
        for keyring in config.keyrings.known() {
            keyring.look_at_secrets(&mut problems);
        }
        problems.check(config.body_limit < LARGEST_BATCH, ProblemKind::BodyLimitTooLow);
        problems.check(config.budget.limit() < config.body_limit, ProblemKind::BufferBudgetTooLow);
        problems.check(config.body_deadline.is_zero(), ProblemKind::BodyDeadlineZero);
        // All of the time may be a body's: there is no answer that klikit would take when it has not come by then.
        problems.check(config.body_deadline > klikit::TIMEOUT, ProblemKind::BodyDeadlineTooLong);
        let is_below_a_second = |tolerance| tolerance < Duration::from_secs(1);
        problems.check(config.timestamped.is_some_and(is_below_a_second), ProblemKind::ToleranceTooShort);
        problems.into_result()
    }
}

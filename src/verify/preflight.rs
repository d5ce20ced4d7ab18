use std::time::Duration;

use super::KlikitVerifyLayer;
use crate::{
    klikit,
    preflight::{PreflightError, ProblemKind, Problems},
};

/// Slightly more than the largest known batch, of six large orders, in bytes.
const LARGEST_BATCH: usize = 160 * 1024;

impl KlikitVerifyLayer {
    /// Checks the secrets and the limits when a service starts: see [`preflight`](crate::preflight) for the rules.
    ///
    /// If the layer has a [resolver](Self::with_resolver), only its [`known_keyrings`](Self::known_keyrings) are
    /// checked. Check other keyrings with [`Keyring::preflight`](crate::Keyring::preflight).
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
    /// If any setting has a problem. The error lists all problems and holds no part of a secret.
    pub fn preflight(&self) -> Result<(), PreflightError> {
        let config = &self.config;
        let mut problems = Problems::default();
        for keyring in config.keyrings.known() {
            keyring.check_secrets(&mut problems);
        }
        problems.check(config.body_limit < LARGEST_BATCH, ProblemKind::BodyLimitTooLow);
        problems.check(config.budget.limit() < config.body_limit, ProblemKind::BufferBudgetTooLow);
        problems.check(config.body_deadline.is_zero(), ProblemKind::BodyDeadlineZero);
        // Equal is fine: klikit takes no response after its timeout anyway.
        problems.check(config.body_deadline > klikit::timeout(), ProblemKind::BodyDeadlineTooLong);
        let is_below_a_second = |tolerance| tolerance < Duration::from_secs(1);
        problems.check(config.timestamped.is_some_and(is_below_a_second), ProblemKind::ToleranceTooShort);
        problems.into_result()
    }
}

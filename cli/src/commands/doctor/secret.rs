//! The check of the secret.

use tower_klikit::{
    KlikitVerifyLayer,
    preflight::{Problem, ProblemKind},
};

use super::row::{Check, Row};
use crate::{error::CliError, secret::SecretArguments};

/// Checks the secret as a service does when it starts.
pub(super) fn check(arguments: &SecretArguments) -> Result<Row, CliError> {
    let (check, place) = (Check::Secret, arguments.place());
    let secret = match arguments.find()? {
        Ok(secret) => secret,
        Err(error) => return Ok(check.blocker(error.to_string(), format!("put the secret into {place}"))),
    };
    let Err(error) = KlikitVerifyLayer::with_keyring(secret.into()).preflight() else {
        return Ok(check.ok(format!("{place} holds a plausible secret")));
    };
    let (seen, action) = (error.to_string(), format!("correct the secret in {place}"));
    // A short secret verifies deliveries, until somebody guesses it.
    let is_short = |problem: &Problem| problem.kind() == ProblemKind::SecretTooShort;
    Ok(if error.problems().iter().all(is_short) { check.warning(seen, action) } else { check.blocker(seen, action) })
}

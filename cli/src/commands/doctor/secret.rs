//! The check of the secrets.

use tower_klikit::{
    KlikitVerifyLayer,
    preflight::{Problem, ProblemKind},
};

use super::row::{Check, Row};
use crate::{
    error::CliError,
    secret::{OLD_VARIABLE, SecretArguments},
};

/// The id of the secret in [`OLD_VARIABLE`] in a service's keyring.
const OLD_ID: &str = "old";

/// Checks the secrets as a service does when it starts.
pub(super) fn check(arguments: &SecretArguments) -> Result<Row, CliError> {
    let (check, place) = (Check::Secret, arguments.place());
    let replace_old = format!("put the secret before the rotation into {OLD_VARIABLE}, or remove the variable");
    let keyring = match arguments.find_keyring()? {
        Ok(keyring) => keyring,
        Err(error) => {
            let is_old = error.variable() == Some(OLD_VARIABLE);
            let action = if is_old { replace_old } else { format!("put the secret into {place}") };
            return Ok(check.blocker(error.to_string(), action));
        }
    };
    let secrets = keyring.ids().len();
    let Err(error) = KlikitVerifyLayer::with_keyring(keyring).preflight() else {
        return Ok(match arguments.read_old()? {
            None => check.ok(format!("{place} holds a plausible secret")),
            // The keyring leaves out the old secret if it is the same as the new one.
            Some(_) if secrets == 1 => {
                check.warning(format!("{OLD_VARIABLE} holds the same secret as {place}"), replace_old)
            }
            Some(_) => check.ok(format!("{place} and {OLD_VARIABLE} hold plausible secrets")),
        });
    };
    let place_of = |problem: &Problem| if problem.secret_id() == Some(OLD_ID) { OLD_VARIABLE } else { &*place };
    let mut places: Vec<_> = error.problems().iter().map(place_of).collect();
    places.dedup();
    let (seen, action) = (error.to_string(), format!("correct the secret in {}", places.join(" and in ")));
    // A short secret verifies deliveries, until somebody guesses it.
    let is_short = |problem: &Problem| problem.kind() == ProblemKind::SecretTooShort;
    Ok(if error.problems().iter().all(is_short) { check.warning(seen, action) } else { check.blocker(seen, action) })
}

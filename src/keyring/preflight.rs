use super::Keyring;
use crate::preflight::{PreflightError, Problems};

impl Keyring {
    /// Checks when a service starts that each secret is plausible and that no two are nearly the same: see
    /// [`preflight`](crate::preflight) for the rules.
    ///
    /// # Errors
    ///
    /// If any secret has a problem. The error lists all problems and holds no part of a secret.
    pub fn preflight(&self) -> Result<(), PreflightError> {
        let mut problems = Problems::default();
        self.check_secrets(&mut problems);
        problems.into_result()
    }

    /// Adds the problems of all secrets to `problems`.
    pub(crate) fn check_secrets(&self, problems: &mut Problems) {
        let secrets = self.secrets();
        for (n, held) in secrets.iter().enumerate() {
            for kind in held.secret.problems() {
                problems.add_secret(kind, held.id());
            }
            // The secrets are sorted newest first.
            for newer in secrets[..n].iter().filter(|newer| newer.secret.is_nearly(&held.secret)) {
                problems.add_pair(held.id(), newer.id());
            }
        }
    }
}

use super::Keyring;
use crate::preflight::{PreflightError, Problems};

impl Keyring {
    /// Checks, for a service that starts, that each secret looks like one, and that no two are nearly the same: see
    /// [`preflight`](crate::preflight) for the rules.
    ///
    /// # Errors
    ///
    /// When one does not, with all that was found. Nothing of a secret is in it.
    pub fn preflight(&self) -> Result<(), PreflightError> {
        let mut problems = Problems::default();
        self.look_at_secrets(&mut problems);
        problems.into_result()
    }

    pub(crate) fn look_at_secrets(&self, problems: &mut Problems) {
        let secrets = self.secrets();
        for (n, held) in secrets.iter().enumerate() {
            for kind in held.secret.problems() {
                problems.add_secret(kind, held.id());
            }
            for newer in secrets[..n].iter().filter(|newer| newer.secret.is_nearly(&held.secret)) {
                problems.add_pair(held.id(), newer.id());
            }
        }
    }
}

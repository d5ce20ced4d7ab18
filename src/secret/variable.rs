//! The environment variables that hold secrets.

use std::env;

use zeroize::Zeroizing;

/// An environment variable that holds a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    /// The variable that klikit's sample receivers read.
    Newest,
    /// The variable for the secret before a rotation.
    Old,
}

impl Variable {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Newest => "KLIKIT_WEBHOOK_SECRET",
            Self::Old => "KLIKIT_WEBHOOK_SECRET_OLD",
        }
    }

    /// Returns what to do about a faulty value.
    pub(super) const fn remedy(self) -> &'static str {
        match self {
            Self::Newest => "set it to the webhook_secret_key that klikit shows",
            Self::Old => "set it to the webhook_secret_key before the rotation, or remove the variable",
        }
    }

    /// Returns the value without trimming it, if the variable is set.
    pub(super) fn read(self) -> Option<Zeroizing<Vec<u8>>> {
        env::var_os(self.name()).map(|value| Zeroizing::new(value.into_encoded_bytes()))
    }
}

//! The webhook secret, which is never empty and never shown.

pub(crate) mod normalize;
mod placeholder;
mod preflight;
mod variable;

use std::{error::Error, fmt, sync::Arc};

use ctutils::CtEq;
use zeroize::Zeroizing;

use self::variable::Variable;
use crate::signature::{Signature, SigningKey};

/// The secret that klikit signs deliveries with: the `webhook_secret_key`, which is not the partner API's `secret_key`.
///
/// The secret is used byte for byte, without trimming, decoding or unquoting. It cannot be read back, `Debug` does not
/// show it, and its memory is wiped on drop.
///
/// Empty and blank secrets are errors, because anyone can guess them: see [`WebhookSecret::new`].
#[derive(Clone)]
pub struct WebhookSecret {
    bytes: Zeroizing<Box<[u8]>>,
    /// Behind a pointer, so that moving the secret leaves no copy of the key on the heap.
    key: Arc<SigningKey>,
}

impl WebhookSecret {
    /// Creates a secret from the bytes that klikit shows.
    ///
    /// # Errors
    ///
    /// If the secret is empty or blank. A blank secret is text without a letter, a digit or an ASCII punctuation
    /// character other than quotes, as unset variables and empty quotes produce it. HMAC pads a short key with NULs
    /// (RFC 2104), so a secret of NULs would verify everything that was signed with an empty key.
    ///
    /// A binary key is never blank. A key is binary if it is not UTF-8, or if it contains an ASCII control byte that is
    /// neither white space nor NUL.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, SecretError> {
        let secret = secret.as_ref();
        Self::check(secret)?;
        Ok(Self { bytes: Zeroizing::new(secret.into()), key: Arc::new(SigningKey::new(secret)) })
    }

    /// Checks a secret as [`new`](Self::new) does, without the cost of making its key.
    pub(crate) fn check(secret: &[u8]) -> Result<(), SecretError> {
        if secret.is_empty() {
            return Err(SecretError::new(SecretErrorKind::Empty));
        }
        if is_blank(secret) {
            return Err(SecretError::new(SecretErrorKind::Blank));
        }
        Ok(())
    }

    /// Reads the secret from the environment variable `KLIKIT_WEBHOOK_SECRET`, without trimming it.
    ///
    /// A service that verifies deliveries calls [`Keyring::from_env`](crate::Keyring::from_env), which also reads the
    /// secret before a rotation.
    ///
    /// # Errors
    ///
    /// If the variable is not set, or its value is empty or blank as in [`WebhookSecret::new`].
    pub fn from_env() -> Result<Self, SecretError> {
        let variable = Some(Variable::Newest);
        Self::in_variable(Variable::Newest)?.ok_or(SecretError { kind: SecretErrorKind::NotSet, variable })
    }

    /// Reads the secret before a rotation from the environment variable `KLIKIT_WEBHOOK_SECRET_OLD`, without trimming
    /// it. Returns `None` if the variable is not set.
    ///
    /// # Errors
    ///
    /// If the value is empty or blank as in [`WebhookSecret::new`].
    pub fn old_from_env() -> Result<Option<Self>, SecretError> {
        Self::in_variable(Variable::Old)
    }

    /// Returns the secret in this variable, if the variable is set.
    fn in_variable(variable: Variable) -> Result<Option<Self>, SecretError> {
        let secret = variable.read().map(Self::new).transpose();
        secret.map_err(|error| SecretError { variable: Some(variable), ..error })
    }

    /// Signs a body as klikit would.
    pub fn sign(&self, body: impl AsRef<[u8]>) -> Signature {
        self.key.sign(body.as_ref())
    }

    pub(crate) fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Returns the bytes, for diagnoses. The caller must wipe everything that it derives from them.
    #[cfg(feature = "diagnose")]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns whether both are the same secret, in constant time.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.bytes.as_ref().ct_eq(other.bytes.as_ref()).into()
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

fn is_blank(secret: &[u8]) -> bool {
    if is_binary(secret) {
        return false;
    }
    const QUOTES: [char; 3] = ['"', '\'', '`'];
    // Invisible characters that Unicode classifies as letters.
    const FILLERS: [char; 4] = ['\u{115F}', '\u{1160}', '\u{3164}', '\u{FFA0}'];
    let is_visible =
        |c: char| (c.is_ascii_graphic() && !QUOTES.contains(&c)) || (c.is_alphanumeric() && !FILLERS.contains(&c));
    str::from_utf8(secret).is_ok_and(|text| !text.chars().any(is_visible))
}

/// Returns whether the bytes contain an ASCII control byte other than white space and NUL. Those two do not count,
/// because blank settings consist of them and HMAC pads a key with NULs.
fn is_binary(secret: &[u8]) -> bool {
    secret.iter().any(|byte| byte.is_ascii_control() && !b"\0\t\n\x0b\x0c\r".contains(byte))
}

/// The error for a secret that is missing, empty or blank.
///
/// `Debug` writes the same message as `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretError {
    kind: SecretErrorKind,
    /// The environment variable that the secret was read from.
    variable: Option<Variable>,
}

/// The reasons for a [`SecretError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretErrorKind {
    /// The environment variable `KLIKIT_WEBHOOK_SECRET` is not set.
    NotSet,
    /// The secret has no bytes.
    Empty,
    /// The secret is text without a visible character: see [`WebhookSecret::new`].
    Blank,
}

impl SecretError {
    fn new(kind: SecretErrorKind) -> Self {
        Self { kind, variable: None }
    }

    /// Returns what was wrong.
    pub fn kind(&self) -> SecretErrorKind {
        self.kind
    }

    /// Returns the name of the environment variable, if the secret was read from the environment.
    pub fn variable(&self) -> Option<&'static str> {
        self.variable.map(Variable::name)
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.kind {
            SecretErrorKind::NotSet => "not set",
            SecretErrorKind::Empty => "empty",
            SecretErrorKind::Blank => "blank",
        };
        match self.variable {
            Some(variable) => {
                write!(f, "the environment variable {} is {fault}: {}", variable.name(), variable.remedy())
            }
            None => write!(f, "the webhook secret is {fault}: use the webhook_secret_key that klikit shows"),
        }
    }
}

/// Writes the message, because a `main` that returns the error prints its `Debug`.
impl fmt::Debug for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for SecretError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_empty_and_blank_secrets() {
        let blanks =
            ["", " ", "\n", "\t \r\n", "\0", "\0\0\0\0", "\u{a0}", "\u{3000}\u{feff}", "\u{200b}", "\"\"", "'' ", "``"];
        for blank in blanks.into_iter().chain(["\u{ad}", "\u{200e}", "\u{2800}", "\u{3164}", "\u{fe0f}"]) {
            assert!(WebhookSecret::new(blank).is_err(), "{blank:?} was accepted as a secret");
        }
    }

    #[test]
    fn error_tells_what_to_do() {
        for (secret, fault) in [("", "empty"), (" ", "blank")] {
            let error = WebhookSecret::new(secret).unwrap_err();
            let text = format!("the webhook secret is {fault}: use the webhook_secret_key that klikit shows");
            assert_eq!([format!("{error}"), format!("{error:?}")], [text.as_str(), text.as_str()]);
        }
    }

    #[test]
    fn accepts_binary_keys() {
        let counted: Vec<u8> = (0..32).collect();
        let keys: [&[u8]; 8] =
            [&counted, &counted[..16], &[1], &[0, 1], &[7; 32], &[0x1f; 16], b"\x0e \n", b"\0\x7f\0"];
        for key in keys {
            assert!(WebhookSecret::new(key).is_ok(), "{key:?} was rejected");
        }
        // U+0093 and U+0094 result from reading the quotes of Windows-1252 as Latin-1.
        for text in ["\t\n\x0b\x0c\r ", "\0\n", "\u{85}", "\u{93}\u{94}", "\u{80}"] {
            assert_eq!(WebhookSecret::new(text).unwrap_err().kind(), SecretErrorKind::Blank, "{text:?}");
        }
    }

    #[test]
    fn secret_of_nuls_would_equal_empty_key() {
        assert_eq!(SigningKey::new(b"\0\0\0").sign(b"forged"), SigningKey::new(b"").sign(b"forged"));
    }

    #[test]
    fn uses_secret_byte_for_byte() {
        let plain = WebhookSecret::new("secret").unwrap();
        for other in ["secret\n", " secret", "\"secret\"", "Secret"] {
            let other = WebhookSecret::new(other).unwrap();
            assert_ne!(plain.sign("body"), other.sign("body"));
            assert!(!plain.same_as(&other));
        }
        assert!(WebhookSecret::new([0xff, 0xfe]).is_ok(), "a secret that is not UTF-8 was rejected");
    }

    #[test]
    fn error_names_source_of_secret() {
        for (variable, remedy) in [
            (Variable::Newest, "KLIKIT_WEBHOOK_SECRET is blank: set it to the webhook_secret_key that klikit shows"),
            (
                Variable::Old,
                "KLIKIT_WEBHOOK_SECRET_OLD is blank: set it to the webhook_secret_key before the rotation, or remove \
                 the variable",
            ),
        ] {
            let error = SecretError { kind: SecretErrorKind::Blank, variable: Some(variable) };
            assert_eq!(error.to_string(), format!("the environment variable {remedy}"));
            assert_eq!(error.variable(), Some(variable.name()));
        }
        assert_eq!(WebhookSecret::new("").unwrap_err().variable(), None);
    }

    #[test]
    fn debug_hides_the_secret() {
        assert_eq!(format!("{:?}", WebhookSecret::new("hunter2").unwrap()), "WebhookSecret(…)");
    }
}

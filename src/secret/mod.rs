//! The webhook secret: never empty, never shown.

pub(crate) mod peel;
mod placeholder;
mod preflight;

use std::{env, error::Error, fmt, sync::Arc};

use ctutils::CtEq;
use zeroize::Zeroizing;

use crate::signature::{Signature, SigningKey};

/// The environment variable that klikit's sample receivers read.
pub(crate) const ENV: &str = "KLIKIT_WEBHOOK_SECRET";

/// The secret that klikit signs deliveries with: the `webhook_secret_key`, which is not the partner API's `secret_key`.
///
/// It is used byte for byte: nothing is trimmed, decoded or unquoted. It cannot be read back, `Debug` does not show it, and
/// its memory is wiped when it is dropped.
///
/// A secret that anyone could guess from an empty setting is not one: see [`WebhookSecret::new`].
#[derive(Clone)]
pub struct WebhookSecret {
    bytes: Zeroizing<Box<[u8]>>,
    /// Behind a pointer, so that moving the secret leaves no copy of the key behind on the heap.
    key: Arc<SigningKey>,
}

impl WebhookSecret {
    /// Takes a secret as klikit shows it.
    ///
    /// # Errors
    ///
    /// When the secret is empty, or blank: text without one letter, digit or ASCII sign other than quotes. That is what unset
    /// variables and empty quotes make. HMAC pads a short key with NUL (RFC 2104), so a secret of NULs alone would verify
    /// whatever was signed with no key at all.
    ///
    /// A binary key is not text, and so never blank: it is not UTF-8, or it holds an ASCII control byte that is neither white space
    /// nor NUL.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, SecretError> {
        let secret = secret.as_ref();
        Self::check(secret)?;
        Ok(Self { bytes: Zeroizing::new(secret.into()), key: Arc::new(SigningKey::new(secret)) })
    }

    /// Whether this is a secret, for less than its key takes to be made.
    pub(crate) fn check(secret: &[u8]) -> Result<(), SecretError> {
        if secret.is_empty() {
            return Err(SecretError::new(SecretErrorKind::Empty));
        }
        if is_blank(secret) {
            return Err(SecretError::new(SecretErrorKind::Blank));
        }
        Ok(())
    }

    /// Takes the secret from the environment variable `KLIKIT_WEBHOOK_SECRET`, without trimming it.
    ///
    /// # Errors
    ///
    /// When the variable is not set, or as [`WebhookSecret::new`]: a variable that is set to nothing is an error, never a key.
    pub fn from_env() -> Result<Self, SecretError> {
        let secret = env::var_os(ENV).ok_or(SecretError::new(SecretErrorKind::NotSet))?;
        Self::new(Zeroizing::new(secret.into_encoded_bytes()))
            .map_err(|error| SecretError { in_environment: true, ..error })
    }

    /// Signs a body as klikit would.
    pub fn sign(&self, body: impl AsRef<[u8]>) -> Signature {
        self.key.sign(body.as_ref())
    }

    pub(crate) fn key(&self) -> &SigningKey {
        &self.key
    }

    /// For looking for what it should have been. Whatever is made of it is to be wiped too.
    #[cfg(feature = "diagnose")]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether both are the same secret. Takes the same time wherever they differ.
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
    // Letters to Unicode, and blank to the eye.
    const FILLERS: [char; 4] = ['\u{115F}', '\u{1160}', '\u{3164}', '\u{FFA0}'];
    let shows =
        |c: char| (c.is_ascii_graphic() && !QUOTES.contains(&c)) || (c.is_alphanumeric() && !FILLERS.contains(&c));
    str::from_utf8(secret).is_ok_and(|text| !text.chars().any(shows))
}

/// Returns whether the bytes hold an ASCII control byte other than white space and NUL. Settings that hold nothing are made of those
/// two, and HMAC pads a key with NUL.
fn is_binary(secret: &[u8]) -> bool {
    secret.iter().any(|byte| byte.is_ascii_control() && !b"\0\t\n\x0b\x0c\r".contains(byte))
}

/// Why a text was not taken for a webhook secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretError {
    kind: SecretErrorKind,
    in_environment: bool,
}

/// The reasons for a [`SecretError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretErrorKind {
    /// The environment variable `KLIKIT_WEBHOOK_SECRET` is not set.
    NotSet,
    /// The secret has no bytes.
    Empty,
    /// The secret is text that shows nothing: see [`WebhookSecret::new`].
    Blank,
}

impl SecretError {
    fn new(kind: SecretErrorKind) -> Self {
        Self { kind, in_environment: kind == SecretErrorKind::NotSet }
    }

    /// What was wrong.
    pub fn kind(&self) -> SecretErrorKind {
        self.kind
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.kind {
            SecretErrorKind::NotSet => "not set",
            SecretErrorKind::Empty => "empty",
            SecretErrorKind::Blank => "blank",
        };
        if self.in_environment {
            write!(f, "the environment variable {ENV} is {fault}")
        } else {
            write!(f, "the webhook secret is {fault}")
        }
    }
}

impl Error for SecretError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_or_blank_secret_is_no_secret() {
        let blanks =
            ["", " ", "\n", "\t \r\n", "\0", "\0\0\0\0", "\u{a0}", "\u{3000}\u{feff}", "\u{200b}", "\"\"", "'' ", "``"];
        for blank in blanks.into_iter().chain(["\u{ad}", "\u{200e}", "\u{2800}", "\u{3164}", "\u{fe0f}"]) {
            assert!(WebhookSecret::new(blank).is_err(), "{blank:?} was taken for a secret");
        }
    }

    #[test]
    fn accepts_binary_keys() {
        let counted: Vec<u8> = (0..32).collect();
        let keys: [&[u8]; 8] =
            [&counted, &counted[..16], &[1], &[0, 1], &[7; 32], &[0x1f; 16], b"\x0e \n", b"\0\x7f\0"];
        for key in keys {
            assert!(WebhookSecret::new(key).is_ok(), "{key:?} is a key");
        }
        // U+0093 and U+0094 are quotes in Windows-1252 that were read as Latin-1.
        for text in ["\t\n\x0b\x0c\r ", "\0\n", "\u{85}", "\u{93}\u{94}", "\u{80}"] {
            assert_eq!(WebhookSecret::new(text).unwrap_err().kind(), SecretErrorKind::Blank, "{text:?}");
        }
    }

    #[test]
    fn a_secret_of_nuls_would_be_no_key_at_all() {
        assert_eq!(SigningKey::new(b"\0\0\0").sign(b"forged"), SigningKey::new(b"").sign(b"forged"));
    }

    #[test]
    fn a_secret_is_used_byte_for_byte() {
        let plain = WebhookSecret::new("secret").unwrap();
        for other in ["secret\n", " secret", "\"secret\"", "Secret"] {
            let other = WebhookSecret::new(other).unwrap();
            assert_ne!(plain.sign("body"), other.sign("body"));
            assert!(!plain.same_as(&other));
        }
        assert!(WebhookSecret::new([0xff, 0xfe]).is_ok(), "a secret need not be UTF-8");
    }

    #[test]
    fn an_error_says_where_the_secret_was_looked_for() {
        assert_eq!(WebhookSecret::new("").unwrap_err().to_string(), "the webhook secret is empty");
        let not_set = SecretError::new(SecretErrorKind::NotSet);
        assert_eq!(not_set.to_string(), "the environment variable KLIKIT_WEBHOOK_SECRET is not set");
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", WebhookSecret::new("hunter2").unwrap()), "WebhookSecret(…)");
    }
}

//! Signatures, and the keys that compute them, without I/O and without HTTP types.
//!
//! klikit signs the raw body with HMAC-SHA256 (RFC 2104, FIPS 180-4) and sends the tag as 64 hex digits. All signing
//! and verification in this crate goes through this module.

#[cfg(any(feature = "payload", feature = "diagnose"))]
pub(crate) mod timestamped;

use std::{array, error::Error, fmt, str::FromStr};

use ctutils::CtEq;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The length of a tag, in bytes.
const LEN: usize = 32;

const INVALID_DIGIT: u8 = u8::MAX;

/// The HMAC-SHA256 of a body, which klikit sends in `x-klikit-signature`.
///
/// Parsing accepts exactly 64 hex digits of either case, without a prefix and without white space. `Display` writes
/// lower case, as klikit does ("Webhook security" in klikit's developer documentation). Two signatures are compared in
/// constant time.
///
/// An attacker who has a body and its signature can send both again, so `Debug` shows only the first 8 digits.
///
/// ```
/// use tower_klikit::{Signature, WebhookSecret};
///
/// let secret = WebhookSecret::new("your-webhook-secret")?;
/// let signature = secret.sign(br#"{"brand_id":1,"branch_id":2,"orders":[{"id":42}]}"#);
/// assert_eq!(
///     signature.to_string(),
///     "cde212d9854ae482bb476487a187ee88c4b5f93eb2444de34fd7252b5ccb866d",
/// );
/// assert_eq!(signature, signature.to_string().to_uppercase().parse::<Signature>()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Signature([u8; LEN]);

/// The forms of signature that a receiver accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum SignatureForms {
    /// Signatures of the body alone.
    #[default]
    Current,
    /// Timestamped signatures too.
    CurrentAndTimestamped,
}

impl Signature {
    /// Parses the value of a header.
    pub(crate) fn from_hex(hex: &[u8]) -> Result<Self, ParseSignatureError> {
        let digits: &[u8; 2 * LEN] = hex.try_into().map_err(|_| ParseSignatureError(()))?;
        let values = digits.map(hex_value);
        // Valid values have only the low four bits, so the high bits are set only if a digit is invalid.
        if values.iter().fold(0, |all, value| all | value) == INVALID_DIGIT {
            return Err(ParseSignatureError(()));
        }
        Ok(Self(array::from_fn(|n| (values[2 * n] << 4) | values[2 * n + 1])))
    }

    #[cfg(feature = "diagnose")]
    pub(crate) fn from_bytes(tag: [u8; LEN]) -> Self {
        Self(tag)
    }

    #[cfg(feature = "diagnose")]
    pub(crate) fn as_bytes(&self) -> &[u8; LEN] {
        &self.0
    }
}

impl FromStr for Signature {
    type Err = ParseSignatureError;

    fn from_str(hex: &str) -> Result<Self, Self::Err> {
        Self::from_hex(hex.as_bytes())
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({:.8}…)", self.to_string())
    }
}

impl PartialEq for Signature {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Signature {}

/// Returns the value of a hex digit, or [`INVALID_DIGIT`]. The function compiles to code without branches, so that the
/// compiler can convert 16 digits at once. Parsing must cost little compared to the hash.
fn hex_value(digit: u8) -> u8 {
    let number = digit.wrapping_sub(b'0');
    let letter = (digit | 0x20).wrapping_sub(b'a');
    if number < 10 {
        number
    } else if letter < 6 {
        letter + 10
    } else {
        INVALID_DIGIT
    }
}

/// The error for a text that is not exactly 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseSignatureError(());

impl fmt::Display for ParseSignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a klikit signature is exactly 64 hex digits")
    }
}

impl Error for ParseSignatureError {}

/// An HMAC-SHA256 state that has absorbed the key, so that a delivery costs only the hash of its body.
///
/// The state is as secret as the key. It is wiped on drop, and so is every copy that hashes a body. Moves may leave
/// traces on the stack.
#[derive(Clone)]
pub(crate) struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("HMAC accepts keys of any length"))
    }

    /// Begins a signature over a prefix and the first bytes of a body.
    pub(crate) fn start_with(&self, prefix: &[u8], so_far: &[u8]) -> Signing {
        let mut signing = Signing(self.0.clone());
        signing.update(prefix);
        signing.update(so_far);
        signing
    }

    pub(crate) fn sign(&self, body: &[u8]) -> Signature {
        self.sign_pieces(&[], [body])
    }

    /// Signs a prefix and a body in pieces. The prefix is empty unless the signature is timestamped.
    #[inline]
    pub(crate) fn sign_pieces<'a>(&self, prefix: &[u8], body: impl IntoIterator<Item = &'a [u8]>) -> Signature {
        // Do not use `Signing`: each move of the state makes verifying a short body 1% slower.
        let mut mac = self.0.clone();
        if !prefix.is_empty() {
            mac.update(prefix);
        }
        body.into_iter().for_each(|piece| mac.update(piece));
        Signature(mac.finalize().into_bytes().into())
    }
}

/// A signature whose body is still being hashed.
#[derive(Clone)]
pub(crate) struct Signing(Hmac<Sha256>);

impl Signing {
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    pub(crate) fn finish(self) -> Signature {
        Signature(self.0.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test cases 1, 2, 3 and 6 (a key longer than a block).
    #[test]
    fn matches_rfc_4231_vectors() {
        let cases: [(&[u8], &[u8], &str); 4] = [
            (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, body, hex) in cases {
            assert_eq!(SigningKey::new(key).sign(body).to_string(), hex);
        }
    }

    #[test]
    fn signs_pieces_like_whole_body() {
        let key = SigningKey::new(b"secret");
        assert_eq!(key.sign_pieces(b"o", [&b"r"[..], b"", b"der", b"s"]), key.sign(b"orders"));
    }

    #[test]
    fn parses_only_64_hex_digits() {
        let hex = SigningKey::new(b"secret").sign(b"body").to_string();
        assert_eq!(hex.parse::<Signature>().unwrap().to_string(), hex);
        assert_eq!(hex.to_uppercase().parse::<Signature>().unwrap().to_string(), hex);
        for wrong in [
            String::new(),
            hex[..63].to_owned(),
            hex[..62].to_owned(),
            format!("{hex}0"),
            format!("{hex}00"),
            format!("sha256={hex}"),
            format!(" {hex}"),
            format!("{hex}\n"),
            format!("{}g", &hex[..63]),
            format!("{}é", &hex[..62]),
        ] {
            assert!(wrong.parse::<Signature>().is_err(), "{wrong:?} was parsed as a signature");
        }
    }

    #[test]
    fn debug_shows_only_first_digits() {
        let signature = SigningKey::new(b"secret").sign(b"body");
        let hex = signature.to_string();
        let debug = format!("{signature:?}");
        assert!(debug.contains(&hex[..8]) && !debug.contains(&hex[..9]), "{debug}");
    }
}

//! The `Authorization: Basic` header that one of klikit's pages lists and none of its sample receivers reads.

use base64ct::{Base64, Encoding};
use ctutils::CtEq;
use http::HeaderValue;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The credentials that a request must have (RFC 7617).
#[derive(Clone)]
pub(super) struct BasicAuth {
    /// The SHA-256 of the base64 text. All digests have the same length, so that comparing them does not reveal the
    /// credentials' length.
    digest: [u8; 32],
}

impl BasicAuth {
    pub(super) fn new(partner_key: &str, secret_key: &str) -> Self {
        let pair = Zeroizing::new(format!("{partner_key}:{secret_key}"));
        let text = Zeroizing::new(Base64::encode_string(pair.as_bytes()));
        Self { digest: Sha256::digest(text.as_bytes()).into() }
    }

    /// Returns whether an `Authorization` header holds the credentials, compared in constant time.
    pub(super) fn matches(&self, header: &HeaderValue) -> bool {
        let Some((scheme, credentials)) = header.as_bytes().split_first_chunk::<6>() else { return false };
        let digest: [u8; 32] = Sha256::digest(credentials.trim_ascii_start()).into();
        scheme.eq_ignore_ascii_case(b"basic ") && bool::from(digest.ct_eq(&self.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_only_its_own_credentials() {
        // RFC 7617, section 2.
        let auth = BasicAuth::new("Aladdin", "open sesame");
        for good in ["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ=="] {
            assert!(auth.matches(&HeaderValue::from_static(good)), "{good}");
        }
        for bad in [
            "",
            "Basic",
            "Basic ",
            "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZR==",
            "QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        ] {
            assert!(!auth.matches(&HeaderValue::from_static(bad)), "{bad}");
        }
    }
}

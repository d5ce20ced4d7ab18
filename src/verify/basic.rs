//! The `Authorization: Basic` header that one of klikit's pages lists and no receiver reads.

use base64ct::{Base64, Encoding};
use ctutils::CtEq;
use http::HeaderValue;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Credentials to be found in a request (RFC 7617).
#[derive(Clone)]
pub(super) struct BasicAuth {
    /// Of the base64 text. Digests have one length, so comparing them tells nothing of the credentials' own.
    digest: [u8; 32],
}

impl BasicAuth {
    pub(super) fn new(partner_key: &str, secret_key: &str) -> Self {
        let pair = Zeroizing::new(format!("{partner_key}:{secret_key}"));
        let text = Zeroizing::new(Base64::encode_string(pair.as_bytes()));
        Self { digest: Sha256::digest(text.as_bytes()).into() }
    }

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
    fn knows_its_own_credentials_only() {
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

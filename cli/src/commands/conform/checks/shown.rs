//! Detects the right signature in the response to a forgery.

use base64ct::{Base64Unpadded, Encoding};

/// Returns whether a text contains a signature in hex or in base64.
pub(super) fn shows(text: &str, signature: &[u8]) -> bool {
    // Only letters and digits count, because separators, escapes and alphabets for URLs differ in the rest.
    let text = letters_and_digits(text);
    let base64 = letters_and_digits(&Base64Unpadded::encode_string(signature));
    text.contains(&base64) || text.to_ascii_lowercase().contains(&hex::encode(signature))
}

fn letters_and_digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect()
}

#[cfg(test)]
mod tests {
    use base64ct::{Base64, Base64UrlUnpadded};

    use super::*;

    #[test]
    fn detects_hex_and_base64() {
        let signature = [0xfb, 0xef, 0xff, 0x3f].repeat(8);
        let base64 = Base64::encode_string(&signature);
        assert!(base64.contains('+') && base64.contains('/') && base64.ends_with('='));
        for text in [
            format!("expected {}", hex::encode(&signature)),
            "FB-EF-FF-3F-".repeat(8),
            format!(r#"{{"expected":"{base64}"}}"#),
            format!(r#"{{"expected":"{}"}}"#, base64.replace('/', r"\/")),
            Base64UrlUnpadded::encode_string(&signature),
        ] {
            assert!(shows(&text, &signature), "{text}");
        }
    }

    #[test]
    fn ignores_other_signatures() {
        let [right, other] = [[0xfb; 32], [0xfc; 32]];
        for text in [hex::encode(other), Base64::encode_string(&other), hex::encode(&right[1..]), String::new()] {
            assert!(!shows(&text, &right), "{text}");
        }
    }
}

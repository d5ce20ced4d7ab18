//! Secrets that the configured one may be a faulty copy of.

use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding};
use zeroize::Zeroizing;

use super::{base64, cause::Cause, wrappings::without_url_escapes};
use crate::secret::{WebhookSecret, normalize};

/// The number of layers (quotes, white space and others) that are removed from a secret.
const MAX_LAYERS: usize = 4;

/// The longest configured secret that has variants, in bytes. Nobody pastes longer ones.
const MAX_LEN: usize = 4096;

/// The shortest variant, in bytes. An attacker could guess a shorter one and sign with it, and the log would then recommend it.
const MIN_LEN: usize = 8;

/// A secret that may be the right one, given the configured one.
pub(super) struct SecretVariant {
    /// The bytes of the secret. Its key is derived only when the variant is tried.
    pub(super) secret: Zeroizing<Vec<u8>>,
    /// The faults of the configured secret, the most informative one first.
    pub(super) causes: Vec<Cause>,
    pub(super) detail: &'static str,
}

/// A fault of the configured secret, and its description.
type SecretFault = (Cause, &'static str);

/// Returns the distinct variants of a configured secret, the most likely first.
///
/// Empty and blank secrets are left out, because anyone could sign with them.
pub(super) fn variants(configured: &[u8]) -> Vec<SecretVariant> {
    let mut found = VariantList { seen: vec![Zeroizing::new(configured.to_vec())], variants: Vec::new() };
    if configured.len() > MAX_LEN {
        return found.variants;
    }
    let layers = found.without_layers(configured);
    found.with_ends(configured, &ENDS[..LIKELY_ENDS]);
    // The configured text may be an encoding as a whole, too, for example one that was pasted with a newline.
    for (text, faults) in layers.iter().map(|(text, faults)| (&text[..], &faults[..])).chain([(configured, &[][..])]) {
        found.decoded(text, faults);
    }
    found.encoded(configured);
    found.with_ends(configured, &ENDS[LIKELY_ENDS..]);
    found.variants
}

/// Text that the right secret may have at its start and end, and that the configured one lacks.
const ENDS: [(&str, &str, Cause, &str); 16] = [
    ("", "\n", Cause::SecretWhiteSpace, "the right one ends in a line feed"),
    ("", "\r\n", Cause::SecretWhiteSpace, "the right one ends in CRLF"),
    ("\"", "\"", Cause::SecretQuoted, "the right one has double quotes around it"),
    ("", " ", Cause::SecretWhiteSpace, "the right one ends in a space"),
    ("'", "'", Cause::SecretQuoted, "the right one has single quotes around it"),
    ("", "\t", Cause::SecretWhiteSpace, "the right one ends in a tab"),
    (" ", "", Cause::SecretWhiteSpace, "the right one begins with a space"),
    ("\t", "", Cause::SecretWhiteSpace, "the right one begins with a tab"),
    ("\n", "", Cause::SecretWhiteSpace, "the right one begins with a line feed"),
    ("\r\n", "", Cause::SecretWhiteSpace, "the right one begins with CRLF"),
    (" ", " ", Cause::SecretWhiteSpace, "the right one has a space at both ends"),
    ("\u{feff}", "", Cause::SecretByteOrderMark, "the right one begins with a byte order mark"),
    (
        "\u{feff}",
        "\n",
        Cause::SecretByteOrderMark,
        "the right one begins with a byte order mark and ends in a line feed",
    ),
    ("\u{feff}", "\r\n", Cause::SecretByteOrderMark, "the right one begins with a byte order mark and ends in CRLF"),
    ("", "\\n", Cause::SecretEscaped, r"the right one ends in `\n`"),
    ("`", "`", Cause::SecretQuoted, "the right one has backticks around it"),
];

/// The number of entries at the start of [`ENDS`] that are tried before the encodings.
const LIKELY_ENDS: usize = 5;

/// The variants found so far.
struct VariantList {
    seen: Vec<Zeroizing<Vec<u8>>>,
    variants: Vec<SecretVariant>,
}

impl VariantList {
    /// Adds a variant if it is long enough and valid. Returns `false` if it is too short, known or not a valid secret.
    fn add(&mut self, bytes: Zeroizing<Vec<u8>>, faults: &[SecretFault]) -> bool {
        if bytes.len() < MIN_LEN || self.seen.contains(&bytes) {
            return false;
        }
        self.seen.push(bytes.clone());
        let (Ok(()), Some(most)) = (WebhookSecret::check(&bytes), most_telling(faults)) else { return false };
        let mut causes = vec![most.0];
        for (cause, _) in faults {
            if !causes.contains(cause) {
                causes.push(*cause);
            }
        }
        self.variants.push(SecretVariant { secret: bytes, causes, detail: most.1 });
        true
    }

    /// Removes layers around the configured secret, one after another. Returns each remaining text with the layers removed from it.
    fn without_layers(&mut self, configured: &[u8]) -> Vec<(Zeroizing<Vec<u8>>, Vec<SecretFault>)> {
        let mut texts = vec![(Zeroizing::new(configured.to_vec()), Vec::new())];
        let mut next = 0;
        for _ in 0..MAX_LAYERS {
            let end = texts.len();
            for at in next..end {
                let (text, outer) = texts[at].clone();
                for (inner, cause, detail) in LAYERS.iter().filter_map(|layer| layer(&text)) {
                    let inner = Zeroizing::new(inner.to_vec());
                    let faults = [&outer[..], &[(cause, detail)]].concat();
                    if self.add(inner.clone(), &faults) {
                        texts.push((inner, faults));
                    }
                }
            }
            next = end;
        }
        texts.split_off(1)
    }

    /// Adds the configured secret with each of these texts around it.
    fn with_ends(&mut self, configured: &[u8], ends: &[(&str, &str, Cause, &'static str)]) {
        for (start, end, cause, detail) in ends {
            let text = [start.as_bytes(), configured, end.as_bytes()].concat();
            self.add(Zeroizing::new(text), &[(*cause, detail)]);
        }
    }

    /// Decodes the configured secret, or what remains of it without the layers in `removed`.
    fn decoded(&mut self, text: &[u8], removed: &[SecretFault]) {
        let Ok(text) = str::from_utf8(text) else { return };
        let text = text.trim();
        let from_url = |plus| without_url_escapes(text.as_bytes(), plus).map(Zeroizing::new);
        let texts = [
            (from_hex(text), "hex"),
            (base64::decode(text), "base64"),
            (from_url(b'+'), "escaped for a URL"),
            (from_url(b' '), "escaped for a form"),
        ];
        for (bytes, encoding) in texts {
            let Some(bytes) = bytes else { continue };
            let faults = [removed, &[(Cause::SecretEncoded, encoding)]].concat();
            self.add(bytes.clone(), &faults);
            // `echo secret | base64` encodes the newline too.
            let line = bytes.trim_ascii_end();
            self.add(Zeroizing::new(line.to_vec()), &faults);
        }
    }

    /// Encodes the configured secret.
    fn encoded(&mut self, configured: &[u8]) {
        let line = Zeroizing::new([configured, b"\n"].concat());
        for bytes in [configured, &line] {
            let mut texts = vec![
                (hex(bytes, b"0123456789abcdef"), "hex"),
                (Base64::encode_string(bytes).into_bytes(), "base64"),
                (Base64Unpadded::encode_string(bytes).into_bytes(), "base64 without padding"),
                (Base64Url::encode_string(bytes).into_bytes(), "base64, safe for URLs"),
                (Base64UrlUnpadded::encode_string(bytes).into_bytes(), "base64, safe for URLs, without padding"),
            ];
            if bytes.len() == configured.len() {
                texts.push((url_escapes(bytes, b"%20"), "escaped for a URL"));
                texts.push((url_escapes(bytes, b"+"), "escaped for a form"));
                texts.push((hex(bytes, b"0123456789ABCDEF"), "hex, in upper case"));
            }
            for (text, encoding) in texts {
                self.add(Zeroizing::new(text), &[(Cause::SecretDecoded, encoding)]);
            }
        }
    }
}

/// Returns the fault that tells most about the origin of the text.
fn most_telling(faults: &[SecretFault]) -> Option<SecretFault> {
    let weight = |(cause, _): &&SecretFault| match cause {
        Cause::SecretEncoded => 5,
        Cause::SecretLine => 4,
        Cause::SecretQuoted => 3,
        Cause::SecretEscaped => 2,
        Cause::SecretByteOrderMark => 1,
        _ => 0,
    };
    // Among equals, the outermost.
    faults.iter().rev().max_by_key(weight).copied()
}

/// Removes one kind of layer from a text. Returns `None` if the text has no such layer.
type UndoLayer = fn(&[u8]) -> Option<(&[u8], Cause, &'static str)>;

const LAYERS: [UndoLayer; 9] = [newline, end, start, both, mark, quotes, escape, line, padding];

fn newline(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    let (inner, detail) = match text.strip_suffix(b"\n")? {
        [inner @ .., b'\r'] => (inner, "the configured one ends in CRLF"),
        inner => (inner, "the configured one ends in a line feed"),
    };
    Some((inner, Cause::SecretWhiteSpace, detail))
}

fn end(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    let inner = text.trim_ascii_end();
    (inner != text).then_some((inner, Cause::SecretWhiteSpace, "the configured one ends in white space"))
}

fn start(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    let inner = text.trim_ascii_start();
    (inner != text).then_some((inner, Cause::SecretWhiteSpace, "the configured one begins with white space"))
}

fn both(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    let inner = text.trim_ascii();
    (inner != text).then_some((inner, Cause::SecretWhiteSpace, "the configured one has white space at both ends"))
}

fn mark(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    let inner = text.strip_prefix("\u{feff}".as_bytes())?;
    Some((inner, Cause::SecretByteOrderMark, "the configured one begins with a byte order mark"))
}

fn quotes(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    let inner = normalize::without_quotes(str::from_utf8(text).ok()?)?;
    Some((inner.as_bytes(), Cause::SecretQuoted, "the configured one has them"))
}

fn escape(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    let inner = normalize::without_escape(str::from_utf8(text).ok()?)?;
    Some((inner.as_bytes(), Cause::SecretEscaped, "the configured one ends in them"))
}

fn line(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    let value = normalize::without_name(str::from_utf8(text).ok()?.trim_ascii_start())?;
    Some((value.as_bytes(), Cause::SecretLine, "what is behind the name is the secret"))
}

/// Removes white space outside of ASCII, and invisible characters.
fn padding(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    let text = str::from_utf8(text).ok()?;
    let inner = normalize::without_padding(text)?;
    let is_odd = inner.len() < text.trim_ascii().len() && !text.contains('\u{feff}');
    is_odd.then_some((
        inner.as_bytes(),
        Cause::SecretWhiteSpace,
        "the configured one has invisible characters at its start or end",
    ))
}

/// Encodes bytes as hex. The buffer has its full capacity from the start, because a buffer that grows leaves copies of the secret.
fn hex(bytes: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let mut text = Vec::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.extend([digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
    }
    text
}

/// Percent-encodes bytes, with `space` for a space. The buffer has its full capacity from the start.
fn url_escapes(bytes: &[u8], space: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(3 * bytes.len());
    for &byte in bytes {
        match byte {
            b' ' => text.extend(space),
            _ if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => text.push(byte),
            _ => {
                let digits = b"0123456789ABCDEF";
                text.extend([b'%', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
            }
        }
    }
    text
}

fn from_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    for pair in text.as_bytes().chunks(2) {
        let [high, low] = *pair else { return None };
        bytes.push(u8::try_from(value(high)? * 16 + value(low)?).ok()?);
    }
    Some(bytes)
}

//! What a configured secret may have been made of by whoever copied it.

use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding};
use zeroize::Zeroizing;

use super::cause::Cause;
use crate::secret::WebhookSecret;

/// How many layers of quotes, white space and the like are taken off.
const MAX_LAYERS: usize = 4;

/// Longer texts are not secrets that somebody pasted.
const MAX_LEN: usize = 4096;

/// What the right secret may be, given the configured one.
pub(super) struct Variant {
    pub(super) secret: WebhookSecret,
    pub(super) cause: Cause,
    pub(super) detail: &'static str,
}

/// The likeliest first, none twice. One that is empty or blank is never among them: anyone could sign with that.
pub(super) fn variants(configured: &[u8]) -> Vec<Variant> {
    let mut found = Found { seen: vec![Zeroizing::new(configured.to_vec())], variants: Vec::new() };
    if configured.len() > MAX_LEN {
        return found.variants;
    }
    let layers = found.without_layers(configured);
    found.with_ends(configured, &ENDS[..LIKELY_ENDS]);
    // A text that was pasted with a newline is still the text of something.
    for text in layers.iter().map(|text| &text[..]).chain([configured]) {
        found.decoded(text);
    }
    found.encoded(configured);
    found.with_ends(configured, &ENDS[LIKELY_ENDS..]);
    found.variants
}

/// What the right secret may have around it, that the configured one lacks.
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
    ("\u{feff}", "", Cause::SecretByteOrderMark, "the right one begins with one"),
    ("\u{feff}", "\n", Cause::SecretByteOrderMark, "the right one begins with one, and ends in a line feed"),
    ("\u{feff}", "\r\n", Cause::SecretByteOrderMark, "the right one begins with one, and ends in CRLF"),
    ("", "\\n", Cause::SecretEscaped, "the right one ends in them"),
    ("`", "`", Cause::SecretQuoted, "the right one has backticks around it"),
];

const LIKELY_ENDS: usize = 5;

struct Found {
    seen: Vec<Zeroizing<Vec<u8>>>,
    variants: Vec<Variant>,
}

impl Found {
    /// Whether it is new.
    fn add(&mut self, bytes: Zeroizing<Vec<u8>>, cause: Cause, detail: &'static str) -> bool {
        if self.seen.contains(&bytes) {
            return false;
        }
        let secret = WebhookSecret::new(&bytes);
        self.seen.push(bytes);
        let Ok(secret) = secret else { return false };
        self.variants.push(Variant { secret, cause, detail });
        true
    }

    /// Takes off what the configured one has too much, a layer at a time.
    fn without_layers(&mut self, configured: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
        let mut texts = vec![(Zeroizing::new(configured.to_vec()), None::<(Cause, &str)>)];
        let mut next = 0;
        for _ in 0..MAX_LAYERS {
            let end = texts.len();
            for at in next..end {
                let (text, outer) = (texts[at].0.clone(), texts[at].1);
                for (inner, cause, detail) in LAYERS.iter().filter_map(|layer| layer(&text)) {
                    // Of several layers the one that says most about where the text comes from is named.
                    let (cause, detail) = match outer {
                        Some(outer) if weight(outer.0) >= weight(cause) => outer,
                        _ => (cause, detail),
                    };
                    let inner = Zeroizing::new(inner.to_vec());
                    if self.add(inner.clone(), cause, detail) {
                        texts.push((inner, Some((cause, detail))));
                    }
                }
            }
            next = end;
        }
        texts.into_iter().skip(1).map(|(text, _)| text).collect()
    }

    fn with_ends(&mut self, configured: &[u8], ends: &[(&str, &str, Cause, &'static str)]) {
        for (start, end, cause, detail) in ends {
            let text = [start.as_bytes(), configured, end.as_bytes()].concat();
            self.add(Zeroizing::new(text), *cause, detail);
        }
    }

    /// The configured one is the text of the right one.
    fn decoded(&mut self, text: &[u8]) {
        let Ok(text) = str::from_utf8(text) else { return };
        let text = text.trim();
        let hex = from_hex(text).map(|bytes| (bytes, "hex"));
        let base64 =
            [Base64::decode_vec, Base64Unpadded::decode_vec, Base64Url::decode_vec, Base64UrlUnpadded::decode_vec]
                .iter()
                .find_map(|decode| decode(text).ok())
                .map(|bytes| (Zeroizing::new(bytes), "base64"));
        for (bytes, encoding) in hex.into_iter().chain(base64) {
            self.add(bytes.clone(), Cause::SecretEncoded, encoding);
            // `echo secret | base64` encodes a line.
            let line = bytes.trim_ascii_end();
            self.add(Zeroizing::new(line.to_vec()), Cause::SecretEncoded, encoding);
        }
    }

    /// The right one is the text of the configured one.
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
                texts.push((hex(bytes, b"0123456789ABCDEF"), "hex, in upper case"));
            }
            for (text, encoding) in texts {
                self.add(Zeroizing::new(text), Cause::SecretDecoded, encoding);
            }
        }
    }
}

fn weight(cause: Cause) -> u8 {
    match cause {
        Cause::SecretLine => 4,
        Cause::SecretQuoted => 3,
        Cause::SecretEscaped => 2,
        Cause::SecretByteOrderMark => 1,
        _ => 0,
    }
}

type Layer = fn(&[u8]) -> Option<(&[u8], Cause, &'static str)>;

const LAYERS: [Layer; 7] = [newline, end, start, both, mark, quotes_or_escape, line];

fn newline(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    let (inner, detail) = match text.strip_suffix(b"\n")? {
        [inner @ .., b'\r'] => (inner, "the configured one ends in CRLF"),
        inner => (inner, "the configured one ends in a line feed"),
    };
    Some((inner, Cause::SecretWhiteSpace, detail))
}

fn end(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    let inner = text.trim_ascii_end();
    (inner != text).then_some((inner, Cause::SecretWhiteSpace, "the configured one ends in it"))
}

fn start(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    let inner = text.trim_ascii_start();
    (inner != text).then_some((inner, Cause::SecretWhiteSpace, "the configured one begins with it"))
}

fn both(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    let inner = text.trim_ascii();
    (inner != text).then_some((inner, Cause::SecretWhiteSpace, "the configured one has it at both ends"))
}

fn mark(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    let inner = text.strip_prefix("\u{feff}".as_bytes())?;
    Some((inner, Cause::SecretByteOrderMark, "the configured one begins with one"))
}

fn quotes_or_escape(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    for (open, close) in [("\"", "\""), ("'", "'"), ("`", "`"), ("“", "”"), ("‘", "’")] {
        if let Some(inner) = text.strip_prefix(open.as_bytes()).and_then(|rest| rest.strip_suffix(close.as_bytes())) {
            return Some((inner, Cause::SecretQuoted, "the configured one has them"));
        }
    }
    let inner = text.strip_suffix(br"\n")?;
    Some((inner.strip_suffix(br"\r").unwrap_or(inner), Cause::SecretEscaped, "the configured one ends in them"))
}

fn line(text: &[u8]) -> Option<(&[u8], Cause, &'static str)> {
    let assignment = text.trim_ascii_start();
    let assignment = assignment.strip_prefix(b"export ").unwrap_or(assignment);
    let (name, value) = assignment.split_at(assignment.iter().position(|&byte| byte == b'=')?);
    let is_name = name.first().is_some_and(|first| first.is_ascii_alphabetic() || *first == b'_')
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    is_name.then_some((&value[1..], Cause::SecretLine, "NAME= is to be left out"))
}

fn hex(bytes: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
}

fn from_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| {
        let [high, low] = *pair else { return None };
        u8::try_from(value(high)? * 16 + value(low)?).ok()
    });
    bytes.collect::<Option<Vec<u8>>>().map(Zeroizing::new)
}

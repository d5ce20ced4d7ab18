//! Bodies that were wrapped as a whole in another encoding.

use std::borrow::Cow;

use serde::Deserialize;

use super::{base64, budget::SearchBudget};

/// The number of nested wrappings that are undone.
const MAX_DEPTH: usize = 3;

/// The shortest content of a wrapping, in bytes. klikit sends no shorter bodies.
const MIN_LEN: usize = 8;

/// An encoding of a whole body, and the function that undoes it.
struct Wrapping {
    name: &'static str,
    undo: fn(&[u8]) -> Option<Vec<u8>>,
}

const WRAPPINGS: [Wrapping; 6] = [
    Wrapping { name: "hex", undo: from_hex },
    Wrapping { name: "base64", undo: from_base64 },
    Wrapping { name: "a JSON string", undo: from_json_string },
    Wrapping { name: "percent-encoding, as in a URL", undo: |body| from_url(body, b'+') },
    Wrapping { name: "percent-encoding, as in a form", undo: |body| from_url(body, b' ') },
    Wrapping { name: "an API gateway's event with the body in `body`", undo: from_event },
];

/// The content of a wrapped body.
pub(super) struct UnwrappedBody {
    pub(super) body: Vec<u8>,
    /// The wrappings that were undone, innermost first.
    wrappings: Vec<&'static str>,
}

impl UnwrappedBody {
    /// Returns the wrappings as text, such as "base64, in a JSON string".
    pub(super) fn describe(&self) -> String {
        self.wrappings.join(", in ")
    }

    /// Returns whether the content can be a body of klikit's: text, or gzip.
    pub(super) fn is_plausible(&self) -> bool {
        str::from_utf8(&self.body).is_ok() || self.body.starts_with(&[0x1f, 0x8b])
    }
}

/// Unwraps a body in each way that its text allows, and returns the first result of `take`.
pub(super) fn find<T>(
    body: &[u8],
    budget: &mut SearchBudget,
    mut take: impl FnMut(&UnwrappedBody, &mut SearchBudget) -> Option<T>,
) -> Option<T> {
    let mut layer = vec![(Cow::Borrowed(body), Vec::new())];
    for _ in 0..MAX_DEPTH {
        let mut next = Vec::new();
        for (outer, outer_wrappings) in &layer {
            let text = outer.trim_ascii();
            if !budget.try_spend(cost(text)) {
                return None;
            }
            for Wrapping { name, undo } in &WRAPPINGS {
                let Some(body) = undo(text).filter(|body| body.len() >= MIN_LEN) else { continue };
                let inside = UnwrappedBody { body, wrappings: [&[*name], &outer_wrappings[..]].concat() };
                if let Some(found) = take(&inside, budget) {
                    return Some(found);
                }
                if inside.is_plausible() {
                    next.push((Cow::Owned(inside.body), inside.wrappings));
                }
            }
        }
        layer = next;
    }
    None
}

/// Returns how many bytes all ways of unwrapping read and write together. The first byte rules most of them out.
fn cost(text: &[u8]) -> usize {
    match text.first() {
        None => 0,
        // The text is searched for the member's name.
        Some(b'{') => text.len(),
        Some(b'"') => 2 * text.len(),
        // Base64 is tried in four variants.
        _ => 8 * text.len(),
    }
}

/// Decodes base64 in either alphabet, with or without padding and line breaks, and as a `data:` URL.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(text).ok()?;
    let text = match text.strip_prefix("data:") {
        Some(url) => url.split_once(";base64,")?.1,
        None => text,
    };
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=\r\n".contains(&byte);
    if !text.bytes().all(is_base64) {
        return None;
    }
    base64::decode(&text.replace(['\r', '\n'], "")).map(|bytes| bytes.to_vec())
}

/// Decodes hex in either case, also with the prefixes of Postgres (`\x`) and C (`0x`).
fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(br"\x").or_else(|| text.strip_prefix(b"0x")).unwrap_or(text);
    if digits.first()?.is_ascii_hexdigit() { hex::decode(digits).ok() } else { None }
}

fn from_json_string(text: &[u8]) -> Option<Vec<u8>> {
    if text.first()? != &b'"' {
        return None;
    }
    serde_json::from_slice(text).ok().map(String::into_bytes)
}

/// Decodes percent-encoding, of the whole text or of the only value of a form. `plus` is the byte that a plus sign stands for.
fn from_url(text: &[u8], plus: u8) -> Option<Vec<u8>> {
    // Text that begins like JSON is not percent-encoded as a whole.
    if matches!(text.first()?, b'{' | b'[' | b'"') || (plus != b'+' && !text.contains(&b'+')) {
        return None;
    }
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    let value = match text.iter().position(|&byte| byte == b'=') {
        Some(at) if text[..at].iter().all(is_name) => &text[at + 1..],
        _ => text.strip_suffix(b"=").unwrap_or(text),
    };
    let decoded = without_url_escapes(value, plus)?;
    matches!(decoded.first()?, b'{' | b'[').then_some(decoded)
}

/// Undoes percent-encoding. Returns `None` if nothing is escaped, or if an escape is malformed.
pub(super) fn without_url_escapes(text: &[u8], plus: u8) -> Option<Vec<u8>> {
    // Full capacity from the start, because a buffer that grows leaves copies of a secret.
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        decoded.push(match byte {
            b'%' => {
                let (digits, after) = after.split_at_checked(2)?;
                rest = after;
                let value = |digit: u8| char::from(digit).to_digit(16);
                u8::try_from(16 * value(digits[0])? + value(digits[1])?).ok()?
            }
            b'+' => plus,
            other => other,
        });
    }
    (decoded != text).then_some(decoded)
}

/// Reads the body from an event that AWS API Gateway passes to a function.
fn from_event(text: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Event {
        body: String,
    }
    if text.first()? != &b'{' || !text.windows(6).any(|window| window == b"\"body\"") {
        return None;
    }
    serde_json::from_slice(text).ok().map(|Event { body }| body.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"brand_id":1,"a":"b c+d%ü"}"#;

    /// Returns the description of the wrappings around [`BODY`].
    fn unwrapped(text: &[u8]) -> Option<String> {
        let mut budget = SearchBudget::for_body(1000);
        find(text, &mut budget, |inside, _| (inside.body == BODY.as_bytes()).then(|| inside.describe()))
    }

    #[test]
    fn undoes_each_wrapping() {
        let base64 = "eyJicmFuZF9pZCI6MSwiYSI6ImIgYytkJcO8In0=";
        let url = "%7B%22brand_id%22%3A1%2C%22a%22%3A%22b%20c%2Bd%25%C3%BC%22%7D";
        let form = url.replace("%20", "+").replace("%7B", "%7b");
        let in_lines = format!("{}\r\n{}\n", &base64[..20], &base64[20..]);
        let hex = hex::encode(BODY);
        let string = serde_json::to_string(BODY).unwrap();
        let (as_url, as_form) = ("percent-encoding, as in a URL", "percent-encoding, as in a form");
        let event = "an API gateway's event with the body in `body`";
        for (text, name) in [
            (base64.to_owned(), "base64"),
            (base64.trim_end_matches('=').to_owned(), "base64"),
            (format!(" {base64}\n"), "base64"),
            (in_lines, "base64"),
            (format!("data:application/json;base64,{base64}"), "base64"),
            (hex.clone(), "hex"),
            (hex.to_uppercase(), "hex"),
            (format!(r"\x{hex}"), "hex"),
            (format!("0x{hex}"), "hex"),
            (string.clone(), "a JSON string"),
            (url.to_owned(), as_url),
            (format!("{url}="), as_url),
            (format!("payload={url}"), as_url),
            (form.clone(), as_form),
            (format!("payload={form}"), as_form),
            (format!(r#"{{"headers":{{}},"body":{string},"isBase64Encoded":false}}"#), event),
            (format!(r#"{{"body":"{base64}","isBase64Encoded":true}}"#), &format!("base64, in {event}")),
            (format!("\"{base64}\""), "base64, in a JSON string"),
            (hex::encode(format!("\"{base64}\"")), "base64, in a JSON string, in hex"),
        ] {
            assert_eq!(unwrapped(text.as_bytes()).as_deref(), Some(name), "{text}");
        }
    }

    #[test]
    fn leaves_other_texts_alone() {
        for text in
            [BODY, "", "\"", "\"{", "{}", "{\"body\":null}", "{\"body\":{}}", "%7", "%zz", "7b2", "a=b", "payload="]
        {
            let mut budget = SearchBudget::for_body(1000);
            let found = find(text.as_bytes(), &mut budget, |inside, _| Some(inside.body.clone()));
            assert_eq!(found, None, "{text}");
        }
    }

    #[test]
    fn nested_wrappings_are_bounded() {
        let mut text = BODY.to_owned();
        for _ in 0..MAX_DEPTH {
            text = hex::encode(text);
        }
        assert_eq!(unwrapped(text.as_bytes()).as_deref(), Some("hex, in hex, in hex"));
        assert_eq!(unwrapped(hex::encode(text).as_bytes()), None);
    }
}

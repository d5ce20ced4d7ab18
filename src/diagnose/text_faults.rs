//! Changes to a body that was treated as text.

use super::{budget::SearchBudget, cause::Cause};

pub(super) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The factor by which undoing a fault can lengthen a body: windows-1252 has characters of three bytes in UTF-8.
const MAX_GROWTH: usize = 3;

/// A change to the text of a body, and the function that undoes it.
pub(super) struct TextFault {
    pub(super) cause: Cause,
    pub(super) detail: &'static str,
    undo: fn(&[u8]) -> Option<Vec<u8>>,
}

impl TextFault {
    const fn new(cause: Cause, detail: &'static str, undo: fn(&[u8]) -> Option<Vec<u8>>) -> Self {
        Self { cause, detail, undo }
    }

    /// Returns the body before the change. `None` if the body does not show this change, or if the budget is too small.
    pub(super) fn undo(&self, body: &[u8], budget: &mut SearchBudget) -> Option<Vec<u8>> {
        if budget.remaining() < MAX_GROWTH * (body.len() + BYTE_ORDER_MARK.len()) {
            budget.mark_cut_short();
            return None;
        }
        let text = (self.undo)(body)?;
        budget.charge(text.len());
        Some(text)
    }
}

pub(super) const TEXT_FAULTS: [TextFault; 11] = [
    TextFault::new(Cause::BodyFinalNewline, "a line feed was added", |body| Some(body.strip_suffix(b"\n")?.to_vec())),
    TextFault::new(Cause::BodyFinalNewline, "CRLF was added", |body| Some(body.strip_suffix(b"\r\n")?.to_vec())),
    TextFault::new(Cause::BodyFinalNewline, "a line feed was removed", |body| Some([body, b"\n"].concat())),
    TextFault::new(Cause::BodyFinalNewline, "CRLF was removed", |body| Some([body, b"\r\n"].concat())),
    TextFault::new(Cause::BodyByteOrderMark, "a byte order mark was added", |body| {
        Some(body.strip_prefix(BYTE_ORDER_MARK)?.to_vec())
    }),
    TextFault::new(Cause::BodyByteOrderMark, "a byte order mark was removed", |body| {
        Some([BYTE_ORDER_MARK, body].concat())
    }),
    TextFault::new(Cause::BodyLineEndings, "line feeds became CRLF", without_carriage_returns),
    TextFault::new(Cause::BodyLineEndings, "CRLF became line feeds", with_carriage_returns),
    TextFault::new(Cause::BodyLatin1, "each character beyond ASCII is one byte", from_latin1),
    TextFault::new(Cause::BodyLatin1, "windows-1252, with one byte for each character", from_windows_1252),
    TextFault::new(Cause::BodyEncodedTwice, "it was read as Latin-1 or windows-1252", encoded_once),
];

fn without_carriage_returns(body: &[u8]) -> Option<Vec<u8>> {
    if !body.windows(2).any(|pair| pair == b"\r\n") {
        return None;
    }
    let followed = body.iter().skip(1).chain([&0]);
    Some(body.iter().zip(followed).filter(|pair| *pair != (&b'\r', &b'\n')).map(|(&byte, _)| byte).collect())
}

/// Changes line feeds to CRLF. `None` if the body has no line feed, or has a carriage return already.
fn with_carriage_returns(body: &[u8]) -> Option<Vec<u8>> {
    if !body.contains(&b'\n') || body.contains(&b'\r') {
        return None;
    }
    let mut text = Vec::with_capacity(body.len() + body.len() / 8);
    for &byte in body {
        if byte == b'\n' {
            text.push(b'\r');
        }
        text.push(byte);
    }
    Some(text)
}

/// The characters that windows-1252 has instead of Latin-1's second set of control characters ("Encoding", WHATWG).
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

fn from_latin1(body: &[u8]) -> Option<Vec<u8>> {
    if body.is_ascii() {
        return None;
    }
    Some(body.iter().map(|&byte| char::from(byte)).collect::<String>().into_bytes())
}

fn from_windows_1252(body: &[u8]) -> Option<Vec<u8>> {
    if !body.iter().any(|byte| (0x80..0xa0).contains(byte)) {
        // Such a body is Latin-1, which is tried separately.
        return None;
    }
    let char_of = |&byte: &u8| match byte {
        0x80..0xa0 => WINDOWS_1252[usize::from(byte - 0x80)],
        _ => char::from(byte),
    };
    Some(body.iter().map(char_of).collect::<String>().into_bytes())
}

/// Turns each character into one byte, which undoes a second UTF-8 encoding.
fn encoded_once(body: &[u8]) -> Option<Vec<u8>> {
    if body.is_ascii() {
        return None;
    }
    let byte_of = |char: char| {
        let high = |char| WINDOWS_1252.iter().position(|&other| other == char).map(|at| at + 0x80);
        u8::try_from(u32::from(char)).ok().or_else(|| high(char)?.try_into().ok())
    };
    str::from_utf8(body).ok()?.chars().map(byte_of).collect()
}

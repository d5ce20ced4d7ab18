//! What a body may have been before somebody treated it as text.

use super::{budget::SearchBudget, cause::Cause};

pub(super) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// No step makes a body longer than so many times: windows-1252 has characters of three bytes in UTF-8.
const GROWTH: usize = 3;

/// A fault, and how to undo it.
pub(super) struct TextFault {
    pub(super) cause: Cause,
    pub(super) detail: &'static str,
    undo: fn(&[u8]) -> Option<Vec<u8>>,
}

impl TextFault {
    const fn new(cause: Cause, detail: &'static str, undo: fn(&[u8]) -> Option<Vec<u8>>) -> Self {
        Self { cause, detail, undo }
    }

    /// What this body may have been made of. `None` also when it would cost too much.
    pub(super) fn earlier(&self, body: &[u8], budget: &mut SearchBudget) -> Option<Vec<u8>> {
        if budget.remaining() < GROWTH * (body.len() + BYTE_ORDER_MARK.len()) {
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
    TextFault::new(Cause::BodyByteOrderMark, "one was added", |body| {
        Some(body.strip_prefix(BYTE_ORDER_MARK)?.to_vec())
    }),
    TextFault::new(Cause::BodyByteOrderMark, "one was removed", |body| Some([BYTE_ORDER_MARK, body].concat())),
    TextFault::new(Cause::BodyLineEndings, "line feeds became CRLF", without_carriage_returns),
    TextFault::new(Cause::BodyLineEndings, "CRLF became line feeds", with_carriage_returns),
    TextFault::new(Cause::BodyLatin1, "its bytes beyond ASCII are one for each character", from_latin1),
    TextFault::new(Cause::BodyLatin1, "windows-1252, of one byte for each character", from_windows_1252),
    TextFault::new(Cause::BodyEncodedTwice, "it was taken for Latin-1 or windows-1252", encoded_once),
];

fn without_carriage_returns(body: &[u8]) -> Option<Vec<u8>> {
    if !body.windows(2).any(|pair| pair == b"\r\n") {
        return None;
    }
    let followed = body.iter().skip(1).chain([&0]);
    Some(body.iter().zip(followed).filter(|pair| *pair != (&b'\r', &b'\n')).map(|(&byte, _)| byte).collect())
}

/// Of a body with line feeds alone.
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

/// The characters that windows-1252 has in place of Latin-1's second set of controls ("Encoding", WHATWG).
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
        // Then it is the same as Latin-1.
        return None;
    }
    let char_of = |&byte: &u8| match byte {
        0x80..0xa0 => WINDOWS_1252[usize::from(byte - 0x80)],
        _ => char::from(byte),
    };
    Some(body.iter().map(char_of).collect::<String>().into_bytes())
}

/// Each character stands for a byte.
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

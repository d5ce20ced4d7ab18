use std::hash::{DefaultHasher, Hasher};

use crate::{
    diagnose::budget::SearchBudget,
    json::{JsonPiece, JsonTree, StringUnit, pieces},
};

/// A way in which the original's strings may have been escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StringStyle {
    /// As received.
    Received,
    /// Only what JSON requires: JavaScript, Rust, Jackson, Python with `ensure_ascii=False`.
    Raw,
    /// Go: escapes `<`, `>`, `&`, U+2028 and U+2029 too.
    Go,
    /// Python: escapes all characters outside of ASCII, in lower case.
    Ascii,
    /// PHP: escapes all characters outside of ASCII, in lower case, and slashes.
    Php,
    /// PHP with `JSON_UNESCAPED_UNICODE`: escapes slashes, U+2028 and U+2029.
    PhpUnicode,
    /// .NET's `System.Text.Json`: escapes all characters outside of ASCII, in upper case, and those that are special in HTML.
    DotNet,
}

impl StringStyle {
    const ALL: [Self; 7] =
        [Self::Received, Self::Raw, Self::Go, Self::Ascii, Self::Php, Self::PhpUnicode, Self::DotNet];

    pub(super) fn describe(self) -> Option<&'static str> {
        match self {
            Self::Received => None,
            Self::Raw => Some("with as few characters escaped as JSON allows"),
            Self::Go => Some("with characters escaped as Go does"),
            Self::Ascii => Some("with characters outside of ASCII escaped, as Python does"),
            Self::Php => Some("with slashes and characters outside of ASCII escaped, as PHP does"),
            Self::PhpUnicode => Some("with slashes escaped, as PHP does with JSON_UNESCAPED_UNICODE"),
            Self::DotNet => Some("with characters escaped as .NET does"),
        }
    }

    pub(super) fn unlikelihood(self) -> u8 {
        match self {
            Self::Received => 0,
            Self::Raw | Self::Go => 1,
            Self::Ascii | Self::Php => 2,
            Self::PhpUnicode | Self::DotNet => 3,
        }
    }

    /// Returns the styles that give different texts.
    pub(super) fn distinct(tree: &JsonTree<'_>, budget: &mut SearchBudget) -> Vec<Self> {
        let mut different = Vec::new();
        let mut seen = Vec::new();
        let mut text = Vec::new();
        for style in Self::ALL {
            let mut hasher = DefaultHasher::new();
            for piece in pieces(tree.text) {
                if let JsonPiece::String(string) = piece {
                    text.clear();
                    style.write(string, budget.remaining(), &mut text);
                    if !budget.charge(text.len()) {
                        return different;
                    }
                    hasher.write(&text);
                }
            }
            let print = hasher.finish();
            if !seen.contains(&print) {
                seen.push(print);
                different.push(style);
            }
        }
        different
    }

    /// Writes a string, which includes its quotes, in this style. Stops soon after `limit` bytes.
    pub(super) fn write(self, string: &str, limit: usize, out: &mut Vec<u8>) {
        let inner = string.strip_prefix('"').and_then(|string| string.strip_suffix('"'));
        let (Some(inner), false) = (inner, self == Self::Received) else {
            out.extend_from_slice(string.as_bytes());
            return;
        };
        out.push(b'"');
        let mut rest = inner;
        while !rest.is_empty() && out.len() <= limit {
            let plain = rest.bytes().position(|byte| !self.keeps(byte)).unwrap_or(rest.len());
            out.extend_from_slice(&rest.as_bytes()[..plain]);
            rest = &rest[plain..];
            if let Some((unit, len)) = StringUnit::first(rest) {
                self.write_unit(unit, out);
                rest = &rest[len..];
            }
        }
        out.push(b'"');
    }

    /// Returns whether this byte is always written unescaped.
    fn keeps(self, byte: u8) -> bool {
        match byte {
            b'\\' | b'"' | 0..0x20 | 0x7f.. => false,
            b'/' => !matches!(self, Self::Php | Self::PhpUnicode),
            b'<' | b'>' | b'&' => !matches!(self, Self::Go | Self::DotNet),
            b'\'' | b'+' | b'`' => self != Self::DotNet,
            _ => true,
        }
    }

    /// Writes one character, escaped if this style escapes it.
    fn write_unit(self, unit: StringUnit, out: &mut Vec<u8>) {
        let char = match unit {
            StringUnit::Char(char) => char,
            StringUnit::Surrogate(half) => return self.write_code(half, out),
        };
        let short = match char {
            '"' if self != Self::DotNet => Some(b'"'),
            '\\' => Some(b'\\'),
            '\n' => Some(b'n'),
            '\r' => Some(b'r'),
            '\t' => Some(b't'),
            '\u{8}' => Some(b'b'),
            '\u{c}' => Some(b'f'),
            '/' if matches!(self, Self::Php | Self::PhpUnicode) => Some(b'/'),
            _ => None,
        };
        if let Some(letter) = short {
            out.extend_from_slice(&[b'\\', letter]);
        } else if self.escapes(char) {
            char.encode_utf16(&mut [0; 2]).iter().for_each(|&half| self.write_code(half, out));
        } else {
            out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    /// Returns whether a character without a short escape is written as `\uXXXX`.
    fn escapes(self, char: char) -> bool {
        match char {
            '\0'..' ' => true,
            '"' | '\'' | '+' | '`' => self == Self::DotNet,
            '<' | '>' | '&' => matches!(self, Self::Go | Self::DotNet),
            '\u{7f}' => matches!(self, Self::Ascii | Self::DotNet),
            '\u{2028}' | '\u{2029}' => self != Self::Raw,
            '\u{80}'.. => matches!(self, Self::Ascii | Self::Php | Self::DotNet),
            _ => false,
        }
    }

    /// Writes a UTF-16 code unit as `\uXXXX`.
    fn write_code(self, half: u16, out: &mut Vec<u8>) {
        let digits = if self == Self::DotNet { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
        out.extend_from_slice(b"\\u");
        out.extend([12, 8, 4, 0].map(|shift| digits[usize::from(half >> shift & 15)]));
    }
}

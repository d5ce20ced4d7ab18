use std::{borrow::Cow, cmp::Ordering};

/// A string as written in a document, without its quotes. Its escapes are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JsonString<'a>(&'a [u8]);

/// A character of a string, or half of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StringUnit {
    Char(char),
    /// Half of a UTF-16 surrogate pair without the other half. JSON can express it, UTF-8 cannot.
    Surrogate(u16),
}

impl<'a> JsonString<'a> {
    pub(crate) fn new(written: &'a [u8]) -> Self {
        Self(written)
    }

    /// Returns the value. `None` if it is not Unicode: it has bytes that are not UTF-8, or half of a surrogate pair.
    pub(crate) fn decode(self) -> Option<Cow<'a, str>> {
        Some(match self.to_bytes() {
            Cow::Borrowed(bytes) => str::from_utf8(bytes).ok()?.into(),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok()?.into(),
        })
    }

    /// Returns the value as bytes, for any string: characters as UTF-8, half of a surrogate pair as if it were a character (WTF-8),
    /// and invalid bytes unchanged. Two strings have the same bytes only if they have the same value.
    pub(crate) fn to_bytes(self) -> Cow<'a, [u8]> {
        if self.0.contains(&b'\\') { self.bytes().collect::<Vec<_>>().into() } else { self.0.into() }
    }

    /// Returns whether the value is this text.
    pub(crate) fn is(self, text: &str) -> bool {
        self.bytes().eq(text.bytes())
    }

    /// Compares the values by their [bytes](Self::to_bytes). Stops at the first difference.
    pub(crate) fn cmp_value(self, other: Self) -> Ordering {
        self.bytes().cmp(other.bytes())
    }

    fn bytes(self) -> StringBytes<'a> {
        StringBytes { rest: self.0, escaped: [0; 4], left: 0 }
    }
}

/// An iterator over the bytes of a string's value.
struct StringBytes<'a> {
    rest: &'a [u8],
    /// The bytes of the last escape, at the end of the array.
    escaped: [u8; 4],
    /// The number of bytes in `escaped` that were not returned yet.
    left: usize,
}

impl Iterator for StringBytes<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.left == 0 {
            let (&first, rest) = self.rest.split_first()?;
            if first != b'\\' {
                self.rest = rest;
                return Some(first);
            }
            let (unit, len) = StringUnit::escaped(self.rest);
            self.rest = &self.rest[len..];
            self.left = unit.encode(&mut self.escaped);
        }
        let byte = self.escaped[self.escaped.len() - self.left];
        self.left -= 1;
        Some(byte)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // An escape of six bytes can stand for one byte.
        (self.left + self.rest.len() / 6, Some(self.left + self.rest.len()))
    }
}

impl StringUnit {
    /// Reads the first unit of a string, and returns its length in the text. `None` at the end.
    pub(crate) fn first(text: &str) -> Option<(Self, usize)> {
        match text.chars().next()? {
            '\\' => Some(Self::escaped(text.as_bytes())),
            char => Some((Self::Char(char), char.len_utf8())),
        }
    }

    /// Reads the escape at the start, and returns its length.
    fn escaped(text: &[u8]) -> (Self, usize) {
        let meaning = match text.get(1) {
            Some(b'u') => return Self::unicode_escape(text),
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            // A quote, a backslash or a slash.
            Some(&other) => char::from(other),
            None => return (Self::Char('\\'), text.len()),
        };
        (Self::Char(meaning), 2)
    }

    /// Reads one `\uXXXX` at the start, or two that form a surrogate pair.
    fn unicode_escape(text: &[u8]) -> (Self, usize) {
        let Some(high) = code(text) else { return (Self::Char('\\'), 1) };
        if let Some(char) = char::from_u32(high.into()) {
            return (Self::Char(char), 6);
        }
        let low = text.get(6..).and_then(code);
        match low.and_then(|low| char::decode_utf16([high, low]).next()?.ok()) {
            Some(char) => (Self::Char(char), 12),
            None => (Self::Surrogate(high), 6),
        }
    }

    /// Writes the unit to the end of the buffer and returns its length.
    fn encode(self, buffer: &mut [u8; 4]) -> usize {
        let len = match self {
            Self::Char(char) => char.encode_utf8(buffer).len(),
            Self::Surrogate(half) => {
                let [high, low] = half.to_be_bytes();
                buffer[..3].copy_from_slice(&[
                    0xe0 | (high >> 4),
                    0x80 | ((high & 0xf) << 2) | (low >> 6),
                    0x80 | (low & 0x3f),
                ]);
                3
            }
        };
        buffer.rotate_left(len);
        len
    }
}

/// Reads the number in the `\uXXXX` at the start.
fn code(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(written: &str) -> JsonString<'_> {
        JsonString::new(written.as_bytes())
    }

    /// Returns the value according to serde_json, which reads byte strings as WTF-8.
    fn expected(written: &str) -> Vec<u8> {
        struct Bytes;

        impl serde::de::Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }

        let quoted = format!("\"{written}\"");
        serde::Deserializer::deserialize_bytes(&mut serde_json::Deserializer::from_str(&quoted), Bytes).unwrap()
    }

    #[test]
    fn escapes_do_not_matter() {
        for written in [r"A\/b", r"\u0041\u002f\u0062", r"A/\u0062"] {
            assert_eq!(text(written).decode().as_deref(), Some("A/b"));
            assert!(text(written).is("A/b") && !text(written).is("A/c") && !text(written).is("A/bb"));
        }
        assert_eq!(text(r#"\"\\\n\r\t\b\f\ud83D\uDe00é"#).decode().as_deref(), Some("\"\\\n\r\t\u{8}\u{c}😀é"));
        assert_eq!(text(r"b").cmp_value(text(r"\u0061")), Ordering::Greater);
    }

    #[test]
    fn string_without_escapes_is_not_copied() {
        assert!(matches!(text("abc").to_bytes(), Cow::Borrowed(_)));
    }

    #[test]
    fn lone_surrogates_are_not_unicode() {
        for written in
            [r"\ud83d", r"\ude00", r"\ud83dx", r"\ud83d\ud83d\ude00", r"\ude00\ud83d", r"\ud83d\n", r"x\ud83d"]
        {
            assert_eq!(text(written).decode(), None, "{written}");
            assert_eq!(*text(written).to_bytes(), *expected(written), "{written}");
        }
        assert_eq!(JsonString::new(b"\xff").decode(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn bytes_are_those_of_serde_json(written in r#"([a-zé😀]|\\["\\/bfnrt]|\\u(d8|dC|00)[0-9a-fA-F]{2}){0,8}"#) {
            prop_assert_eq!(&*text(&written).to_bytes(), &*expected(&written));
        }
    }
}

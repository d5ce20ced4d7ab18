use std::ops::Range;

use super::string::JsonString;

/// An iterator over the tokens of a JSON text that checks the syntax (RFC 8259).
///
/// Strings may contain bytes that are not UTF-8; [`JsonString::decode`] checks that. The iterator ends after the first error.
pub(crate) struct JsonReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The start of the last token.
    start: usize,
    open: Vec<Container>,
    state: GrammarState,
    has_failed: bool,
}

/// A token of a JSON text. There are no tokens for commas and colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonToken<'a> {
    /// The opening bracket.
    Begin(Container),
    /// The closing bracket.
    End,
    /// The name of the member whose value follows.
    Name(JsonString<'a>),
    String(JsonString<'a>),
    /// A number as written.
    Number(&'a [u8]),
    /// `true`, `false` or `null`.
    Literal(&'a [u8]),
}

/// The type of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    Object,
    Array,
}

/// The error for a text that is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotJson;

/// The token that the grammar allows next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GrammarState {
    Value,
    /// Right after `[`.
    ValueOrEnd,
    Name,
    /// Right after `{`.
    NameOrEnd,
    Colon,
    CommaOrEnd,
    /// Only white space until the end.
    EndOfText,
}

impl<'a> JsonReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, start: 0, open: Vec::new(), state: GrammarState::Value, has_failed: false }
    }

    /// Returns the number of containers that are open after the last token.
    pub(crate) fn depth(&self) -> usize {
        self.open.len()
    }

    /// Returns the place of the last token in the text, with the quotes of a string.
    pub(crate) fn span(&self) -> Range<usize> {
        self.start..self.at
    }

    fn read(&mut self) -> Result<Option<JsonToken<'a>>, NotJson> {
        self.skip_white_space();
        let next = match (self.state, self.peek()) {
            (GrammarState::Colon, Some(b':')) => Some(GrammarState::Value),
            (GrammarState::CommaOrEnd, Some(b',')) if self.open.last() == Some(&Container::Object) => {
                Some(GrammarState::Name)
            }
            (GrammarState::CommaOrEnd, Some(b',')) => Some(GrammarState::Value),
            _ => None,
        };
        if let Some(next) = next {
            self.state = next;
            self.at += 1;
            self.skip_white_space();
        }
        self.start = self.at;
        let Some(byte) = self.peek() else {
            return if self.state == GrammarState::EndOfText { Ok(None) } else { Err(NotJson) };
        };
        match (self.state, byte) {
            (GrammarState::NameOrEnd | GrammarState::CommaOrEnd, b'}') => self.end(Container::Object),
            (GrammarState::ValueOrEnd | GrammarState::CommaOrEnd, b']') => self.end(Container::Array),
            (GrammarState::Name | GrammarState::NameOrEnd, b'"') => self.name(),
            (GrammarState::Value | GrammarState::ValueOrEnd, _) => self.value(byte),
            _ => Err(NotJson),
        }
        .map(Some)
    }

    fn end(&mut self, container: Container) -> Result<JsonToken<'a>, NotJson> {
        if self.open.pop() != Some(container) {
            return Err(NotJson);
        }
        self.at += 1;
        self.after_value();
        Ok(JsonToken::End)
    }

    fn name(&mut self) -> Result<JsonToken<'a>, NotJson> {
        let name = self.string()?;
        self.state = GrammarState::Colon;
        Ok(JsonToken::Name(name))
    }

    fn value(&mut self, first: u8) -> Result<JsonToken<'a>, NotJson> {
        let token = match first {
            b'{' => return Ok(self.begin(Container::Object)),
            b'[' => return Ok(self.begin(Container::Array)),
            b'"' => JsonToken::String(self.string()?),
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => self.literal(b"null")?,
            _ => self.number()?,
        };
        self.after_value();
        Ok(token)
    }

    fn begin(&mut self, container: Container) -> JsonToken<'a> {
        self.at += 1;
        self.open.push(container);
        self.state = if container == Container::Object { GrammarState::NameOrEnd } else { GrammarState::ValueOrEnd };
        JsonToken::Begin(container)
    }

    fn after_value(&mut self) {
        self.state = if self.open.is_empty() { GrammarState::EndOfText } else { GrammarState::CommaOrEnd };
    }

    fn string(&mut self) -> Result<JsonString<'a>, NotJson> {
        let inner = self.at + 1;
        self.at = inner;
        loop {
            self.at += plain_length(&self.bytes[self.at..]);
            match self.peek().ok_or(NotJson)? {
                b'"' => break,
                b'\\' => self.escape()?,
                _ => return Err(NotJson),
            }
        }
        self.at += 1;
        Ok(JsonString::new(&self.bytes[inner..self.at - 1]))
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        let rest = &self.bytes[self.at..];
        self.at += match rest.get(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if rest.get(2..6).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) => 6,
            _ => return Err(NotJson),
        };
        Ok(())
    }

    fn literal(&mut self, literal: &'static [u8]) -> Result<JsonToken<'a>, NotJson> {
        if !self.bytes[self.at..].starts_with(literal) {
            return Err(NotJson);
        }
        self.at += literal.len();
        Ok(JsonToken::Literal(literal))
    }

    fn number(&mut self) -> Result<JsonToken<'a>, NotJson> {
        self.skip_if(b"-");
        if !self.skip_if(b"0") {
            self.digits()?;
        }
        if self.skip_if(b".") {
            self.digits()?;
        }
        if self.skip_if(b"eE") {
            self.skip_if(b"+-");
            self.digits()?;
        }
        Ok(JsonToken::Number(&self.bytes[self.start..self.at]))
    }

    /// Skips one or more digits.
    fn digits(&mut self) -> Result<(), NotJson> {
        let rest = &self.bytes[self.at..];
        let count = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.at += count;
        if count == 0 { Err(NotJson) } else { Ok(()) }
    }

    fn skip_if(&mut self, any_of: &[u8]) -> bool {
        let is_there = self.peek().is_some_and(|byte| any_of.contains(&byte));
        self.at += usize::from(is_there);
        is_there
    }

    fn skip_white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

impl<'a> Iterator for JsonReader<'a> {
    type Item = Result<JsonToken<'a>, NotJson>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let token = self.read();
        self.has_failed = token.is_err();
        token.transpose()
    }
}

/// Returns the number of bytes before the first one that ends a string, begins an escape, or may not be in a string.
fn plain_length(bytes: &[u8]) -> usize {
    const CHUNK: usize = 32;
    let is_special = |byte: u8| (byte == b'"') | (byte == b'\\') | (byte < 0x20);
    // Without a branch for each byte, so that the compiler turns this into vector instructions.
    let is_plain = |chunk: &&[u8]| chunk.iter().fold(0, |found, &byte| found | u8::from(is_special(byte))) == 0;
    let plain = bytes.chunks_exact(CHUNK).take_while(is_plain).count() * CHUNK;
    let rest = &bytes[plain..];
    plain + rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn is_json(text: &str) -> bool {
        JsonReader::new(text.as_bytes()).all(|token| token.is_ok())
    }

    fn text(text: &str) -> JsonString<'_> {
        JsonString::new(text.as_bytes())
    }

    #[test]
    fn reads_tokens_in_order() {
        let json = r#" {"a" : [1.5e3, "x\"y", {}] , "b\u0063":null} "#;
        let mut reader = JsonReader::new(json.as_bytes());
        let mut read = Vec::new();
        while let Some(token) = reader.next() {
            read.push((token.unwrap(), &json[reader.span()], reader.depth()));
        }
        assert_eq!(
            read,
            [
                (JsonToken::Begin(Container::Object), "{", 1),
                (JsonToken::Name(text("a")), "\"a\"", 1),
                (JsonToken::Begin(Container::Array), "[", 2),
                (JsonToken::Number(b"1.5e3"), "1.5e3", 2),
                (JsonToken::String(text(r#"x\"y"#)), r#""x\"y""#, 2),
                (JsonToken::Begin(Container::Object), "{", 3),
                (JsonToken::End, "}", 2),
                (JsonToken::End, "]", 1),
                (JsonToken::Name(text(r"b\u0063")), r#""b\u0063""#, 1),
                (JsonToken::Literal(b"null"), "null", 1),
                (JsonToken::End, "}", 0),
            ]
        );
    }

    #[test]
    fn stops_at_first_error() {
        let mut reader = JsonReader::new(b"[1,}2]");
        assert_eq!(reader.next(), Some(Ok(JsonToken::Begin(Container::Array))));
        assert_eq!(reader.next(), Some(Ok(JsonToken::Number(b"1"))));
        assert_eq!(reader.next(), Some(Err(NotJson)));
        assert_eq!(reader.next(), None);
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = 1 << 20;
        assert!(is_json(&format!("{}{}", "[".repeat(deep), "]".repeat(deep))));
        assert!(!is_json(&"[".repeat(deep)));
        assert!(!is_json(&"{\"a\":".repeat(deep)));
    }

    /// The texts are classified by RFC 8259.
    #[test]
    fn accepts_only_json() {
        let json = [
            "0",
            "-0",
            "-1.20E+3",
            "\"\"",
            "true",
            "[]",
            "{}",
            "[[],{}]",
            "\t[ 1 ,\r\n2 ]",
            r#"{"":0,"":0}"#,
            r#""\ud83d""#,
            r#""\u005C\/\b""#,
            "\"\u{7f}\"",
        ];
        let other = [
            "",
            " ",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "1e+",
            "-",
            "nul",
            "True",
            "NaN",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{,}",
            "{1:2}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            r#"{"a":1 "b":2}"#,
            "[}",
            "[1}",
            r#"{"a":1]"#,
            "{]",
            "1 1",
            "]",
            "\"",
            r#""\x""#,
            r#""\u12g4""#,
            r#""\u12"#,
            "\"\n\"",
            "\u{feff}1",
            "\u{a0}1",
            "/**/1",
            "'a'",
            "[1",
            "{",
            r#"{"a":1"#,
            "1]",
        ];
        for text in json {
            assert!(is_json(text), "{text}");
        }
        for text in other {
            assert!(!is_json(text), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_serde_json(
            text in r#"[ \n]{0,1}([\[\]{},:0-2eE.+"-]|"a"|true|null|\\u|\\n|d83d|\x01|é){0,12}"#,
        ) {
            prop_assert_eq!(is_json(&text), serde_json::from_str::<IgnoredAny>(&text).is_ok());
        }
    }
}

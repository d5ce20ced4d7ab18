use std::fmt;

use serde::Deserialize;
use serde_json::error::Category;

use super::{
    error_place::{ErrorPlace, as_name},
    number::{Excess, NumberType},
};
use crate::json::{Container, Decimal, JsonString, JsonToken};

/// The problem with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PayloadProblem {
    Syntax {
        line: usize,
        column: usize,
    },
    /// The JSON text ends too early.
    Eof,
    NotUtf8,
    /// A string contains half of a surrogate pair.
    NotUnicode,
    /// The JSON is valid, but nested deeper than serde_json can read.
    TooDeep,
    OutOfRange {
        excess: Excess,
        /// The requested type, if known.
        number_type: Option<NumberType>,
    },
    Missing(String),
    Duplicate(String),
    Unexpected {
        found: Option<&'static str>,
        expected: Option<String>,
    },
}

const INTEGER: &str = "an integer";
const DECIMAL: &str = "a decimal number";

impl PayloadProblem {
    const UNKNOWN: Self = Self::Unexpected { found: None, expected: None };

    fn unexpected(found: Option<&'static str>, expected: &str) -> Self {
        Self::Unexpected { found, expected: Some(as_json(expected).to_owned()) }
    }

    /// Finds the problem from the error alone, without the JSON text.
    pub(super) fn of(error: &serde_json::Error) -> Self {
        match error.classify() {
            Category::Eof => Self::Eof,
            Category::Data => Self::of_data(without_position(&error.to_string())),
            Category::Syntax | Category::Io => Self::of_syntax(without_position(&error.to_string()))
                .unwrap_or(Self::Syntax { line: error.line(), column: error.column() }),
        }
    }

    /// Finds the problem for a syntax error that serde_json reported in valid JSON, while reading `T`.
    pub(super) fn of_valid<'a, T: Deserialize<'a>>(
        error: &serde_json::Error,
        json: &str,
        place: &ErrorPlace<'_>,
    ) -> Self {
        let text = error.to_string();
        let text = without_position(&text);
        let Some((token, span)) = &place.token else { return Self::of_syntax(text).unwrap_or(Self::UNKNOWN) };
        let requested = || requested_type::<T>(&json[..span.start], &json[span.end..]);
        match (token, Self::of_syntax(text)) {
            (JsonToken::Name(name), problem) => Self::of_name(*name, text).or(problem).unwrap_or(Self::UNKNOWN),
            (JsonToken::Number(number), problem) => {
                let number_type = requested().as_deref().and_then(NumberType::expected);
                // The only problem that `of_syntax` can find in a number is that the number is out of range.
                let out_of_range = || problem.map(|_| Self::out_of_range(number, number_type));
                Self::of_integer(number, number_type).or_else(out_of_range).unwrap_or(Self::UNKNOWN)
            }
            // If a type other than a string was requested, serde_json decodes the string for its error, and fails at that.
            (JsonToken::String(_), Some(Self::NotUnicode)) => match requested() {
                Some(expected) => Self::unexpected(Some("a string"), &expected),
                None => Self::NotUnicode,
            },
            (_, Some(problem)) => problem,
            // serde_json returns this error only for 128-bit integers.
            (token, None) if text == "invalid number" => Self::unexpected(kind_of_token(*token), INTEGER),
            (_, None) => Self::UNKNOWN,
        }
    }

    /// Recognizes the errors that serde_json counts as syntax errors although JSON allows the text.
    fn of_syntax(text: &str) -> Option<Self> {
        match text {
            "lone leading surrogate in hex escape" | "unexpected end of hex escape" | "invalid unicode code point" => {
                Some(Self::NotUnicode)
            }
            "recursion limit exceeded" => Some(Self::TooDeep),
            "number out of range" => Some(Self::OutOfRange { excess: Excess::TooLarge, number_type: None }),
            _ => None,
        }
    }

    /// Returns the problem for a number where an integer was requested.
    fn of_integer(number: &[u8], number_type: Option<NumberType>) -> Option<Self> {
        let integer = number_type.filter(|number_type| number_type.is_integer())?;
        Some(match integer.excess(&Decimal::from_number(number)?) {
            Some(excess) => Self::OutOfRange { excess, number_type },
            None => Self::unexpected(Some(DECIMAL), INTEGER),
        })
    }

    /// Returns the problem for a number that serde_json reported as out of range, where no integer was requested as far as known.
    fn out_of_range(number: &[u8], number_type: Option<NumberType>) -> Self {
        // serde_json reads a number as an f64 if it does not fit a 64-bit integer.
        let is_infinite = str::from_utf8(number).is_ok_and(|number| number.parse().is_ok_and(f64::is_infinite));
        let number_type = number_type.or_else(|| NumberType::named("f64").filter(|_| is_infinite));
        let excess = if number.starts_with(b"-") { Excess::TooSmall } else { Excess::TooLarge };
        Self::OutOfRange { excess, number_type }
    }

    /// Returns the problem for the name of a member that was requested as a type other than a string.
    fn of_name(name: JsonString<'_>, text: &str) -> Option<Self> {
        match text {
            "number out of range" => Some(Self::out_of_range(name.decode()?.as_bytes(), None)),
            "invalid value: expected key to be a number in quotes" => Some(Self::unexpected(None, "a number")),
            _ => None,
        }
    }

    /// Parses the text of a serde error, such as ``invalid type: integer `5`, expected a string``. The part before `, expected` may
    /// quote the body, so its value is dropped. The part after it comes from the program.
    fn of_data(text: &str) -> Self {
        if let Some(field) = quoted_after(text, "missing field ") {
            return Self::Missing(as_name(field));
        }
        if let Some(field) = quoted_after(text, "duplicate field ") {
            return Self::Duplicate(as_name(field));
        }
        let found = text.strip_prefix("invalid type: ").and_then(kind_of);
        let is_type_error =
            ["invalid type: ", "invalid value: ", "invalid length "].iter().any(|start| text.starts_with(start));
        let Some((found_text, expected)) = text.rsplit_once(", expected ").filter(|_| is_type_error) else {
            return Self::Unexpected { found, expected: None };
        };
        let number = ["invalid value: integer `", "invalid type: floating point `"]
            .iter()
            .find_map(|start| Decimal::from_number(found_text.strip_prefix(start)?.strip_suffix('`')?.as_bytes()));
        let number_type = NumberType::expected(expected);
        if let (Some(number), Some(requested)) = (number, number_type)
            && let Some(excess) = requested.excess(&number)
        {
            return Self::OutOfRange { excess, number_type };
        }
        Self::unexpected(found, expected)
    }
}

/// Writes the part of an error's text that follows the name of the value, such as "is too large for a u8".
impl fmt::Display for PayloadProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { line, column } => write!(f, "is not JSON, from line {line}, column {column} on"),
            Self::Eof => f.write_str("ends in the middle of its JSON"),
            Self::NotUtf8 => f.write_str("is not UTF-8"),
            Self::NotUnicode => f.write_str("is not a valid Unicode string"),
            Self::TooDeep => f.write_str("is nested too deeply"),
            Self::OutOfRange { excess, number_type } => {
                f.write_str(match excess {
                    Excess::TooLarge => "is too large",
                    Excess::TooSmall => "is too small",
                    Excess::Negative => "is negative, which is too small",
                })?;
                number_type.map_or(Ok(()), |number_type| write!(f, " for {number_type}"))
            }
            Self::Missing(_) => f.write_str("is missing"),
            Self::Duplicate(_) => f.write_str("is there twice"),
            Self::Unexpected { found: Some(found), expected: Some(expected) } => {
                write!(f, "is {found}, not {expected}")
            }
            Self::Unexpected { found: Some(found), expected: None } => write!(f, "is {found}"),
            Self::Unexpected { found: None, expected: Some(expected) } => write!(f, "is not {expected}"),
            Self::Unexpected { found: None, expected: None } => f.write_str("is not what it should be"),
        }
    }
}

/// Returns the type that `T` expects of the value between `before` and `after`, in serde's words. To find it, replaces the value with
/// a string and reads serde's error. Returns `None` if `T` accepts a string there, or borrows from the text before the value.
fn requested_type<'a, T: Deserialize<'a>>(before: &str, after: &str) -> Option<String> {
    let text_with = |stand_in: &str| {
        let text = [before, stand_in, after].concat();
        // Read from a reader, because `T` can outlive this text and must not borrow from it.
        let error = T::deserialize(&mut serde_json::Deserializer::from_reader(text.as_bytes())).err()?;
        Some(without_position(&error.to_string()).to_owned())
    };
    let text = text_with("\"in place of a value\"")?;
    if text == "invalid number" {
        // serde_json returns this error only for 128-bit integers. Only the unsigned one has -1 out of range.
        let is_unsigned = text_with("-1").is_some_and(|text| text == "number out of range");
        return Some(if is_unsigned { "u128" } else { "i128" }.into());
    }
    text.strip_prefix("invalid type: string \"in place of a value\", expected ").map(Into::into)
}

/// Removes the position from the end of a serde_json error's text.
fn without_position(text: &str) -> &str {
    text.rfind(" at line ").map_or(text, |end| &text[..end])
}

/// Returns the name in backticks that makes up the rest of a text after `start`.
fn quoted_after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.strip_prefix(start)?.strip_prefix('`')?.strip_suffix('`')
}

/// Translates the type that serde expected into a term of JSON.
fn as_json(expected: &str) -> &str {
    match expected {
        "a sequence" => "an array",
        "a map" => "an object",
        other => match NumberType::named(other) {
            Some(number_type) if number_type.is_integer() => INTEGER,
            Some(_) => "a number",
            None => other,
        },
    }
}

/// Returns the type at the start of serde's description of a value. The rest is dropped, because it may quote the body.
fn kind_of(text: &str) -> Option<&'static str> {
    const KINDS: [(&str, &str); 7] = [
        ("string", "a string"),
        ("integer", INTEGER),
        ("floating point", DECIMAL),
        ("boolean", "a boolean"),
        ("null", "null"),
        ("map", "an object"),
        ("sequence", "an array"),
    ];
    KINDS.iter().find(|(start, _)| text.starts_with(start)).map(|(_, kind)| *kind)
}

fn kind_of_token(token: JsonToken<'_>) -> Option<&'static str> {
    match token {
        JsonToken::Begin(Container::Object) => Some("an object"),
        JsonToken::Begin(Container::Array) => Some("an array"),
        JsonToken::String(_) => Some("a string"),
        JsonToken::Literal(b"null") => Some("null"),
        JsonToken::Literal(_) => Some("a boolean"),
        JsonToken::Name(_) | JsonToken::Number(_) | JsonToken::End => None,
    }
}

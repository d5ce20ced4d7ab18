use std::{error::Error, fmt};

use serde_json::error::Category;
use serde_path_to_error::Segment;

/// A verified body could not be read as an [`OrderEvent`](super::OrderEvent).
///
/// The text names the field and says what is wrong with it. It never quotes the body, which holds customers' data, and so it may
/// be answered and logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadError {
    path: String,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    /// No JSON.
    Syntax {
        line: usize,
        column: usize,
    },
    /// It ends too early.
    Eof,
    Missing(String),
    Duplicate(String),
    Unexpected {
        found: Option<String>,
        expected: Option<String>,
    },
}

impl PayloadError {
    /// What went wrong, and where.
    pub(super) fn located(error: &serde_path_to_error::Error<serde_json::Error>) -> Self {
        let mut path = String::new();
        for segment in error.path() {
            match segment {
                Segment::Seq { index } => path.push_str(&format!("[{index}]")),
                Segment::Map { key } => join(&mut path, &as_name(key)),
                Segment::Enum { .. } | Segment::Unknown => {}
            }
        }
        Self { path, problem: Problem::of(error.inner()) }
    }

    pub(super) fn duplicate(path: impl Into<String>, field: &str) -> Self {
        Self { path: path.into(), problem: Problem::Duplicate(as_name(field)) }
    }

    pub(super) fn missing(field: &str) -> Self {
        Self { path: String::new(), problem: Problem::Missing(field.into()) }
    }

    pub(super) fn no_object(found: &str) -> Self {
        let problem = Problem::Unexpected { found: Some(found.into()), expected: Some("an object".into()) };
        Self { path: String::new(), problem }
    }

    pub(super) fn not_utf_8() -> Self {
        let expected = Some("UTF-8".into());
        Self { path: String::new(), problem: Problem::Unexpected { found: None, expected } }
    }

    /// The same, as a part of something larger.
    pub(super) fn within(self, outer: &str) -> Self {
        let mut path = outer.to_owned();
        if !self.path.is_empty() {
            join(&mut path, &self.path);
        }
        Self { path, ..self }
    }

    /// Where it is, such as `orders[2].status`; empty for the body as a whole.
    pub fn path(&self) -> &str {
        &self.path
    }
}

fn join(path: &mut String, inner: &str) {
    if !path.is_empty() && !inner.starts_with('[') {
        path.push('.');
    }
    path.push_str(inner);
}

/// Without the parts of its text that quote the body.
impl From<serde_json::Error> for PayloadError {
    fn from(error: serde_json::Error) -> Self {
        Self { path: String::new(), problem: Problem::of(&error) }
    }
}

impl Problem {
    fn of(error: &serde_json::Error) -> Self {
        match error.classify() {
            Category::Eof => Self::Eof,
            Category::Syntax | Category::Io => Self::Syntax { line: error.line(), column: error.column() },
            Category::Data => Self::of_text(&error.to_string()),
        }
    }

    /// serde's own texts begin in a few ways. What follows may be the body's, up to what was expected: that is the program's.
    fn of_text(text: &str) -> Self {
        // serde_json's own addition.
        let text = text.rfind(" at line ").map_or(text, |end| &text[..end]);
        if let Some(field) = quoted_after(text, "missing field ") {
            return Self::Missing(as_name(field));
        }
        if let Some(field) = quoted_after(text, "duplicate field ") {
            return Self::Duplicate(as_name(field));
        }
        let found = text.strip_prefix("invalid type: ").and_then(kind_of);
        let is_type_error =
            ["invalid type: ", "invalid value: ", "invalid length "].iter().any(|it| text.starts_with(it));
        let expected =
            text.rfind(", expected ").filter(|_| is_type_error).map(|at| as_json(&text[at + 11..]).to_owned());
        Self::Unexpected { found: found.map(Into::into), expected }
    }
}

fn quoted_after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.strip_prefix(start)?.strip_prefix('`')?.strip_suffix('`')
}

/// What serde expects, in the words of JSON.
fn as_json(expected: &str) -> &str {
    match expected {
        "i8" | "i16" | "i32" | "i64" | "i128" | "u8" | "u16" | "u32" | "u64" | "u128" | "isize" | "usize" => {
            "an integer"
        }
        "f32" | "f64" => "a number",
        "a sequence" => "an array",
        "a map" => "an object",
        other => other,
    }
}

/// The type that serde says it has found, without the value behind it.
fn kind_of(text: &str) -> Option<&'static str> {
    const KINDS: [(&str, &str); 7] = [
        ("string", "a string"),
        ("integer", "an integer"),
        ("floating point", "a decimal number"),
        ("boolean", "a boolean"),
        ("null", "null"),
        ("map", "an object"),
        ("sequence", "an array"),
    ];
    KINDS.iter().find(|(start, _)| text.starts_with(start)).map(|(_, kind)| *kind)
}

/// A field's name may be the body's own, if a type of the user's takes any: then it is shown only if it looks like a name.
fn as_name(field: &str) -> String {
    let is_name = field.len() <= 64 && field.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphabetic());
    if is_name { field.into() } else { "…".into() }
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.path.is_empty() { "the body" } else { &self.path };
        let field = |f: &mut fmt::Formatter<'_>, name: &str| match &*self.path {
            "" => write!(f, "`{name}`"),
            path => write!(f, "`{path}.{name}`"),
        };
        match &self.problem {
            Problem::Syntax { line, column } => write!(f, "{place} is not JSON, from line {line}, column {column} on"),
            Problem::Eof => write!(f, "{place} ends in the middle of its JSON"),
            Problem::Missing(name) => {
                field(f, name)?;
                f.write_str(" is missing")
            }
            Problem::Duplicate(name) => {
                field(f, name)?;
                f.write_str(" is there twice")
            }
            Problem::Unexpected { found, expected } => {
                write!(f, "{place} is {}", found.as_deref().unwrap_or("not what it should be"))?;
                match expected {
                    Some(expected) => write!(f, ", not {expected}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl Error for PayloadError {}

use std::ops::Range;

use serde_path_to_error::Segment;

use crate::json::{Container, JsonReader, JsonString, JsonToken};

/// The length in bytes beyond which a path is truncated, so that an error stays readable for any nesting.
const MAX_PATH: usize = 128;

/// The place in a JSON text that an error of serde_json refers to.
pub(super) struct ErrorPlace<'a> {
    /// The steps to the value. If the token is the name of a member, the steps to its object.
    steps: Vec<PlaceStep<'a>>,
    /// The token at this place, and its range. `None` between two tokens.
    pub(super) token: Option<(JsonToken<'a>, Range<usize>)>,
}

/// An open container, and the position of the last value in it that was reached.
enum PlaceStep<'a> {
    Element(Option<usize>),
    Member(Option<JsonString<'a>>),
}

impl<'a> ErrorPlace<'a> {
    /// Finds the token that contains the position of the error or ends there. `None` if the text before that is not JSON.
    pub(super) fn of(error: &serde_json::Error, json: &'a str) -> Option<Self> {
        let position = offset(json, error.line(), error.column());
        let mut reader = JsonReader::new(json.as_bytes());
        let mut steps: Vec<PlaceStep<'_>> = Vec::new();
        while let Some(token) = reader.next() {
            let token = token.ok()?;
            let span = reader.span();
            let is_value = !matches!(token, JsonToken::Name(_) | JsonToken::End);
            if is_value && let Some(PlaceStep::Element(index)) = steps.last_mut() {
                *index = Some(index.map_or(0, |index| index + 1));
            }
            if span.end >= position {
                let is_reached = span.start < position;
                if !is_reached || !is_value {
                    // The path leads to the container around the token.
                    steps.pop();
                }
                return Some(Self { steps, token: is_reached.then_some((token, span)) });
            }
            match token {
                JsonToken::Name(name) => {
                    if let Some(PlaceStep::Member(last)) = steps.last_mut() {
                        *last = Some(name);
                    }
                }
                JsonToken::Begin(Container::Object) => steps.push(PlaceStep::Member(None)),
                JsonToken::Begin(Container::Array) => steps.push(PlaceStep::Element(None)),
                JsonToken::End => drop(steps.pop()),
                JsonToken::String(_) | JsonToken::Number(_) | JsonToken::Literal(_) => {}
            }
        }
        None
    }

    /// Returns the path as text, with at most `max_steps` steps.
    pub(super) fn path(&self, max_steps: usize) -> String {
        let mut path = String::new();
        for step in self.steps.iter().take(max_steps) {
            match step {
                PlaceStep::Element(index) => push(&mut path, &format!("[{}]", index.unwrap_or_default())),
                PlaceStep::Member(name) => {
                    push(&mut path, &as_name(&name.and_then(JsonString::decode).unwrap_or("…".into())))
                }
            }
        }
        path
    }

    /// Returns whether the token is the name of a member.
    pub(super) fn is_name(&self) -> bool {
        matches!(self.token, Some((JsonToken::Name(_), _)))
    }
}

/// Returns the offset of a line and a column. serde_json counts both from 1, and columns in bytes.
fn offset(json: &str, line: usize, column: usize) -> usize {
    let lines = json.split_inclusive('\n').take(line.saturating_sub(1));
    lines.map(str::len).sum::<usize>() + column
}

/// Returns a path of serde as text, such as `orders[2].status`.
pub(super) fn path_of(path: &serde_path_to_error::Path) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => push(&mut text, &format!("[{index}]")),
            Segment::Map { key } => push(&mut text, &as_name(key)),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    text
}

/// Appends a step. Truncates a path that is too long.
fn push(path: &mut String, step: &str) {
    if path.len() < MAX_PATH {
        join(path, step);
    } else if !path.ends_with('…') {
        path.push('…');
    }
}

/// Appends a path to the path of the outer value.
pub(super) fn join(path: &mut String, inner: &str) {
    if !path.is_empty() && !inner.starts_with('[') {
        path.push('.');
    }
    path.push_str(inner);
}

/// Returns a field name for an error text, or `…` if it does not look like a name: it may come from the body and hold customers' data.
pub(super) fn as_name(name: &str) -> String {
    let is_name = name.len() <= 64 && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphabetic());
    if is_name { name.into() } else { "…".into() }
}

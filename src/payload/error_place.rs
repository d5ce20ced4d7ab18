use std::ops::Range;

use serde_path_to_error::Segment;

use crate::json::{Container, JsonReader, JsonString, JsonToken};

/// The length from which on a path is cut off, so that an error stays readable whatever the body nests.
const MAX_PATH: usize = 128;

/// The place in a JSON text that an error of serde_json points to.
pub(super) struct ErrorPlace<'a> {
    /// The steps to the value, or to the object that it names a member of.
    steps: Vec<PlaceStep<'a>>,
    /// What is there, and where. `None` between two tokens.
    pub(super) token: Option<(JsonToken<'a>, Range<usize>)>,
}

/// A container that is open, and the value in it that was reached last.
enum PlaceStep<'a> {
    Element(Option<usize>),
    Member(Option<JsonString<'a>>),
}

impl<'a> ErrorPlace<'a> {
    /// Finds the token that ends or goes on at the position of the error. `None` if the text is not JSON up to there.
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
                    // The container around the token.
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

    /// Writes the path with at most so many steps.
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

    /// Whether it is the name of a member.
    pub(super) fn is_name(&self) -> bool {
        matches!(self.token, Some((JsonToken::Name(_), _)))
    }
}

/// Where in the text a line and a column are, both of which serde_json counts from 1 and in bytes.
fn offset(json: &str, line: usize, column: usize) -> usize {
    let lines = json.split_inclusive('\n').take(line.saturating_sub(1));
    lines.map(str::len).sum::<usize>() + column
}

/// Writes a path of serde's, such as `orders[2].status`.
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

fn push(path: &mut String, step: &str) {
    if path.len() < MAX_PATH {
        join(path, step);
    } else if !path.ends_with('…') {
        path.push('…');
    }
}

/// Appends a path to the path of the value that it starts from.
pub(super) fn join(path: &mut String, inner: &str) {
    if !path.is_empty() && !inner.starts_with('[') {
        path.push('.');
    }
    path.push_str(inner);
}

/// A name may be the body's own, where a type takes any. It is shown only if it looks like a name.
pub(super) fn as_name(name: &str) -> String {
    let is_name = name.len() <= 64 && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphabetic());
    if is_name { name.into() } else { "…".into() }
}

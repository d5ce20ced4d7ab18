use std::{error::Error, fmt};

use serde::Deserialize;
use serde_json::{Deserializer, error::Category};

use super::{
    error_place::{self, ErrorPlace},
    problem::PayloadProblem,
};
use crate::reason::FailureReason;

/// The number of steps that are shown of the path to a value that is nested too deeply. The whole path has more than 100.
const DEEP_STEPS: usize = 4;

/// The error for a verified body that cannot be read as an [`OrderEvent`](super::OrderEvent), or for a field that cannot be read as the
/// requested type.
///
/// The text names the field and the problem. It never quotes the body, which contains customers' data, so you may send it in a response
/// and log it. `Debug` writes the same text. The error converts into a [`FailureReason`](crate::FailureReason). With the feature
/// `axum`, it is also a response with the status 422, for which an inbox dead-letters the delivery.
///
/// The [`kind`](Self::kind) is never [`NotJson`](PayloadErrorKind::NotJson) for a body that is valid JSON, whichever type was requested.
#[derive(Clone, PartialEq, Eq)]
pub struct PayloadError {
    path: String,
    /// Whether the problem is the name of a member of the object at `path`.
    is_name: bool,
    problem: PayloadProblem,
}

/// The kinds of [`PayloadError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PayloadErrorKind {
    /// The body is not JSON in UTF-8, or ends too early.
    NotJson,
    /// A string contains half of a surrogate pair, such as `"\ud83d"`. JSON allows it, but a Rust string cannot hold it.
    NotUnicode,
    /// A number does not fit the requested type.
    OutOfRange,
    /// A value is nested deeper than 127 objects and arrays, and the requested type would hold them all.
    TooDeep,
    /// A required field is missing.
    Missing,
    /// A field is repeated.
    Duplicate,
    /// A value is not of the requested type.
    WrongType,
}

impl PayloadError {
    /// Explains why `T` could not be read from a text.
    pub(super) fn of<'a, T: Deserialize<'a>>(error: serde_json::Error, json: &'a str) -> Self {
        if error.classify() != Category::Data {
            return Self::of_syntax::<T>(error, json);
        }
        let mut again = Deserializer::from_str(json);
        let Err(located) = serde_path_to_error::deserialize::<_, T>(&mut again) else { return Self::from(error) };
        let problem = PayloadProblem::of(located.inner());
        match ErrorPlace::of(located.inner(), json).filter(ErrorPlace::is_name) {
            Some(place) => Self { path: place.path(usize::MAX), is_name: true, problem },
            None => Self { path: error_place::path_of(located.path()), is_name: false, problem },
        }
    }

    /// Explains a syntax error. serde_json also reports a syntax error for some valid JSON that does not fit the type.
    fn of_syntax<'a, T: Deserialize<'a>>(error: serde_json::Error, json: &'a str) -> Self {
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(json) {
            return Self::from(error);
        }
        let Some(place) = ErrorPlace::of(&error, json) else { return Self::from(error) };
        let problem = PayloadProblem::of_valid::<T>(&error, json, &place);
        let steps = if problem == PayloadProblem::TooDeep { DEEP_STEPS } else { usize::MAX };
        Self { path: place.path(steps), is_name: place.is_name(), problem }
    }

    pub(super) fn duplicate(field: &str) -> Self {
        PayloadProblem::Duplicate(error_place::as_name(field)).into()
    }

    pub(super) fn missing(field: &str) -> Self {
        PayloadProblem::Missing(field.into()).into()
    }

    pub(super) fn no_object(found: &'static str) -> Self {
        PayloadProblem::Unexpected { found: Some(found), expected: Some("an object".into()) }.into()
    }

    pub(super) fn not_utf_8() -> Self {
        PayloadProblem::NotUtf8.into()
    }

    /// Prepends the path of the outer value.
    pub(super) fn within(self, outer: &str) -> Self {
        let mut path = outer.to_owned();
        if !self.path.is_empty() {
            error_place::join(&mut path, &self.path);
        }
        Self { path, ..self }
    }

    /// Returns the path to the value, such as `orders[2].status`. Empty for the whole body.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> PayloadErrorKind {
        match self.problem {
            PayloadProblem::Syntax { .. } | PayloadProblem::Eof | PayloadProblem::NotUtf8 => PayloadErrorKind::NotJson,
            PayloadProblem::NotUnicode => PayloadErrorKind::NotUnicode,
            PayloadProblem::OutOfRange { .. } => PayloadErrorKind::OutOfRange,
            PayloadProblem::TooDeep => PayloadErrorKind::TooDeep,
            PayloadProblem::Missing(_) => PayloadErrorKind::Missing,
            PayloadProblem::Duplicate(_) => PayloadErrorKind::Duplicate,
            PayloadProblem::Unexpected { .. } => PayloadErrorKind::WrongType,
        }
    }
}

/// Removes the parts of the text that quote the body. The path is empty, because a `serde_json::Error` does not contain it.
impl From<serde_json::Error> for PayloadError {
    fn from(error: serde_json::Error) -> Self {
        PayloadProblem::of(&error).into()
    }
}

impl From<PayloadProblem> for PayloadError {
    fn from(problem: PayloadProblem) -> Self {
        Self { path: String::new(), is_name: false, problem }
    }
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, is_name, problem } = self;
        match problem {
            PayloadProblem::Missing(name) | PayloadProblem::Duplicate(name) if path.is_empty() => {
                write!(f, "`{name}`")?
            }
            PayloadProblem::Missing(name) | PayloadProblem::Duplicate(name) => write!(f, "`{path}.{name}`")?,
            _ if *is_name && path.is_empty() => f.write_str("a field name in the body")?,
            _ if *is_name => write!(f, "a field name in `{path}`")?,
            _ if path.is_empty() => f.write_str("the body")?,
            // Without quotes, to keep the text of earlier versions.
            PayloadProblem::Unexpected { .. } => f.write_str(path)?,
            _ => write!(f, "`{path}`")?,
        }
        write!(f, " {problem}")
    }
}

/// Writes the text of the error.
impl fmt::Debug for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for PayloadError {}

impl From<PayloadError> for FailureReason {
    fn from(error: PayloadError) -> Self {
        Self::new(error.to_string())
    }
}

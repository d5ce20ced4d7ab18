use std::{error::Error, fmt};

use serde::Deserialize;
use serde_json::{Deserializer, error::Category};

use super::{
    error_place::{self, ErrorPlace},
    problem::PayloadProblem,
};

/// How many steps of the path to a value are named that is nested too deeply: there are more than a hundred.
const DEEP_STEPS: usize = 4;

/// A verified body that could not be read as an [`OrderEvent`](super::OrderEvent), or a field of it that could not be read as the
/// type that was asked for.
///
/// The text names the field and says what is wrong with it. It never quotes the body, which holds customers' data, so it may be
/// sent in a response and logged.
///
/// A body that is valid JSON is never called anything else, whatever type could not hold it: see [`kind`](Self::kind).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadError {
    path: String,
    /// Whether the problem is the name of a member of what is at the path.
    is_name: bool,
    problem: PayloadProblem,
}

/// The kinds of [`PayloadError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PayloadErrorKind {
    /// The body is not JSON in UTF-8, or ends too early.
    NotJson,
    /// A string holds half of a surrogate pair, such as `"\ud83d"`. JSON allows it, and a Rust string cannot hold it.
    NotUnicode,
    /// A number does not fit the type that was asked for.
    OutOfRange,
    /// A value is nested deeper than 127 objects and arrays, and was asked for as a type that holds them all.
    TooDeep,
    /// A required field is missing.
    Missing,
    /// A field is repeated.
    Duplicate,
    /// A value is not of the type that was asked for.
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

    /// serde_json calls some values syntax errors that are valid JSON and do not fit the type.
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

    /// The same error of the value that this one is a part of.
    pub(super) fn within(self, outer: &str) -> Self {
        let mut path = outer.to_owned();
        if !self.path.is_empty() {
            error_place::join(&mut path, &self.path);
        }
        Self { path, ..self }
    }

    /// The path to the value, such as `orders[2].status`. Empty for the body as a whole.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What kind of problem it is.
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

/// Without the parts of its text that quote the body. Where in the body the error is remains unknown.
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
            // As these texts have always been.
            PayloadProblem::Unexpected { .. } => f.write_str(path)?,
            _ => write!(f, "`{path}`")?,
        }
        write!(f, " {problem}")
    }
}

impl Error for PayloadError {}

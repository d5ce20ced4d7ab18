//! The result of a check.

use serde::Serialize;

use super::check::Check;

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// The receiver did what it must do.
    Pass,
    /// The receiver did what it must not do.
    Fail,
    /// The answers do not show what the receiver did.
    NotObservable,
}

/// The outcome of a check, and what the answers showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) outcome: Outcome,
    pub(super) seen: String,
}

/// A line of the report.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) check: Check,
    pub(super) finding: Finding,
}

/// A fault of the receiver, or a reason why none can be seen. It ends a check early by `?`.
pub(super) type Checked<T = String> = Result<T, Finding>;

impl Outcome {
    /// Returns the word in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::NotObservable => "not observable",
        }
    }
}

impl Finding {
    pub(super) fn fail(seen: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail, seen: seen.into() }
    }

    pub(super) fn not_observable(seen: impl Into<String>) -> Self {
        Self { outcome: Outcome::NotObservable, seen: seen.into() }
    }
}

/// Makes a check that came to its end a pass.
impl From<Checked> for Finding {
    fn from(checked: Checked) -> Self {
        match checked {
            Ok(seen) => Self { outcome: Outcome::Pass, seen },
            Err(finding) => finding,
        }
    }
}

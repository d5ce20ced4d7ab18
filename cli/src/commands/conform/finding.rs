//! The result of a check.

use serde::Serialize;

use super::check::ConformCheck;

/// The verdict of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// The receiver did what it must do.
    Pass,
    /// The receiver did what it must not do.
    Fail,
    /// The responses do not show what the receiver did.
    NotObservable,
}

/// The verdict of a check, and what the responses showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    pub(super) seen: String,
}

/// A line of the report.
#[derive(Debug, Clone)]
pub(super) struct ConformRow {
    pub(super) check: ConformCheck,
    pub(super) finding: Finding,
}

/// A fault of the receiver, or a reason why none can be seen. A check returns it early with `?`.
pub(super) type Checked<T = String> = Result<T, Finding>;

impl Verdict {
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
        Self { verdict: Verdict::Fail, seen: seen.into() }
    }

    pub(super) fn not_observable(seen: impl Into<String>) -> Self {
        Self { verdict: Verdict::NotObservable, seen: seen.into() }
    }
}

/// Makes a check that came to its end a pass.
impl From<Checked> for Finding {
    fn from(checked: Checked) -> Self {
        match checked {
            Ok(seen) => Self { verdict: Verdict::Pass, seen },
            Err(finding) => finding,
        }
    }
}

//! The rows of the report.

use serde::Serialize;

use crate::error::one_line;

/// A check, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Check {
    Secret,
    Store,
    Schema,
    DeadLetters,
    Pending,
    Stored,
    Pauses,
    Clock,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    Ok,
    /// Deliveries are received, but somebody must look at this.
    Warning,
    /// A service does not receive or handle deliveries as it should.
    Blocker,
    /// Something that the check needs is missing.
    NotChecked,
}

/// A row of the report.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) check: Check,
    pub(super) result: Level,
    pub(super) seen: String,
    /// The action of the reader, for a warning or a blocker.
    pub(super) action: Option<String>,
}

impl Check {
    /// The checks that need an open store.
    pub(super) const OF_OPEN_STORE: [Self; 5] =
        [Self::DeadLetters, Self::Pending, Self::Stored, Self::Pauses, Self::Clock];

    /// Returns the name in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Store => "store",
            Self::Schema => "schema",
            Self::DeadLetters => "dead letters",
            Self::Pending => "pending",
            Self::Stored => "stored",
            Self::Pauses => "pauses",
            Self::Clock => "clock",
        }
    }

    pub(super) fn ok(self, seen: impl Into<String>) -> Row {
        self.row(Level::Ok, &seen.into(), None)
    }

    pub(super) fn warning(self, seen: impl Into<String>, action: impl Into<String>) -> Row {
        self.row(Level::Warning, &seen.into(), Some(action.into()))
    }

    pub(super) fn blocker(self, seen: impl Into<String>, action: impl Into<String>) -> Row {
        self.row(Level::Blocker, &seen.into(), Some(action.into()))
    }

    pub(super) fn not_checked(self, why: &str) -> Row {
        self.row(Level::NotChecked, why, None)
    }

    fn row(self, result: Level, seen: &str, action: Option<String>) -> Row {
        Row { check: self, result, seen: one_line(seen), action }
    }
}

impl Level {
    /// Returns the words in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Blocker => "blocker",
            Self::NotChecked => "not checked",
        }
    }
}

//! The report of an action.

use serde::Serialize;

use crate::{error::CliError, output::Output};

/// The output of an action with `--json`.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    pub(super) store: &'a str,
    pub(super) action: &'static str,
    pub(super) operator: &'a str,
    /// The number that the action applies to: of deliveries, or of pauses to lift.
    pub(super) selected: u64,
    /// The number that was changed. Absent if ctrl-c ended the action: the log line has the number.
    pub(super) changed: Option<u64>,
    pub(super) dry_run: bool,
}

impl Report<'_> {
    /// Prints the report, or this line for a person.
    pub(super) fn print(&self, line: String, output: &mut Output) -> Result<(), CliError> {
        if output.is_json() { output.json(self) } else { output.line(line) }
    }
}

//! The report of an action.

use serde::Serialize;

use crate::{error::CliError, outcome::Outcome, output::Output, store::values};

/// The output of an action with `--json`.
#[derive(Serialize)]
pub(crate) struct ActionReport<'a> {
    pub(crate) store: &'a str,
    pub(crate) action: &'static str,
    pub(crate) operator: &'a str,
    /// The number that the action applies to: of deliveries, or of pauses to lift.
    pub(crate) selected: u64,
    /// The number that was changed, or `null` if ctrl-c ended the command during a call that may have changed some.
    pub(crate) changed: Option<u64>,
    /// Whether the action ran: there was something to act on, and the operator agreed.
    pub(crate) applied: bool,
    pub(crate) dry_run: bool,
}

impl ActionReport<'_> {
    /// Returns the line for a person about an action on deliveries. `verb` and `participle` name the action, such as
    /// "Forget" and "Forgot".
    pub(crate) fn line(&self, verb: &str, participle: &str, outcome: Outcome) -> String {
        let selected = values::deliveries(self.selected);
        match self.changed {
            _ if self.dry_run => format!("{verb} would apply to {selected}."),
            None => format!("Interrupted. Some, all or none of {selected} may be changed."),
            Some(changed) if outcome == Outcome::Interrupted => {
                format!("Interrupted. {participle} {changed} of {selected}.")
            }
            Some(0) if self.selected == 0 => format!("{verb} applies to no delivery."),
            Some(0) => "Nothing was changed.".into(),
            Some(changed) => format!("{participle} {}.", values::deliveries(changed)),
        }
    }

    /// Prints the report, or this line for a person.
    pub(crate) fn print(&self, line: String, output: &mut Output) -> Result<(), CliError> {
        if output.is_json() { output.json(self) } else { output.line(line) }
    }
}

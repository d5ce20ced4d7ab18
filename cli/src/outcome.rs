//! The outcome of a command that ran.

use std::process::ExitCode;

/// The outcome of a command that ran. A command that could not run returns an error instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is fine.
    Fine,
    /// The command found a fault, such as a delivery that does not verify.
    FaultFound,
    /// Ctrl-c ended the command early.
    Interrupted,
}

/// Returns the exit code that all commands share.
impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Fine => 0,
            Outcome::FaultFound => 1,
            Outcome::Interrupted => 130,
        })
    }
}

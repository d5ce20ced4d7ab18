//! The error that ends a command with exit code 2.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use anstyle::{AnsiColor, Style};
use tower_klikit::ErrorChain;

use crate::outcome::Outcome;

/// The error that ends a command. Its message is one line that says what happened, to what, and what to do.
///
/// The line contains no secret and no part of a body.
#[derive(Debug)]
pub(crate) struct CliError(Kind);

const RED: Style = AnsiColor::Red.on_default().bold();

#[derive(Debug)]
enum Kind {
    /// The line.
    Message(String),
    /// Ctrl-c ended a prompt.
    Interrupted,
}

impl CliError {
    /// Creates an error with a message. Control characters, such as line feeds in the name of a file, are escaped.
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self(Kind::Message(one_line(&message.to_string())))
    }

    /// Creates an error with a message, its cause, and what to do: `message: cause: remedy`.
    pub(crate) fn caused(message: impl fmt::Display, cause: &(dyn Error + 'static), remedy: &str) -> Self {
        Self::new(format_args!("{message}: {}: {remedy}", ErrorChain::new(cause)))
    }

    /// Creates the error for a failed write to standard output.
    pub(crate) fn of_output(error: &io::Error) -> Self {
        Self::caused("cannot write to standard output", error, "write to another file or device")
    }

    /// Creates the error for a prompt that ctrl-c ended.
    pub(crate) fn interrupted() -> Self {
        Self(Kind::Interrupted)
    }

    /// Prints the message to standard error, if there is one, and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match &self.0 {
            Kind::Message(message) => {
                // Ignore a failure, because there is no other place to report it.
                let _ = writeln!(anstream::stderr(), "{RED}error:{RED:#} {message}");
                ExitCode::from(2)
            }
            Kind::Interrupted => Outcome::Interrupted.into(),
        }
    }
}

/// Returns the text with control characters and hidden characters escaped, so that it is one line and a terminal shows
/// all of it. `ErrorChain` has the rule.
pub(crate) fn one_line(text: &str) -> String {
    ErrorChain::new(&*Box::<dyn Error>::from(text)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_hidden_characters() {
        let hidden = "a\nb\u{1b}[2J\u{202e}c\u{2028}é";
        assert_eq!(one_line(hidden), r"a\nb\u{1b}[2J\u{202e}c\u{2028}é");
    }
}

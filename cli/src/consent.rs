//! The consent of the person who runs an action.

use std::{
    io::{self, IsTerminal, Write},
    thread,
};

use clap::Args;
use tokio::sync::oneshot;

use crate::{error::CliError, interrupt::Interrupt, output};

/// Whether the command asks before it changes anything.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Consent")]
pub(crate) struct ConsentArguments {
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// The options of an action: the operator's name, and whether the command asks first or changes nothing.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Consent")]
pub(crate) struct ActingArguments {
    /// The name of the operator in the log [default: the name of the system's user]
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,

    #[command(flatten)]
    consent: ConsentArguments,

    /// Print what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl ActingArguments {
    /// Checks that somebody can be asked, if the command has to ask, and returns the operator's name. For a call before
    /// the command opens the store.
    pub(crate) fn operator(&self) -> Result<String, CliError> {
        if !self.dry_run {
            self.consent.check()?;
        }
        self.operator
            .clone()
            .map_or_else(whoami::username, Ok)
            .map_err(|error| CliError::caused("the system's user has no name", &error, "name yourself with --operator"))
    }

    /// Asks a question, and returns whether the answer is yes. The answer to a dry run is no.
    pub(crate) async fn ask(&self, question: &str, interrupt: &Interrupt) -> Result<bool, CliError> {
        Ok(!self.dry_run && self.consent.ask(question, interrupt).await?)
    }
}

impl ConsentArguments {
    /// Checks that somebody can be asked, if the command has to ask. For a call before the command opens the store.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        if self.yes || (io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Ok(());
        }
        Err(CliError::new("there is no terminal to ask on: pass --yes"))
    }

    /// Asks a question, and returns whether the answer is yes.
    pub(crate) async fn ask(&self, question: &str, interrupt: &Interrupt) -> Result<bool, CliError> {
        if self.yes {
            return Ok(true);
        }
        // If nobody can read the question, nobody answers it.
        let _ = write!(io::stderr(), "{question} [y/N] ");
        let (reply, answer) = oneshot::channel();
        // A thread of its own, because ctrl-c must end the command while a line is read.
        thread::spawn(move || {
            let mut line = String::new();
            let read = io::stdin().read_line(&mut line);
            let _ = reply.send(read.map(|_| line));
        });
        tokio::select! {
            () = interrupt.requested() => {
                output::note("");
                Err(CliError::interrupted())
            }
            answer = answer => {
                let answer = answer.expect("the thread sends an answer");
                let answer = answer.map_err(|error| CliError::caused("cannot read the answer", &error, "pass --yes"))?;
                Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
            }
        }
    }
}

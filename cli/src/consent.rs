//! The consent of the person who runs an action.

use std::{
    io::{self, IsTerminal, Write},
    thread,
};

use clap::Args;
use tokio::sync::oneshot;

use crate::{error::CliError, interrupt::Interrupt, outcome::Outcome, output, report::ActionReport};

/// Whether the command asks before it changes anything, or changes nothing.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Consent")]
pub(crate) struct ConsentArguments {
    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Print what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
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
}

impl ActingArguments {
    /// Checks that somebody can be asked, if the command has to ask, and returns the operator's name. For a call before
    /// the command opens the store.
    pub(crate) fn operator(&self) -> Result<String, CliError> {
        self.consent.check()?;
        self.operator
            .clone()
            .map_or_else(whoami::username, Ok)
            .map_err(|error| CliError::caused("the system's user has no name", &error, "name yourself with --operator"))
    }

    /// Creates the report of an action that has changed nothing.
    pub(crate) fn report<'a>(&self, action: &'static str, operator: &'a str, store: &'a str) -> ActionReport<'a> {
        let dry_run = self.consent.dry_run;
        ActionReport { store, action, operator, selected: 0, changed: Some(0), applied: false, dry_run }
    }

    /// Asks a question, and runs the action if the answer is yes. The action returns the number that it changed, or
    /// `None` if it does not know the number after ctrl-c.
    pub(crate) async fn act(
        &self,
        question: &str,
        report: &mut ActionReport<'_>,
        action: impl AsyncFnOnce(&Interrupt) -> Result<Option<u64>, CliError>,
    ) -> Result<Outcome, CliError> {
        let Some(interrupt) = self.consent.ask(question).await? else { return Ok(Outcome::Fine) };
        report.applied = true;
        report.changed = action(&interrupt).await?;
        Ok(if interrupt.is_requested() { Outcome::Interrupted } else { Outcome::Fine })
    }
}

impl ConsentArguments {
    /// Checks that somebody can be asked, if the command has to ask. For a call before the command opens the store.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        if self.yes || self.dry_run || (io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Ok(());
        }
        Err(CliError::new("there is no terminal to ask on: pass --yes"))
    }

    /// Asks a question. Returns `None` unless the answer is yes. The answer to a dry run is no.
    ///
    /// Before this call, ctrl-c ends the process. After it, the command must watch the interrupt.
    pub(crate) async fn ask(&self, question: &str) -> Result<Option<Interrupt>, CliError> {
        if self.dry_run {
            return Ok(None);
        }
        let interrupt = Interrupt::listen();
        if self.yes {
            return Ok(Some(interrupt));
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
        let Some(answer) = interrupt.run_until(answer).await else {
            output::note("");
            return Err(CliError::interrupted());
        };
        let answer = answer.expect("the thread sends an answer");
        let answer = answer.map_err(|error| CliError::caused("cannot read the answer", &error, "pass --yes"))?;
        Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()).then_some(interrupt))
    }
}

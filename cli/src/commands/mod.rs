//! The commands.

mod completions;
mod conform;
mod doctor;
mod explain;
mod inbox;
mod ledger;
mod migrate;
mod send;
mod sign;

use clap::Subcommand;

use crate::{error::CliError, outcome::Outcome, output::Output};

/// A command with its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Sign(sign::Sign),
    Send(send::Send),
    Explain(explain::Explain),
    Conform(conform::Conform),
    Inbox(inbox::Inbox),
    Ledger(ledger::Ledger),
    Migrate(migrate::Migrate),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
}

/// Runs a command of this command line.
pub(crate) async fn run(command: Command, definition: clap::Command, output: &mut Output) -> Result<Outcome, CliError> {
    match command {
        Command::Sign(sign) => sign.run(output),
        Command::Send(send) => send.run(output).await,
        Command::Explain(explain) => explain.run(output),
        Command::Conform(conform) => conform.run(output).await,
        Command::Inbox(inbox) => inbox.run(output).await,
        Command::Ledger(ledger) => ledger.run(output).await,
        Command::Migrate(migrate) => migrate.run(output).await,
        Command::Doctor(doctor) => doctor.run(output).await,
        Command::Completions(completions) => completions.run(definition, output),
    }
}

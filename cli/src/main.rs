//! The command `klikit`: plays klikit towards a receiver of its webhooks, explains deliveries that do not verify, and
//! operates an inbox.
//!
//! The exit code is 0 if all is fine, 1 if a fault was found, 2 for a fault of the usage, the input or the environment,
//! and 130 after ctrl-c or SIGTERM.

mod arguments;
mod audit;
mod basic;
mod commands;
mod consent;
mod error;
mod exchange;
mod fixtures;
mod header_value;
mod input;
mod interrupt;
mod json_edit;
mod outcome;
mod output;
mod random;
mod report;
mod secret;
mod store;
mod target;

use std::process::ExitCode;

use clap::CommandFactory;

use self::{arguments::Arguments, error::CliError, outcome::Outcome, output::Output};

fn main() -> ExitCode {
    let arguments = match Arguments::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    run(arguments).map_or_else(|error| error.report(), ExitCode::from)
}

#[tokio::main]
async fn run(arguments: Arguments) -> Result<Outcome, CliError> {
    let mut output = Output::new(arguments.format());
    let outcome = commands::run(arguments.command, Arguments::command(), &mut output).await?;
    output.flush()?;
    Ok(outcome)
}

//! The command line.

use std::process::ExitCode;

use clap::{
    Parser,
    builder::styling::{AnsiColor, Styles},
    error::ErrorKind,
};

use crate::{commands::Command, error::CliError, output::Format};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default());

/// Plays klikit towards a receiver of its webhooks, explains deliveries that do not verify, and operates an inbox
#[derive(Debug, Parser)]
#[command(name = "klikit", version, styles = STYLES, max_term_width = 100, after_help = EXIT_CODES_AND_EXAMPLES)]
pub(crate) struct Arguments {
    /// Print JSON, with field names that do not change
    #[arg(long, global = true, display_order = 900)]
    json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES_AND_EXAMPLES: &str = "\
Exit codes: 0 fine, 1 fault found, 2 fault of the usage, the input or the environment, 130 ctrl-c

Examples:
  klikit sign body.json
  klikit send http://localhost:8080/webhooks/klikit";

impl Arguments {
    /// Reads the arguments of this process. If they name no command, prints help or an error, and returns the exit code.
    pub(crate) fn parse() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                // A reader that is gone, such as `head`, is no fault.
                let _ = error.print();
                ExitCode::from(if error.use_stderr() { 2 } else { 0 })
            }
            _ => CliError::new(message(&error)).report(),
        })
    }

    /// Returns the format of the output.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Text }
    }
}

/// Returns clap's error as one line, without the usage.
fn message(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let paragraphs = text.split("\n\n").filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more"));
    let mut sentences: Vec<_> = paragraphs.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    sentences.push("see --help".into());
    sentences.join("; ")
}

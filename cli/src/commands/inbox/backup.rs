//! `klikit inbox backup`: a copy of a SQLite store.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::{
    error::CliError,
    interrupt::Interrupt,
    outcome::Outcome,
    output::{self, Output},
    store::{Backend, Location, StoreArguments},
};

/// Copy a SQLite store into a new file, while services use it
///
/// The copy contains customers' data, and is private to its owner. Ctrl-c deletes an incomplete copy.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox backup klikit-backup.db")]
pub(super) struct Backup {
    /// The new file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// The output with `--json`.
#[derive(Serialize)]
struct BackupReport {
    store: String,
    backup: String,
}

impl Backup {
    pub(super) async fn run(&self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        let location = arguments.location()?;
        if matches!(location, Location::Database(_)) {
            return Err(CliError::new(format_args!("{location} is not a SQLite file: back it up with pg_dump")));
        }
        let store = arguments.open().await?;
        if let Backend::Sqlite(sqlite) = &store.backend {
            let Some(copied) = Interrupt::listen().run_until(sqlite.backup(&self.file)).await else {
                // Waits until the incomplete copy is deleted. Whether the log is left is of no interest.
                let _ = sqlite.close().await;
                output::note("Interrupted. An incomplete copy is deleted.");
                return Ok(Outcome::Interrupted);
            };
            copied.map_err(|error| {
                CliError::new(format_args!("{error}: name a new file in a folder that can be written"))
            })?;
        }
        let backup = self.file.display().to_string();
        if output.is_json() {
            output.json(&BackupReport { store: store.name, backup })?;
        } else {
            output.line(format_args!("Copied the store to {backup}."))?;
        }
        Ok(Outcome::Fine)
    }
}

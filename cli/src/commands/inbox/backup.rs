//! `klikit inbox backup`: a copy of a SQLite store.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::{
    error::CliError,
    outcome::Outcome,
    output::Output,
    store::{Backend, Location, StoreArguments},
};

/// Copy a SQLite store into a new file, while services use it
///
/// The copy contains customers' data, and is private to its owner.
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
struct Report {
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
            sqlite.backup(&self.file).await.map_err(|error| {
                CliError::new(format_args!("{error}: name a new file in a folder that can be written"))
            })?;
        }
        let backup = self.file.display().to_string();
        if output.is_json() {
            output.json(&Report { store: store.name, backup })?;
        } else {
            output.line(format_args!("Copied the store to {backup}."))?;
        }
        Ok(Outcome::Fine)
    }
}

//! `klikit migrate`: the schema of a store.

use clap::Args;
use serde::Serialize;

use crate::{
    consent::ConsentArguments,
    error::CliError,
    outcome::Outcome,
    output::{self, Output},
    store::{Location, Parts, PendingMigration, PendingMigrations, StoreArguments},
};

/// Apply the migrations that a store lacks, or print their SQL
///
/// Stop the processes of older releases first: they cannot use the migrated tables. A file must exist already.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit migrate --print
  klikit migrate --dry-run
  klikit migrate --ledger-only --dry-run
  klikit migrate --yes")]
pub(crate) struct Migrate {
    /// Print the SQL for your own migration tool, and change nothing
    #[arg(long, conflicts_with_all = ["yes", "dry_run"])]
    print: bool,

    /// Leave out the tables of the inbox, for a service that only has the dedupe layer
    #[arg(long)]
    ledger_only: bool,

    #[command(flatten)]
    consent: ConsentArguments,

    #[command(flatten)]
    store: StoreArguments,
}

/// The output with `--json`.
#[derive(Serialize)]
struct MigrationReport {
    store: String,
    /// The migrations that the store lacked.
    pending: Vec<Step>,
    /// Whether they were applied, or `null` if ctrl-c ended the command meanwhile.
    applied: Option<bool>,
}

#[derive(Serialize)]
struct Step {
    part: String,
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    sql: Option<String>,
}

impl Migrate {
    pub(crate) async fn run(&self, output: &mut Output) -> Result<Outcome, CliError> {
        let location = self.store.location()?;
        if !self.print {
            self.consent.check()?;
        }
        let pending = self.store.pending_migrations(&location).await?.of(self.parts());
        output::note(format_args!("store: {location}"));
        let applied =
            if self.print || pending.is_empty() { Some(false) } else { self.apply(&location, &pending).await? };
        if output.is_json() {
            let step = |PendingMigration { part, version, sql }: &PendingMigration| Step {
                part: part.clone(),
                version: *version,
                sql: self.print.then(|| sql.clone()),
            };
            let pending = pending.iter().map(step).collect();
            output.json(&MigrationReport { store: location.to_string(), pending, applied })?;
        } else if pending.is_empty() {
            output.line(if self.print {
                "-- The store lacks no migration."
            } else {
                "The store lacks no migration."
            })?;
        } else if self.print {
            output.line("BEGIN;\n")?;
            pending.iter().try_for_each(|step| output.line(&step.sql))?;
            output.line("COMMIT;")?;
        } else {
            let names = pending.names();
            output.line(match applied {
                None => format!("Interrupted. `klikit migrate --dry-run` shows what is left of {names}."),
                Some(true) => format!("Applied {names}."),
                Some(false) if self.consent.dry_run => format!("Migrate would apply {names}."),
                Some(false) => "Nothing was changed.".into(),
            })?;
        }
        Ok(if applied.is_some() { Outcome::Fine } else { Outcome::Interrupted })
    }

    fn parts(&self) -> Parts {
        if self.ledger_only { Parts::Ledger } else { Parts::LedgerAndInbox }
    }

    /// Applies the migrations, if that is wanted. Returns whether it was, or `None` after ctrl-c.
    async fn apply(&self, location: &Location, pending: &PendingMigrations) -> Result<Option<bool>, CliError> {
        let question = format!("Apply {} to {location}?", pending.names());
        let Some(interrupt) = self.consent.ask(&question).await? else { return Ok(Some(false)) };
        let migrated = interrupt.run_until(self.store.connect(location, self.parts())).await.transpose()?;
        Ok(migrated.map(|_| true))
    }
}

//! `klikit doctor`: the checks of a service's secret, its store and its inbox.

mod clock;
mod inbox;
mod row;
mod secret;
mod store;

use clap::Args;
use serde::Serialize;
use tower_klikit::inbox::Inbox;

use self::row::{Level, Row};
use crate::{
    error::CliError,
    outcome::Outcome,
    output::{self, Output},
    secret::SecretArguments,
    store::StoreArguments,
};

/// Check the secret, the store, its schema, the inbox and the clock in one go
///
/// Changes no delivery and no table. Run it with the environment of the service, so that it checks the same secret and
/// store. Without a store, only the secret is checked. A missing secret is a blocker, and is not asked for. After a
/// rotation, the old secret in KLIKIT_WEBHOOK_SECRET_OLD is checked too.
///
/// Each row is ok, a warning, a blocker or not checked. A blocker keeps a service from receiving or handling
/// deliveries. A warning is for somebody to look at.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 no blocker and no warning, 1 a blocker or a warning, 2 fault of the usage, the input
or the environment, such as an invalid URL or a missing file

Examples:
  klikit doctor
  klikit doctor --store klikit.db
  klikit doctor --store klikit.db --json")]
pub(crate) struct Doctor {
    #[command(flatten)]
    secret: SecretArguments,

    /// The limit `max_stored` of the service's inbox
    #[arg(long, value_name = "DELIVERIES", default_value_t = Inbox::DEFAULT_MAX_STORED)]
    max_stored: u64,

    #[command(flatten)]
    store: StoreArguments,
}

/// The output with `--json`.
#[derive(Serialize)]
struct DoctorReport {
    /// The store's place without a password, or `null` if none was given.
    store: Option<String>,
    blockers: usize,
    warnings: usize,
    rows: Vec<Row>,
}

impl Doctor {
    pub(crate) async fn run(&self, output: &mut Output) -> Result<Outcome, CliError> {
        let mut rows = vec![secret::check(&self.secret)?];
        rows.extend(store::check(&self.store, self.max_stored).await?);
        let store = self.store.location_if_given()?.map(|location| location.to_string());
        if let Some(store) = &store {
            output::note(format_args!("store: {store}"));
        }
        let count = |level| rows.iter().filter(|row| row.result == level).count();
        let (blockers, warnings) = (count(Level::Blocker), count(Level::Warning));
        let report = DoctorReport { store, blockers, warnings, rows };
        report.print(output)?;
        Ok(if blockers + warnings == 0 { Outcome::Fine } else { Outcome::FaultFound })
    }
}

impl DoctorReport {
    fn print(&self, output: &mut Output) -> Result<(), CliError> {
        if output.is_json() {
            return output.json(self);
        }
        let mut table = output::table(&["check", "result", "seen", "what to do"]);
        for Row { check, result, seen, action } in &self.rows {
            table.add_row([check.name(), result.name(), seen, action.as_deref().unwrap_or("-")]);
        }
        output.table(&table)?;
        output.line(format_args!("\nBlockers: {}. Warnings: {}.", self.blockers, self.warnings))
    }
}

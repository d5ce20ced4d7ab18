//! `klikit ledger forget`: the action on the ledger.

use clap::Args;
use serde::Serialize;

use super::target::{Target, TargetArguments};
use crate::{
    audit,
    consent::{ConsentArguments, OperatorArguments},
    error::CliError,
    interrupt::Interrupt,
    outcome::Outcome,
    output::Output,
    store::{LedgerStore, StoreArguments, values},
};

/// Forget deliveries that were handled or dead-lettered, so that klikit can send them again
///
/// Also forgets those that were handled and are not stored any more. A pending delivery stays. Request the replay from
/// klikit after this command.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit ledger forget --event-id evt-1 --dry-run
  klikit ledger forget --event-id evt-1 --yes
  klikit ledger forget --accepted 2026-11-26T18:00:00+07:00..2026-11-26T19:30:00+07:00 --yes")]
pub(super) struct Forget {
    #[command(flatten)]
    target: TargetArguments,

    #[command(flatten)]
    operator: OperatorArguments,

    #[command(flatten)]
    consent: ConsentArguments,

    /// Print what would change, and change nothing
    #[arg(long, help_heading = "Consent")]
    dry_run: bool,
}

/// The output with `--json`.
#[derive(Serialize)]
struct Report<'a> {
    store: &'a str,
    action: &'static str,
    operator: &'a str,
    /// The number of deliveries that the action applies to.
    selected: u64,
    /// The number of forgotten deliveries. Absent if ctrl-c ended the command.
    changed: Option<u64>,
    dry_run: bool,
}

impl Forget {
    pub(super) async fn run(self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        if !self.dry_run {
            self.consent.check()?;
        }
        let operator = self.operator.name()?;
        let store = arguments.open_ledger().await?;
        audit::log_to_stderr();

        let target = self.target.target();
        let selected = count(&store, &target, &operator).await?;
        let mut report = Report {
            store: &store.name,
            action: "forget",
            operator: &operator,
            selected,
            changed: Some(0),
            dry_run: self.dry_run,
        };
        // Until now, nothing has changed, and ctrl-c ends the process.
        let interrupt = Interrupt::listen();
        let question = format!("Forget {} ({target}) in {}?", values::deliveries(selected), store.name);
        if selected > 0 && !self.dry_run && self.consent.ask(&question, &interrupt).await? {
            report.changed = tokio::select! {
                forgotten = forget(&store, &target, &operator) => Some(forgotten?),
                // The store may have forgotten some, or all.
                () = interrupt.requested() => None,
            };
        }
        report.print(output)?;
        Ok(if report.changed.is_some() { Outcome::Fine } else { Outcome::Interrupted })
    }
}

/// Returns the number of deliveries to forget.
async fn count(store: &LedgerStore, target: &Target, operator: &str) -> Result<u64, CliError> {
    match &store.inbox {
        Some(inbox) => target.forget(&inbox.operator(operator)).preview().await.map_err(|error| store.failed(&error)),
        None => store.count(&target.selection()).await,
    }
}

/// Forgets the deliveries and logs the action. Returns the number of forgotten deliveries.
async fn forget(store: &LedgerStore, target: &Target, operator: &str) -> Result<u64, CliError> {
    match &store.inbox {
        Some(inbox) => target.forget(&inbox.operator(operator)).run().await.map_err(|error| store.failed(&error)),
        None => {
            let mut line = audit::Line::new(operator, "forget", &target.filter());
            line.deliveries = store.forget(&target.selection()).await?;
            Ok(line.deliveries)
        }
    }
}

impl Report<'_> {
    fn print(&self, output: &mut Output) -> Result<(), CliError> {
        if output.is_json() {
            return output.json(self);
        }
        let selected = values::deliveries(self.selected);
        match self.changed {
            _ if self.dry_run => output.line(format_args!("Forget would apply to {selected}.")),
            None => output.line(format_args!("Interrupted by ctrl-c. Some or all of {selected} may be forgotten.")),
            Some(0) if self.selected == 0 => output.line("Forget applies to no delivery."),
            Some(0) => output.line("Nothing was changed."),
            Some(changed) => output.line(format_args!("Forgot {}.", values::deliveries(changed))),
        }
    }
}

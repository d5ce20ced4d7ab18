//! `klikit ledger forget`: the action on the ledger.

use clap::Args;

use super::target::{Target, TargetArguments};
use crate::{
    audit,
    consent::ActingArguments,
    error::CliError,
    interrupt::Interrupt,
    outcome::Outcome,
    output::Output,
    report::Report,
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
    acting: ActingArguments,
}

impl Forget {
    pub(super) async fn run(self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        let operator = self.acting.operator()?;
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
            dry_run: self.acting.dry_run,
        };
        // Until now, nothing has changed, and ctrl-c ends the process.
        let interrupt = Interrupt::listen();
        let question = format!("Forget {} ({target}) in {}?", values::deliveries(selected), store.name);
        if selected > 0 && self.acting.ask(&question, &interrupt).await? {
            report.changed = tokio::select! {
                forgotten = forget(&store, &target, &operator) => Some(forgotten?),
                // The store may have forgotten some, or all.
                () = interrupt.requested() => None,
            };
        }
        let line = report.line("Forget", "Forgot", |selected| format!("Some or all of {selected} may be forgotten."));
        report.print(line, output)?;
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

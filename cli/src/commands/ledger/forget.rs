//! `klikit ledger forget`: the action on the ledger.

use clap::Args;

use super::events::{EventArguments, Events};
use crate::{
    audit,
    consent::ActingArguments,
    error::CliError,
    interrupt::Interrupt,
    outcome::Outcome,
    output::Output,
    store::{LedgerStore, StoreArguments, values},
};

/// Forget deliveries that were handled or dead-lettered, so that klikit can send them again
///
/// Also forgets those that were handled and are not stored any more. A pending delivery of an inbox stays. A store without
/// an inbox also forgets the deliveries that are being handled. Request the replay from klikit after this command.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit ledger forget --event-id evt-1 --dry-run
  klikit ledger forget --event-id evt-1 --yes
  klikit ledger forget --accepted 2026-11-26T18:00:00+07:00..2026-11-26T19:30:00+07:00 --yes")]
pub(super) struct ForgetEntries {
    #[command(flatten)]
    events: EventArguments,

    #[command(flatten)]
    acting: ActingArguments,
}

impl ForgetEntries {
    pub(super) async fn run(self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        let operator = self.acting.operator()?;
        let store = arguments.open_ledger().await?;
        audit::log_to_stderr();

        let events = self.events.events();
        let mut report = self.acting.report("forget", &operator, &store.name);
        report.selected = count(&store, &events, &operator).await?;
        let deliveries = values::deliveries(report.selected);
        // Only the ledger of an inbox tells which deliveries are pending.
        let running = if store.inbox.is_some() { "" } else { ", also those that are being handled" };
        let question = format!("Forget {deliveries} ({events}) in {}{running}?", store.name);
        let mut outcome = Outcome::Fine;
        if report.selected > 0 {
            let act = async |interrupt: &Interrupt| {
                let forgotten = interrupt.run_until(forget(&store, &events, &operator)).await;
                forgotten.transpose()
            };
            outcome = self.acting.act(&question, &mut report, act).await?;
        }
        report.print(report.line("Forget", "Forgot", outcome), output)?;
        Ok(outcome)
    }
}

/// Returns the number of deliveries to forget.
async fn count(store: &LedgerStore, events: &Events, operator: &str) -> Result<u64, CliError> {
    match &store.inbox {
        Some(inbox) => events.forget(&inbox.operator(operator)).preview().await.map_err(|error| store.failed(&error)),
        None => store.count(&events.selection()).await,
    }
}

/// Forgets the deliveries and logs the action. Returns the number of forgotten deliveries.
async fn forget(store: &LedgerStore, events: &Events, operator: &str) -> Result<u64, CliError> {
    match &store.inbox {
        Some(inbox) => events.forget(&inbox.operator(operator)).run().await.map_err(|error| store.failed(&error)),
        None => {
            let mut line = audit::AuditLine::new(operator, "forget", &events.filter());
            let forgotten = store.forget(&events.selection()).await?;
            line.deliveries = Some(forgotten);
            Ok(forgotten)
        }
    }
}

//! `klikit ledger`: the record of the deliveries that were handled.

mod events;
mod forget;
mod show;

use clap::{Args, Subcommand};

use self::{forget::ForgetEntries, show::ShowEntries};
use crate::{error::CliError, outcome::Outcome, output::Output, store::StoreArguments};

/// Look into the ledger, which tells duplicates from new deliveries, and act on it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit ledger show --event-id evt-1
  klikit ledger forget --event-id evt-1 --dry-run")]
pub(crate) struct Ledger {
    #[command(flatten)]
    store: StoreArguments,

    #[command(subcommand)]
    command: LedgerCommand,
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    Show(ShowEntries),
    Forget(ForgetEntries),
}

impl Ledger {
    pub(crate) async fn run(self, output: &mut Output) -> Result<Outcome, CliError> {
        match self.command {
            LedgerCommand::Show(show) => show.run(&self.store, output).await,
            LedgerCommand::Forget(forget) => forget.run(&self.store, output).await,
        }
    }
}

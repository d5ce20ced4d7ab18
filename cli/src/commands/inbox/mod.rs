//! `klikit inbox`: the deliveries of an inbox.

mod action;
mod actions;
mod backup;
mod list;
mod pauses;
mod record;
mod selection;
mod show;
mod stats;
mod tail;

use clap::{Args, Subcommand};

use crate::{error::CliError, outcome::Outcome, output::Output, store::StoreArguments};

/// Look at the deliveries of an inbox, and act on them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox stats --store klikit.db
  klikit inbox list --state dead --reason 'out of paper'
  klikit inbox retry --all --dry-run")]
pub(crate) struct Inbox {
    #[command(flatten)]
    store: StoreArguments,

    #[command(subcommand)]
    command: InboxCommand,
}

#[derive(Debug, Subcommand)]
enum InboxCommand {
    Stats(stats::Stats),
    List(list::List),
    Show(show::Show),
    Tail(tail::Tail),
    Retry(actions::Retry),
    Replay(actions::Replay),
    DeadLetter(actions::DeadLetter),
    Forget(actions::Forget),
    Erase(actions::Erase),
    Purge(actions::Purge),
    Pause(pauses::PauseDeliveries),
    Resume(pauses::Resume),
    Pauses(pauses::Pauses),
    Backup(backup::Backup),
}

impl Inbox {
    pub(crate) async fn run(self, output: &mut Output) -> Result<Outcome, CliError> {
        let store = &self.store;
        match self.command {
            InboxCommand::Stats(stats) => stats.run(store, output).await,
            InboxCommand::List(list) => list.run(store, output).await,
            InboxCommand::Show(show) => show.run(store, output).await,
            InboxCommand::Tail(tail) => tail.run(store, output).await,
            InboxCommand::Retry(retry) => retry.run(store, output).await,
            InboxCommand::Replay(replay) => replay.run(store, output).await,
            InboxCommand::DeadLetter(dead_letter) => dead_letter.run(store, output).await,
            InboxCommand::Forget(forget) => forget.run(store, output).await,
            InboxCommand::Erase(erase) => erase.run(store, output).await,
            InboxCommand::Purge(purge) => purge.run(store, output).await,
            InboxCommand::Pause(pause) => pause.run(store, output).await,
            InboxCommand::Resume(resume) => resume.run(store, output).await,
            InboxCommand::Pauses(pauses) => pauses.run(store, output).await,
            InboxCommand::Backup(backup) => backup.run(store, output).await,
        }
    }
}

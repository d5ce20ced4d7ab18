//! `klikit inbox retry`, `replay`, `dead-letter`, `forget`, `erase` and `purge`.

use std::num::NonZeroU32;

use clap::Args;

use super::action::{Action, ActionArguments};
use crate::{error::CliError, outcome::Outcome, output::Output, store::StoreArguments};

/// Make dead letters pending again, and count their attempts from zero
///
/// A delivery returns to its old place among the deliveries that share its ordering keys.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox retry 1 --yes
  klikit inbox retry --reason 'out of paper' --younger-than 1h --rate 5 --yes
  klikit inbox retry --all --dry-run")]
pub(super) struct Retry {
    #[command(flatten)]
    action: ActionArguments,

    #[command(flatten)]
    rate: RateArguments,
}

/// Make handled deliveries pending again, so that they are handled once more
///
/// Applies to deliveries that the inbox keeps with their bodies.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox replay 2 --yes
  klikit inbox replay --accepted 2026-11-26T18:00:00+07:00.. --rate 20 --dry-run")]
pub(super) struct Replay {
    #[command(flatten)]
    action: ActionArguments,

    #[command(flatten)]
    rate: RateArguments,
}

/// Dead-letter pending deliveries
///
/// A selection applies to pending deliveries only if it names their state. A handler that is running continues, and its
/// success counts.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox dead-letter 3 --reason-text 'crashes the handler' --yes
  klikit inbox dead-letter --order 42 --state ready --reason-text cancelled --dry-run")]
pub(super) struct DeadLetter {
    #[command(flatten)]
    action: ActionArguments,

    /// The reason that the dead letters will have
    #[arg(long, value_name = "TEXT", help_heading = "Action")]
    reason_text: String,
}

/// Delete deliveries and forget that they came, so that klikit can send them again
///
/// Without ids, applies to dead letters and handled deliveries. A pending delivery is selected only by its id or its
/// state, and is then not handled unless klikit sends it again. `klikit ledger forget` also forgets deliveries that were
/// handled and are not stored any more.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox forget 1 --yes
  klikit inbox forget --event-id evt-1 --dry-run")]
pub(super) struct Forget {
    #[command(flatten)]
    action: ActionArguments,
}

/// Delete deliveries with all customers' data
///
/// Copies of the deliveries are still duplicates. Without ids, applies to dead letters and handled deliveries. A pending
/// delivery is selected only by its id or its state, and is then not handled.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox erase 1 --yes
  klikit inbox erase --order 42 --dry-run")]
pub(super) struct Erase {
    #[command(flatten)]
    action: ActionArguments,
}

/// Delete dead letters and handled deliveries to make space
///
/// Never touches a pending delivery. Copies of the deliveries are still duplicates.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox purge --older-than 7d --yes
  klikit inbox purge --state done --older-than 1h --dry-run")]
pub(super) struct Purge {
    #[command(flatten)]
    action: ActionArguments,
}

#[derive(Debug, Args)]
struct RateArguments {
    /// The maximum number of deliveries that become pending in a second
    #[arg(long, value_name = "NUMBER", help_heading = "Action")]
    rate: Option<NonZeroU32>,
}

impl RateArguments {
    fn per_second(&self) -> Option<u32> {
        self.rate.map(NonZeroU32::get)
    }
}

impl Retry {
    pub(super) async fn run(&self, store: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        self.action.run(&Action::Retry { rate: self.rate.per_second() }, store, output).await
    }
}

impl Replay {
    pub(super) async fn run(&self, store: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        self.action.run(&Action::Replay { rate: self.rate.per_second() }, store, output).await
    }
}

impl DeadLetter {
    pub(super) async fn run(&self, store: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        self.action.run(&Action::DeadLetter { reason: self.reason_text.clone() }, store, output).await
    }
}

impl Forget {
    pub(super) async fn run(&self, store: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        self.action.run(&Action::Forget, store, output).await
    }
}

impl Erase {
    pub(super) async fn run(&self, store: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        self.action.run(&Action::Erase, store, output).await
    }
}

impl Purge {
    pub(super) async fn run(&self, store: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        self.action.run(&Action::Purge, store, output).await
    }
}

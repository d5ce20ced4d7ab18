//! `klikit ledger`: the record of the deliveries that were handled.

use std::{fmt, ops::Range, time::SystemTime};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    audit,
    consent::{ConsentArguments, OperatorArguments},
    error::{CliError, one_line},
    interrupt::Interrupt,
    outcome::Outcome,
    output::Output,
    store::{StoreArguments, values},
};

/// Act on the ledger, which tells duplicates from new deliveries
#[derive(Debug, Args)]
pub(crate) struct Ledger {
    #[command(flatten)]
    store: StoreArguments,

    #[command(subcommand)]
    command: LedgerCommand,
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    Forget(Forget),
}

/// Forget deliveries that were handled or dead-lettered, so that klikit can send them again
///
/// Also forgets those that were handled and are not stored any more, which cannot be counted first. A pending delivery
/// stays. Request the replay from klikit after this command.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit ledger forget --event-id evt-1 --yes
  klikit ledger forget --accepted 2026-11-26T18:00:00+07:00..2026-11-26T19:30:00+07:00 --yes")]
struct Forget {
    /// Forget the event with this id
    #[arg(long, value_name = "ID", required_unless_present = "accepted", conflicts_with = "accepted")]
    event_id: Option<String>,

    /// The name of the keyring that verified the event
    #[arg(long, value_name = "NAME", default_value = "default", conflicts_with = "accepted")]
    tenant: String,

    /// Forget all events that were accepted from FROM to before TO, in RFC 3339. Either end can be left out
    #[arg(long, value_name = "FROM..TO", value_parser = values::window)]
    accepted: Option<Range<SystemTime>>,

    #[command(flatten)]
    operator: OperatorArguments,

    #[command(flatten)]
    consent: ConsentArguments,
}

/// The events to forget.
enum Target {
    Event { tenant: String, id: String },
    Accepted(Range<SystemTime>),
}

/// The output with `--json`.
#[derive(Serialize)]
struct Report<'a> {
    store: &'a str,
    action: &'static str,
    operator: &'a str,
    /// The number of forgotten deliveries. Absent if ctrl-c ended the command.
    changed: Option<u64>,
}

impl Ledger {
    pub(crate) async fn run(self, output: &mut Output) -> Result<Outcome, CliError> {
        match self.command {
            LedgerCommand::Forget(forget) => forget.run(&self.store, output).await,
        }
    }
}

impl Forget {
    async fn run(self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        self.consent.check()?;
        let name = self.operator.name()?;
        let store = arguments.open().await?;
        audit::log_to_stderr();

        let target = match (self.accepted, self.event_id) {
            (Some(window), _) => Target::Accepted(window),
            (None, id) => Target::Event { tenant: self.tenant, id: id.expect("an event id or a window is required") },
        };
        let question = format!("Forget {target} in {}?", store.name);
        let interrupt = Interrupt::listen();
        if !self.consent.ask(&question, &interrupt).await? {
            return report(&store.name, &name, Some(0), output);
        }
        let operator = store.inbox.operator(&*name);
        let forget = async {
            match target {
                Target::Accepted(window) => operator.forget_accepted(window).await,
                Target::Event { tenant, id } => operator.forget_event(&tenant, &id).await,
            }
        };
        let changed = tokio::select! {
            forgotten = forget => Some(forgotten.map_err(|error| store.failed(&error))?),
            // The store may have forgotten some, or all.
            () = interrupt.requested() => None,
        };
        report(&store.name, &name, changed, output)
    }
}

fn report(store: &str, operator: &str, changed: Option<u64>, output: &mut Output) -> Result<Outcome, CliError> {
    if output.is_json() {
        output.json(&Report { store, action: "forget", operator, changed })?;
    } else {
        match changed {
            None => output.line("Interrupted by ctrl-c. Some or all of the deliveries may be forgotten.")?,
            Some(changed) => output.line(format_args!("Forgot {}.", values::deliveries(changed)))?,
        }
    }
    Ok(if changed.is_some() { Outcome::Fine } else { Outcome::Interrupted })
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { tenant, id } => write!(f, "the event {} of {}", one_line(id), one_line(tenant)),
            Self::Accepted(Range { start, end }) => {
                write!(f, "all events from {} to {}", values::time(*start), values::time(*end))
            }
        }
    }
}

//! `klikit inbox pause`, `resume` and `pauses`.

use std::fmt;

use clap::Args;
use serde::Serialize;
use tower_klikit::inbox::{ActivePause, DeliveryState, Filter, Pause};

use super::record::shown;
use crate::{
    audit,
    consent::ActingArguments,
    error::CliError,
    interrupt::Interrupt,
    outcome::Outcome,
    output::{self, Output},
    store::{Store, StoreArguments, values},
};

/// The number of deliveries that one call reads.
const PAGE: u32 = 500;

/// The number of calls that count the deliveries of a pause, which are up to 10,000 deliveries.
const MAX_PAGES: u32 = 20;

/// The line for a person after ctrl-c during a call.
const INTERRUPTED: &str = "Interrupted. `klikit inbox pauses` shows what is in force.";

/// Keep workers from starting deliveries, until they are resumed
///
/// The pause is stored, so that all workers that share the store obey it. Deliveries are accepted and stored as before.
/// Running handlers finish.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox pause --tenant default --yes
  klikit inbox pause --event-type klikit.order.created.v2 --dry-run
  klikit inbox pause --all --yes")]
pub(super) struct PauseDeliveries {
    #[command(flatten)]
    part: PauseArguments,

    #[command(flatten)]
    acting: ActingArguments,
}

/// Lift a pause
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox resume --tenant default --yes
  klikit inbox resume --all --yes")]
pub(super) struct Resume {
    #[command(flatten)]
    part: PauseArguments,

    #[command(flatten)]
    acting: ActingArguments,
}

/// List the pauses that are in force
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox pauses")]
pub(super) struct Pauses {}

/// The deliveries of a pause.
#[derive(Debug, Args)]
struct PauseArguments {
    /// The deliveries that the keyring with this name has verified
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,

    /// The deliveries with this event type
    #[arg(long, value_name = "TYPE")]
    event_type: Option<String>,

    /// All deliveries. `resume --all` lifts every pause that is in force
    #[arg(long, conflicts_with_all = ["tenant", "event_type"])]
    all: bool,
}

/// The ready deliveries of a pause.
struct Ready {
    counted: u64,
    /// Whether there may be more, which were not counted.
    is_at_least: bool,
}

/// A pause with `--json`.
#[derive(Serialize)]
struct PauseRecord {
    /// The tenant, or `null` for every tenant.
    tenant: Option<String>,
    /// The event type, or `null` for every event type.
    event_type: Option<String>,
    operator: String,
    since: String,
}

/// The output of `pauses` with `--json`.
#[derive(Serialize)]
struct PausesReport {
    store: String,
    pauses: Vec<PauseRecord>,
}

impl PauseArguments {
    /// Returns the pause that the options name.
    fn pause(&self, action: &str) -> Result<Pause, CliError> {
        let Self { tenant, event_type, all } = self;
        if !all && tenant.is_none() && event_type.is_none() {
            return Err(CliError::new(format_args!("{action} needs --tenant, --event-type or --all: see --help")));
        }
        Ok(Pause { tenant: tenant.clone(), event_type: event_type.clone() })
    }
}

impl Ready {
    /// Counts the deliveries with few calls, because a pause can be urgent.
    async fn count(store: &Store, pause: &Pause) -> Result<Self, CliError> {
        if *pause == Pause::everything() {
            let counts = store.inbox.counts().await.map_err(|error| store.failed(&error))?;
            return Ok(Self { counted: counts.ready, is_at_least: false });
        }
        let Pause { tenant, event_type } = pause.clone();
        let filter = Filter { tenant, event_type, ..Filter::new().states([DeliveryState::Ready]) };
        let (mut counted, mut after) = (0, None);
        for _ in 0..MAX_PAGES {
            let page = store.inbox.find(&filter, after, PAGE).await.map_err(|error| store.failed(&error))?;
            counted += page.entries.len() as u64;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(Self { counted, is_at_least: after.is_some() })
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_at_least { "at least " } else { "" })?;
        f.write_str(&values::deliveries(self.counted))
    }
}

impl PauseDeliveries {
    pub(super) async fn run(&self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        let pause = self.part.pause("pause")?;
        let operator = self.acting.operator()?;
        let store = arguments.open().await?;
        audit::log_to_stderr();

        let mut report = self.acting.report("pause", &operator, &store.name);
        let ready = Ready::count(&store, &pause).await?;
        report.selected = ready.counted;
        let question = format!("Pause {pause} in {}, with {ready} ready?", store.name);
        let act = async |interrupt: &Interrupt| {
            let paused = interrupt.run_until(store.inbox.operator(&*operator).pause(&pause)).await;
            paused.transpose().map_err(|error| store.failed(&error))
        };
        let outcome = self.acting.act(&question, &mut report, act).await?;
        let line = match report.changed {
            _ if report.dry_run => format!("Pause would hold back {ready}."),
            None => INTERRUPTED.into(),
            Some(_) if report.applied => format!("Paused {pause}. Ready: {ready}."),
            Some(_) => "Nothing was changed.".into(),
        };
        report.print(line, output)?;
        Ok(outcome)
    }
}

impl Resume {
    pub(super) async fn run(&self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        let pause = self.part.pause("resume")?;
        let operator = self.acting.operator()?;
        let store = arguments.open().await?;
        audit::log_to_stderr();

        let pauses = in_force(&store).await?.into_iter();
        let pauses: Vec<_> = pauses.filter(|active| self.part.all || active.pause == pause).collect();
        if pauses.is_empty() && !self.part.all {
            return Err(CliError::new(format_args!(
                "{} has no pause of {pause}: see `klikit inbox pauses`",
                store.name
            )));
        }
        let mut report = self.acting.report("resume", &operator, &store.name);
        report.selected = pauses.len() as u64;
        let name = |active: &ActivePause| format!("{} (paused by {})", active.pause, shown(Some(&active.operator)));
        let names = pauses.iter().map(name).collect::<Vec<_>>().join(" and ");
        let question = format!("Resume {names} in {}?", store.name);
        let mut outcome = Outcome::Fine;
        if !pauses.is_empty() {
            let act = async |interrupt: &Interrupt| {
                let mut lifted = 0;
                for active in &pauses {
                    let resumed = interrupt.run_until(store.inbox.operator(&*operator).resume(&active.pause)).await;
                    let Some(resumed) = resumed else { return Ok(None) };
                    lifted += u64::from(resumed.map_err(|error| store.failed(&error))?);
                }
                Ok(Some(lifted))
            };
            outcome = self.acting.act(&question, &mut report, act).await?;
        }
        let line = match report.changed {
            _ if pauses.is_empty() => "No pause is in force.".into(),
            _ if report.dry_run => format!("Resume would lift the pauses of {names}."),
            None => INTERRUPTED.into(),
            Some(_) if report.applied => format!("Resumed {names}."),
            Some(_) => "Nothing was changed.".into(),
        };
        report.print(line, output)?;
        Ok(outcome)
    }
}

impl Pauses {
    pub(super) async fn run(&self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        let store = arguments.open().await?;
        let pauses = in_force(&store).await?;
        if output.is_json() {
            let pauses = pauses.into_iter().map(PauseRecord::from).collect();
            output.json(&PausesReport { store: store.name, pauses })?;
        } else if pauses.is_empty() {
            output.line("No pause is in force.")?;
        } else {
            let mut table = output::table(&["tenant", "event type", "operator", "since"]);
            for ActivePause { pause, operator, since } in pauses {
                let part = |part: Option<String>| part.map_or_else(|| "every".into(), |part| shown(Some(&part)));
                table.add_row([
                    part(pause.tenant),
                    part(pause.event_type),
                    shown(Some(&operator)),
                    values::time(since),
                ]);
            }
            output.table(&table)?;
        }
        Ok(Outcome::Fine)
    }
}

impl From<ActivePause> for PauseRecord {
    fn from(ActivePause { pause, operator, since }: ActivePause) -> Self {
        Self { tenant: pause.tenant, event_type: pause.event_type, operator, since: values::time(since) }
    }
}

async fn in_force(store: &Store) -> Result<Vec<ActivePause>, CliError> {
    store.inbox.pauses().await.map_err(|error| store.failed(&error))
}

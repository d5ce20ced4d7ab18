//! `klikit inbox pause`, `resume` and `pauses`.

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
    report::Report,
    store::{Store, StoreArguments, values},
};

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
struct List {
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

impl PauseDeliveries {
    pub(super) async fn run(&self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        let pause = self.part.pause("pause")?;
        let operator = self.acting.operator()?;
        let store = arguments.open().await?;
        audit::log_to_stderr();

        let Pause { tenant, event_type } = pause.clone();
        let ready = Filter { tenant, event_type, ..Filter::new().states([DeliveryState::Ready]) };
        let mut selected = 0;
        store.each(&ready, None, |_| selected += 1).await?;
        let ready = values::deliveries(selected);
        let question = format!("Pause {pause} in {}, with {ready} ready?", store.name);
        let dry_run = self.acting.dry_run;
        let mut report =
            Report { store: &store.name, action: "pause", operator: &operator, selected, changed: Some(0), dry_run };
        let line = if dry_run {
            format!("Pause would hold back {ready}.")
        } else if self.acting.ask(&question, &Interrupt::listen()).await? {
            let paused = store.inbox.operator(&*operator).pause(&pause).await;
            report.changed = Some(paused.map_err(|error| store.failed(&error))?);
            format!("Paused {pause}. Ready: {ready}.")
        } else {
            "Nothing was changed.".into()
        };
        report.print(line, output)?;
        Ok(Outcome::Fine)
    }
}

impl Resume {
    pub(super) async fn run(&self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        let pause = self.part.pause("resume")?;
        let operator = self.acting.operator()?;
        let store = arguments.open().await?;
        audit::log_to_stderr();

        let in_force = in_force(&store).await?.into_iter().map(|active| active.pause);
        let pauses: Vec<_> = in_force.filter(|active| self.part.all || *active == pause).collect();
        if pauses.is_empty() && !self.part.all {
            return Err(CliError::new(format_args!(
                "{} has no pause of {pause}: see `klikit inbox pauses`",
                store.name
            )));
        }
        let names: Vec<_> = pauses.iter().map(ToString::to_string).collect();
        let names = names.join(" and ");
        let (selected, dry_run) = (pauses.len() as u64, self.acting.dry_run);
        let mut report =
            Report { store: &store.name, action: "resume", operator: &operator, selected, changed: Some(0), dry_run };
        let line = if pauses.is_empty() {
            "No pause is in force.".into()
        } else if dry_run {
            format!("Resume would lift the pause of {names}.")
        } else if self.acting.ask(&format!("Resume {names} in {}?", store.name), &Interrupt::listen()).await? {
            let mut lifted = 0;
            for pause in &pauses {
                let resumed = store.inbox.operator(&*operator).resume(pause).await;
                lifted += u64::from(resumed.map_err(|error| store.failed(&error))?);
            }
            report.changed = Some(lifted);
            format!("Resumed {names}.")
        } else {
            "Nothing was changed.".into()
        };
        report.print(line, output)?;
        Ok(Outcome::Fine)
    }
}

impl Pauses {
    pub(super) async fn run(&self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        let store = arguments.open().await?;
        let pauses = in_force(&store).await?;
        if output.is_json() {
            let pauses = pauses.into_iter().map(PauseRecord::from).collect();
            output.json(&List { store: store.name, pauses })?;
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

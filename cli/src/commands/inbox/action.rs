//! The actions on selected deliveries: what each does, and the way that all of them run.

use std::time::Duration;

use clap::Args;
use tokio::time::sleep;
use tower_klikit::{
    dedupe::StoreError,
    inbox::{DeliveryId, DeliveryState, Filter, Operator, Requeue},
};

use super::selection::SelectionArguments;
use crate::{
    audit,
    consent::ActingArguments,
    error::CliError,
    interrupt::Interrupt,
    outcome::Outcome,
    output::Output,
    store::{Store, StoreArguments, values},
};

/// The options that all actions share.
#[derive(Debug, Args)]
pub(super) struct ActionArguments {
    /// The ids of the deliveries
    #[arg(value_name = "ID", value_parser = values::id)]
    ids: Vec<DeliveryId>,

    #[command(flatten)]
    selection: SelectionArguments,

    /// All deliveries in the states that suit the action, instead of ids and a selection
    #[arg(long, help_heading = "Selection")]
    all: bool,

    #[command(flatten)]
    acting: ActingArguments,
}

/// An action on deliveries.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Retry { rate: Option<u32> },
    Replay { rate: Option<u32> },
    DeadLetter { reason: String },
    Forget,
    Erase,
    Purge,
}

impl Action {
    /// Returns the name in the output.
    fn name(&self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Replay { .. } => "replay",
            Self::DeadLetter { .. } => "dead-letter",
            Self::Forget => "forget",
            Self::Erase => "erase",
            Self::Purge => "purge",
        }
    }

    /// Returns the verb for a question, and the participle for a report.
    fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Retry { .. } => ("Retry", "Retried"),
            Self::Replay { .. } => ("Replay", "Replayed"),
            Self::DeadLetter { .. } => ("Dead-letter", "Dead-lettered"),
            Self::Forget => ("Forget", "Forgot"),
            Self::Erase => ("Erase", "Erased"),
            Self::Purge => ("Purge", "Purged"),
        }
    }

    /// Returns the states that suit the action.
    fn suitable(&self) -> &'static [DeliveryState] {
        use DeliveryState::{Dead, Done, Leased, Ready};

        match self {
            Self::Retry { .. } => &[Dead],
            Self::Replay { .. } => &[Done],
            Self::DeadLetter { .. } => &[Ready, Leased],
            Self::Forget | Self::Erase => &values::STATES,
            Self::Purge => &[Dead, Done],
        }
    }

    async fn preview(&self, operator: &Operator, filter: Filter) -> Result<u64, StoreError> {
        match self {
            Self::Retry { .. } => operator.retry(filter).preview().await,
            Self::Replay { .. } => operator.replay(filter).preview().await,
            Self::DeadLetter { reason } => operator.dead_letter(filter, reason).preview().await,
            Self::Forget => operator.forget(filter).preview().await,
            Self::Erase => operator.erase(filter).preview().await,
            Self::Purge => operator.purge(filter).preview().await,
        }
    }

    /// Runs the action until ctrl-c. Returns the number of deliveries that it changed.
    async fn apply(&self, operator: &Operator, filter: Filter, interrupt: &Interrupt) -> Result<u64, StoreError> {
        let stop = interrupt.requested();
        match self {
            Self::Retry { rate } => with_rate(operator.retry(filter), *rate).run_until(stop).await,
            Self::Replay { rate } => with_rate(operator.replay(filter), *rate).run_until(stop).await,
            Self::DeadLetter { reason } => operator.dead_letter(filter, reason).run_until(stop).await,
            Self::Forget => operator.forget(filter).run_until(stop).await,
            Self::Erase => operator.erase(filter).run_until(stop).await,
            Self::Purge => operator.purge(filter).run_until(stop).await,
        }
    }

    /// Returns the time between two deliveries that are selected by their ids, if there is a rate.
    fn interval(&self) -> Option<Duration> {
        match self {
            Self::Retry { rate: Some(rate) } | Self::Replay { rate: Some(rate) } => {
                Some(Duration::from_secs(1) / *rate)
            }
            _ => None,
        }
    }
}

impl ActionArguments {
    /// Runs the action: counts the deliveries, asks, and acts.
    pub(super) async fn run(
        &self,
        action: &Action,
        arguments: &StoreArguments,
        output: &mut Output,
    ) -> Result<Outcome, CliError> {
        self.check(action)?;
        let name = self.acting.operator()?;
        let store = arguments.open().await?;
        audit::log_to_stderr();

        let operator = store.inbox.operator(name.as_str());
        let filters = self.filters(action, &store).await?;
        let mut report = self.acting.report(action.name(), &name, &store.name);
        for filter in &filters {
            let preview = action.preview(&operator, filter.clone()).await;
            report.selected += preview.map_err(|error| store.failed(&error))?;
        }
        let (verb, participle) = action.words();
        let question = format!("{verb} {} in {}?", values::deliveries(report.selected), store.name);
        let mut outcome = Outcome::Fine;
        if report.selected > 0 {
            let act = async |interrupt: &Interrupt| {
                let mut changed = 0;
                for (place, filter) in filters.into_iter().enumerate() {
                    if let Some(interval) = action.interval().filter(|_| place > 0) {
                        interrupt.run_until(sleep(interval)).await;
                    }
                    let applied = action.apply(&operator, filter, interrupt).await;
                    changed += applied.map_err(|error| store.failed(&error))?;
                    if interrupt.is_requested() {
                        break;
                    }
                }
                Ok(Some(changed))
            };
            outcome = self.acting.act(&question, &mut report, act).await?;
        }
        report.print(report.line(verb, participle, outcome), output)?;
        Ok(outcome)
    }

    /// Checks that the options select something that suits the action.
    fn check(&self, action: &Action) -> Result<(), CliError> {
        let name = action.name();
        let selects = !self.ids.is_empty() || !self.selection.is_empty();
        if self.all && selects {
            return Err(CliError::new("--all selects everything: leave it out, or the ids and the selection"));
        }
        if !self.all && !selects {
            return Err(CliError::new(format_args!("{name} needs ids or a selection: see --help, or pass --all")));
        }
        let suitable = action.suitable();
        if let Some(state) = self.selection.states().iter().find(|state| !suitable.contains(state)) {
            let names: Vec<_> = suitable.iter().map(|state| state.as_str()).collect();
            return Err(CliError::new(format_args!(
                "{name} does not apply to deliveries that are {state}: name {}, or leave out --state",
                names.join(" or ")
            )));
        }
        let is_by_state = !self.selection.states().is_empty() || !self.ids.is_empty() || self.all;
        if matches!(action, Action::DeadLetter { .. }) && !is_by_state {
            return Err(CliError::new(format_args!(
                "{name} stops pending deliveries, which a selection must name: add --state ready, --state leased or both"
            )));
        }
        Ok(())
    }

    /// Returns a filter for each id, or one for the whole selection.
    async fn filters(&self, action: &Action, store: &Store) -> Result<Vec<Filter>, CliError> {
        let filter = self.selection.filter(store).await?;
        if !self.ids.is_empty() {
            let mut ids = self.ids.clone();
            ids.sort_unstable();
            ids.dedup();
            return Ok(ids.into_iter().map(|id| filter.clone().id(id)).collect());
        }
        // A filter without states selects no pending delivery.
        let is_pending = self.all && matches!(action, Action::DeadLetter { .. });
        Ok(vec![if is_pending { filter.states(action.suitable().iter().copied()) } else { filter }])
    }
}

fn with_rate(requeue: Requeue, rate: Option<u32>) -> Requeue {
    match rate {
        Some(rate) => requeue.rate(rate),
        None => requeue,
    }
}

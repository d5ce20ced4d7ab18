//! `klikit inbox stats`: the number of deliveries in each state.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use tower_klikit::inbox::{ActivePause, Counts, DeliveryState, Filter};

use super::record::shown;
use crate::{
    error::CliError,
    outcome::Outcome,
    output::{self, Output},
    store::{
        StoreArguments,
        values::{self, STATES},
    },
};

/// Count the deliveries in each state
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox stats --store klikit.db
  klikit inbox stats --reasons")]
pub(super) struct Stats {
    /// Also count the dead letters by their reason
    #[arg(long)]
    reasons: bool,
}

/// The output with `--json`.
#[derive(Serialize)]
struct Report {
    store: String,
    ready: u64,
    leased: u64,
    dead: u64,
    done: u64,
    /// The age of the oldest ready or leased delivery.
    oldest_seconds: Option<u64>,
    /// The number of pauses that are in force.
    pauses: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasons: Option<Vec<ReasonCount>>,
}

#[derive(Serialize)]
struct ReasonCount {
    reason: Option<String>,
    deliveries: u64,
}

impl Stats {
    pub(super) async fn run(&self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        let store = arguments.open().await?;
        let counts = store.inbox.counts().await.map_err(|error| store.failed(&error))?;
        let pauses = store.inbox.pauses().await.map_err(|error| store.failed(&error))?;
        let reasons = if self.reasons {
            let mut numbers: BTreeMap<Option<String>, u64> = BTreeMap::new();
            let dead = Filter::new().states([DeliveryState::Dead]);
            store.each(&dead, None, |entry| *numbers.entry(entry.reason).or_default() += 1).await?;
            Some(most_frequent_first(numbers))
        } else {
            None
        };
        if output.is_json() {
            let Counts { ready, leased, dead, done, oldest, .. } = counts;
            let (oldest_seconds, pauses) = (oldest.map(|age| age.as_secs()), pauses.len());
            output.json(&Report { store: store.name, ready, leased, dead, done, oldest_seconds, pauses, reasons })?;
        } else {
            print(&counts, &pauses, reasons.as_deref(), output)?;
        }
        Ok(Outcome::Fine)
    }
}

fn most_frequent_first(numbers: BTreeMap<Option<String>, u64>) -> Vec<ReasonCount> {
    let mut reasons: Vec<_> =
        numbers.into_iter().map(|(reason, deliveries)| ReasonCount { reason, deliveries }).collect();
    reasons.sort_by_key(|count| std::cmp::Reverse(count.deliveries));
    reasons
}

fn print(
    counts: &Counts,
    pauses: &[ActivePause],
    reasons: Option<&[ReasonCount]>,
    output: &mut Output,
) -> Result<(), CliError> {
    let mut table = output::table(&["state", "deliveries"]);
    for (state, number) in STATES.into_iter().zip([counts.ready, counts.leased, counts.dead, counts.done]) {
        table.add_row([state.to_string(), number.to_string()]);
    }
    output.table(&table)?;
    if let Some(age) = counts.oldest {
        output.line(format_args!("\nThe oldest pending delivery was accepted {} ago.", values::age(age)))?;
    }
    if !pauses.is_empty() {
        output.line(format_args!("\nPauses in force: {}. `klikit inbox pauses` lists them.", pauses.len()))?;
    }
    if let Some(reasons) = reasons {
        output.line("")?;
        let mut table = output::table(&["dead letters", "reason"]);
        for count in reasons {
            table.add_row([count.deliveries.to_string(), shown(count.reason.as_deref())]);
        }
        output.table(&table)?;
    }
    Ok(())
}

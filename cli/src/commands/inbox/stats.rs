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

/// The number of different reasons that are counted one by one, so that the command needs little memory.
const MAX_REASONS: usize = 1000;

/// Count the deliveries in each state
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox stats --store klikit.db
  klikit inbox stats --reasons")]
pub(super) struct Stats {
    /// Also count the dead letters by their reason, for up to 1,000 reasons
    #[arg(long)]
    reasons: bool,
}

/// The output with `--json`.
#[derive(Serialize)]
struct StatsReport {
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
    /// The number of dead letters with other reasons than those in `reasons`.
    #[serde(skip_serializing_if = "Option::is_none")]
    other_reasons: Option<u64>,
}

/// The dead letters by their reason.
#[derive(Default)]
struct Reasons {
    numbers: BTreeMap<Option<String>, u64>,
    others: u64,
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
            let mut reasons = Reasons::default();
            let dead = Filter::new().states([DeliveryState::Dead]);
            store.each(&dead, None, |entry| reasons.add(entry.reason)).await?;
            Some(reasons)
        } else {
            None
        };
        if output.is_json() {
            let Counts { ready, leased, dead, done, oldest, .. } = counts;
            let (oldest_seconds, pauses) = (oldest.map(|age| age.as_secs()), pauses.len());
            let other_reasons = reasons.as_ref().map(|reasons| reasons.others);
            let reasons = reasons.map(Reasons::most_frequent_first);
            let store = store.name;
            output.json(&StatsReport {
                store,
                ready,
                leased,
                dead,
                done,
                oldest_seconds,
                pauses,
                reasons,
                other_reasons,
            })?;
        } else {
            print(&counts, &pauses, reasons, output)?;
        }
        Ok(Outcome::Fine)
    }
}

impl Reasons {
    fn add(&mut self, reason: Option<String>) {
        if self.numbers.len() < MAX_REASONS || self.numbers.contains_key(&reason) {
            *self.numbers.entry(reason).or_default() += 1;
        } else {
            self.others += 1;
        }
    }

    fn most_frequent_first(self) -> Vec<ReasonCount> {
        let count = |(reason, deliveries)| ReasonCount { reason, deliveries };
        let mut reasons: Vec<_> = self.numbers.into_iter().map(count).collect();
        reasons.sort_by_key(|count| std::cmp::Reverse(count.deliveries));
        reasons
    }
}

fn print(
    counts: &Counts,
    pauses: &[ActivePause],
    reasons: Option<Reasons>,
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
        let others = reasons.others;
        for count in reasons.most_frequent_first() {
            table.add_row([count.deliveries.to_string(), shown(count.reason.as_deref())]);
        }
        output.table(&table)?;
        if others > 0 {
            output.line(format_args!("\nDead letters with other reasons: {others}."))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_beyond_the_maximum_are_counted_together() {
        let mut reasons = Reasons::default();
        for number in (0..MAX_REASONS + 5).chain([7, 7]) {
            reasons.add(Some(number.to_string()));
        }
        assert_eq!(reasons.others, 5);
        let counted = reasons.most_frequent_first();
        assert_eq!(counted.len(), MAX_REASONS);
        assert_eq!((counted[0].reason.as_deref(), counted[0].deliveries), (Some("7"), 3));
    }
}

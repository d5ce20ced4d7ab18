//! `klikit inbox tail`: new deliveries and changes of state, as they happen.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use clap::Args;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};
use tower_klikit::inbox::{DeliveryId, DeliveryState, Entry, Filter};

use super::{
    record::{self, DeliveryRecord, shown},
    selection::OriginArguments,
};
use crate::{
    error::CliError,
    interrupt::Interrupt,
    outcome::Outcome,
    output::{self, Output},
    store::{Store, StoreArguments, values},
};

/// The number of the largest ids whose changes are seen.
const WATCHED: i64 = 1000;

/// Print new deliveries, and changes of state of the last 1,000, until ctrl-c
///
/// Looks once a second at what is new and at the last 1,000 ids, whether a filter selects them or not. A state that lasts
/// for less than a second may not be seen. A delivery is `gone` when it is deleted: an inbox that does not keep its
/// deliveries deletes those that were handled.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox tail
  klikit inbox tail --branch 7 --json")]
pub(super) struct Tail {
    #[command(flatten)]
    origin: OriginArguments,
}

/// A line of the output with `--json`.
#[derive(Serialize)]
struct ChangeRecord<'a> {
    store: &'a str,
    /// `accepted`, `changed` or `gone`.
    change: &'static str,
    #[serde(flatten)]
    delivery: DeliveryRecord,
}

/// The deliveries that were seen in the last poll.
struct Watch<'a> {
    store: &'a Store,
    filter: Filter,
    seen: BTreeMap<DeliveryId, Entry>,
    /// The largest id, of any delivery.
    newest: i64,
}

impl Tail {
    pub(super) async fn run(&self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        let store = arguments.open().await?;
        let watched = Interrupt::listen().run_until(self.watch(&store, output)).await;
        watched.unwrap_or(Ok(Outcome::Interrupted))
    }

    /// Prints changes until nobody reads them.
    async fn watch(&self, store: &Store, output: &mut Output) -> Result<Outcome, CliError> {
        let mut watch = Watch::start(store, self.origin.filter()).await?;
        output::note("watching, until ctrl-c");
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (change, entry) in watch.poll().await? {
                if output.is_json() {
                    output.json(&ChangeRecord {
                        store: &store.name,
                        change,
                        delivery: DeliveryRecord::from(&entry),
                    })?;
                } else {
                    output.line(line(change, &entry))?;
                }
            }
            output.flush()?;
            if output.is_closed() {
                return Ok(Outcome::Fine);
            }
        }
    }
}

impl<'a> Watch<'a> {
    /// Remembers the newest deliveries.
    async fn start(store: &'a Store, filter: Filter) -> Result<Self, CliError> {
        let newest = newest_id(store).await?;
        let mut watch = Self { store, filter, seen: BTreeMap::new(), newest };
        watch.poll().await?;
        Ok(watch)
    }

    /// Returns what has changed since the last poll, smallest id first.
    async fn poll(&mut self) -> Result<Vec<(&'static str, Entry)>, CliError> {
        let before = self.newest;
        self.store.each(&Filter::new(), Some(before.into()), |entry| self.newest = entry.id.get()).await?;
        let start = DeliveryId::new(before.min(self.newest.saturating_sub(WATCHED)));
        let mut found = BTreeMap::new();
        self.store.each(&self.filter, Some(start), |entry| drop(found.insert(entry.id, entry))).await?;
        // Other deliveries are no longer watched.
        self.seen.retain(|id, _| *id > start);
        let mut changes: Vec<_> = self
            .seen
            .values()
            .filter(|entry| !found.contains_key(&entry.id))
            .map(|entry| ("gone", entry.clone()))
            .collect();
        for entry in found.values() {
            let progress = |entry: &Entry| (entry.state, entry.attempts);
            match self.seen.get(&entry.id) {
                None => changes.push(("accepted", entry.clone())),
                Some(before) if progress(before) != progress(entry) => changes.push(("changed", entry.clone())),
                Some(_) => {}
            }
        }
        changes.sort_by_key(|(_, entry)| entry.id);
        self.seen = found;
        Ok(changes)
    }
}

/// Finds the largest id with few calls, although a search goes from the smallest id on.
async fn newest_id(store: &Store) -> Result<i64, CliError> {
    let all = Filter::new();
    last(async |id| {
        let page = store.inbox.find(&all, Some(id.into()), 1).await.map_err(|error| store.failed(&error))?;
        Ok(!page.entries.is_empty() || page.next.is_some())
    })
    .await
}

/// Finds the last positive id with a binary search, or returns 0 if there is no id.
async fn last(is_before_last: impl AsyncFn(i64) -> Result<bool, CliError>) -> Result<i64, CliError> {
    // The last id is after `start` and not after `end`.
    let (mut start, mut end) = (-1, 0);
    while is_before_last(end).await? {
        start = end;
        end = end.saturating_mul(2).max(1);
    }
    while end - start > 1 {
        let middle = start + (end - start) / 2;
        if is_before_last(middle).await? { start = middle } else { end = middle }
    }
    Ok(end)
}

/// Returns the line of a change for a person.
fn line(change: &str, entry: &Entry) -> String {
    let state = if change == "gone" { change } else { entry.state.as_str() };
    let mut line = format!(
        "{} {state} delivery {}: event {}, orders {}, branch {}, attempts {}",
        values::time(SystemTime::now()),
        entry.id,
        shown(entry.event_id()),
        record::orders(entry),
        shown(entry.branch()),
        entry.attempts,
    );
    if let Some(reason) = entry.reason.as_deref().filter(|_| entry.state != DeliveryState::Done) {
        line += &format!(", reason: {}", shown(Some(reason)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn last_id_is_found_with_few_calls() {
        for newest in [0, 1, 2, 3, 4, 5, 7, 8, 9, 1000, 1_000_003, i64::MAX - 1, i64::MAX] {
            let calls = std::cell::Cell::new(0);
            let found = last(async |id| {
                calls.set(calls.get() + 1);
                Ok(id < newest)
            });
            assert_eq!(found.await.unwrap(), newest);
            assert!(calls.get() <= 2 * 64 + 2, "{newest}: {}", calls.get());
        }
    }
}

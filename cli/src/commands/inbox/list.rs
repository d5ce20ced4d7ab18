//! `klikit inbox list`: the deliveries that a filter selects.

use std::num::NonZeroU32;

use clap::Args;
use serde::Serialize;
use tower_klikit::inbox::{DeliveryId, Entry};

use super::{
    record::{self, DeliveryRecord},
    selection::SelectionArguments,
};
use crate::{
    error::CliError,
    outcome::Outcome,
    output::Output,
    store::{StoreArguments, values},
};

/// List deliveries, oldest first
///
/// A copy has the body of another delivery, under another event id. A conflict has the event id of another delivery, and
/// another body.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox list
  klikit inbox list --state dead --reason 'out of paper'
  klikit inbox list --branch 7 --younger-than 2h
  klikit inbox list --accepted 2026-11-26T18:00:00+07:00..2026-11-26T19:30:00+07:00")]
pub(super) struct List {
    #[command(flatten)]
    selection: SelectionArguments,

    /// The maximum number of deliveries
    #[arg(long, value_name = "NUMBER", default_value = "50")]
    limit: NonZeroU32,

    /// Start after the delivery with this id, as the end of the page before says
    #[arg(long, value_name = "ID", value_parser = values::id)]
    after: Option<DeliveryId>,
}

/// The output with `--json`.
#[derive(Serialize)]
struct ListReport {
    store: String,
    deliveries: Vec<DeliveryRecord>,
    /// The value of `--after` for the next page.
    next: Option<i64>,
}

impl List {
    pub(super) async fn run(&self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        let store = arguments.open().await?;
        let filter = self.selection.filter(&store).await?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut next = self.after;
        // A page may have fewer deliveries, although others follow.
        loop {
            let missing = self.limit.get() - u32::try_from(entries.len()).unwrap_or(self.limit.get());
            if missing == 0 {
                break;
            }
            let page = store.inbox.find(&filter, next, missing).await.map_err(|error| store.failed(&error))?;
            entries.extend(page.entries);
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        if output.is_json() {
            let deliveries = entries.iter().map(DeliveryRecord::from).collect();
            output.json(&ListReport { store: store.name, deliveries, next: next.map(DeliveryId::get) })?;
        } else if entries.is_empty() {
            output.line("No delivery was found.")?;
        } else {
            output.table(&record::table(&entries))?;
            if let Some(next) = next {
                output.line(format_args!("\nThere may be more: --after {next}"))?;
            }
        }
        Ok(Outcome::Fine)
    }
}

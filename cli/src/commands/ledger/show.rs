//! `klikit ledger show`: the entries of an event or of a window.

use std::num::NonZeroU32;

use clap::Args;
use comfy_table::Table;
use serde::Serialize;
use tower_klikit::dedupe::{EventKey, LedgerEntry};

use super::events::EventArguments;
use crate::{
    error::CliError,
    outcome::Outcome,
    output::{self, Output},
    store::{StoreArguments, values},
};

/// Show the entries of events that were handled or are being handled, in the order of their keys
///
/// A claimed entry belongs to a delivery that is being handled, and is claimed until the end of its lease. The copies of
/// a done entry are duplicates until the end of its retention. A conflict has the event id of another delivery, and
/// another body.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit ledger show --event-id evt-1
  klikit ledger show --accepted 2026-11-26T18:00:00+07:00..2026-11-26T19:30:00+07:00")]
pub(super) struct ShowEntries {
    #[command(flatten)]
    events: EventArguments,

    /// The maximum number of entries
    #[arg(long, value_name = "NUMBER", default_value = "50")]
    limit: NonZeroU32,

    /// Start after the entry with this key, as the end of the page before says
    #[arg(long, value_name = "KEY", value_parser = key)]
    after: Option<EventKey>,
}

/// An entry with `--json`.
#[derive(Serialize)]
struct EntryRecord {
    key: String,
    event: String,
    is_conflict: bool,
    digest: String,
    state: &'static str,
    claimed_at: String,
    until: String,
    kept_until: String,
}

/// The output with `--json`.
#[derive(Serialize)]
struct EntriesReport {
    store: String,
    entries: Vec<EntryRecord>,
    /// The value of `--after` for the next page.
    next: Option<String>,
}

impl ShowEntries {
    pub(super) async fn run(self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        let store = arguments.open_ledger().await?;
        let selection = self.events.events().selection();
        // One more tells whether there is a next page.
        let mut entries = store.entries(&selection, self.after, self.limit.get().saturating_add(1)).await?;
        let limit = usize::try_from(self.limit.get()).unwrap_or(usize::MAX);
        let has_next = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| has_next).map(|last| hex::encode(last.key.as_bytes()));
        if output.is_json() {
            let entries = entries.iter().map(EntryRecord::from).collect();
            output.json(&EntriesReport { store: store.name, entries, next })?;
        } else if entries.is_empty() {
            output.line("No entry was found.")?;
        } else {
            output.table(&table(&entries))?;
            if let Some(next) = next {
                output.line(format_args!("\nThere are more: --after {next}"))?;
            }
        }
        Ok(Outcome::Fine)
    }
}

impl From<&LedgerEntry> for EntryRecord {
    fn from(entry: &LedgerEntry) -> Self {
        Self {
            key: hex::encode(entry.key.as_bytes()),
            event: hex::encode(entry.event.as_bytes()),
            is_conflict: entry.is_conflict(),
            digest: hex::encode(entry.digest.as_bytes()),
            state: entry.state.as_str(),
            claimed_at: values::time(entry.claimed_at),
            until: values::time(entry.until),
            kept_until: values::time(entry.kept_until),
        }
    }
}

/// Reads the key of an entry.
fn key(text: &str) -> Result<EventKey, String> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| "a key is 32 hexadecimal digits, as `klikit ledger show` shows it")?;
    Ok(bytes.into())
}

/// Returns a table of entries, one in each row.
fn table(entries: &[LedgerEntry]) -> Table {
    let mut table = output::table(&["key", "state", "claimed at", "until", "marks"]);
    for entry in entries {
        table.add_row([
            hex::encode(entry.key.as_bytes()),
            entry.state.as_str().into(),
            values::time(entry.claimed_at),
            values::time(entry.until),
            if entry.is_conflict() { "conflict" } else { "-" }.into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_32_digits() {
        assert_eq!(
            key("000102030405060708090a0b0c0d0e0f").unwrap().as_bytes(),
            &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
        );
        for text in ["", "00", "evt-1", "000102030405060708090a0b0c0d0e0", "000102030405060708090a0b0c0d0e0f00"] {
            assert!(key(text).is_err(), "{text}");
        }
    }
}

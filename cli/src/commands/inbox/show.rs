//! `klikit inbox show`: one delivery with its attempts.

use clap::Args;
use comfy_table::Table;
use serde::Serialize;
use tower_klikit::inbox::{AttemptRecord, DeliveryId, Entry};

use super::record::{self, AttemptOutput, DeliveryRecord, shown};
use crate::{
    error::CliError,
    outcome::Outcome,
    output::{self, Output},
    store::{StoreArguments, values},
};

/// Show a delivery and its attempts
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit inbox show 1
  klikit inbox show 1 --body --json")]
pub(super) struct Show {
    /// The id of the delivery
    #[arg(value_name = "ID", value_parser = values::id)]
    id: DeliveryId,

    /// Show the body too, which contains customers' data
    #[arg(long)]
    body: bool,
}

/// The output with `--json`.
#[derive(Serialize)]
struct DeliveryReport {
    store: String,
    #[serde(flatten)]
    delivery: DeliveryRecord,
    history: Vec<AttemptOutput>,
    /// The body with `--body`, if it is stored and UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// The body with `--body`, if it is stored and not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
}

impl Show {
    pub(super) async fn run(&self, arguments: &StoreArguments, output: &mut Output) -> Result<Outcome, CliError> {
        let store = arguments.open().await?;
        let entry = match self.body {
            true => store.inbox.show_with_body(self.id).await,
            false => store.inbox.show(self.id).await,
        };
        let Some(entry) = entry.map_err(|error| store.failed(&error))? else {
            return Err(CliError::new(format_args!(
                "{} has no delivery {}: find it with `klikit inbox list`",
                store.name, self.id
            )));
        };
        if output.is_json() {
            output.json(&DeliveryReport::new(store.name, &entry))?;
        } else {
            print(&entry, output)?;
            if self.body {
                output.line("")?;
                output.line(printable(entry.body.as_deref()))?;
            }
        }
        Ok(Outcome::Fine)
    }
}

impl DeliveryReport {
    fn new(store: String, entry: &Entry) -> Self {
        let body = entry.body.as_ref().map(|body| String::from_utf8(body.to_vec()));
        let (body, body_hex) = match body {
            Some(Ok(text)) => (Some(text), None),
            Some(Err(bytes)) => (None, Some(hex::encode(bytes.as_bytes()))),
            None => (None, None),
        };
        let history = entry.history.iter().map(AttemptOutput::from).collect();
        Self { store, delivery: DeliveryRecord::from(entry), history, body, body_hex }
    }
}

fn print(entry: &Entry, output: &mut Output) -> Result<(), CliError> {
    let mut lines = Table::new();
    let mut line = |name: &str, value: String| {
        lines.add_row([name, &value]);
    };
    line("id", entry.id.to_string());
    line("state", entry.state.to_string());
    line("accepted", format!("{}, {} ago", values::time(entry.accepted_at), values::age(entry.age)));
    line("attempts", entry.attempts.to_string());
    line("reason", shown(entry.reason.as_deref()));
    line("tenant", shown(entry.tenant()));
    line("secret", shown(entry.secret_id()));
    line("event id", shown(entry.event_id()));
    line("event type", shown(entry.event_type()));
    line("orders", record::orders(entry));
    line("branch", shown(entry.branch()));
    line("request", format!("{} {}", shown(entry.method()), shown(entry.uri())));
    line("content type", shown(entry.content_type()));
    line("marks", record::marks(entry));
    output.table(&lines)?;
    output.line("")?;
    if entry.history.is_empty() {
        return output.line("No attempt is recorded.");
    }
    output.table(&history(&entry.history))
}

fn history(attempts: &[AttemptRecord]) -> Table {
    let mut table = output::table(&["attempt", "worker", "started", "ended", "status", "reason"]);
    for attempt in attempts {
        table.add_row([
            attempt.number.to_string(),
            shown(Some(&attempt.worker)),
            values::time(attempt.started_at),
            attempt.ended_at.map_or_else(|| "-".into(), values::time),
            attempt.status.map_or_else(|| "-".into(), |status| status.to_string()),
            shown(attempt.reason.as_deref()),
        ]);
    }
    table
}

/// Returns the body without control characters other than line feeds and tabs, because they could change a terminal.
fn printable(body: Option<&[u8]>) -> String {
    let Some(body) = body else { return "The body is not stored any more.".into() };
    let is_plain = |char: &char| !char.is_control() || matches!(char, '\n' | '\t');
    let plain = |char| if is_plain(&char) { char } else { char::REPLACEMENT_CHARACTER };
    String::from_utf8_lossy(body).chars().map(plain).collect()
}

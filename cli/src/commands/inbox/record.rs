//! Deliveries in the output.

use comfy_table::Table;
use serde::Serialize;
use tower_klikit::inbox::{AttemptRecord, Entry};

use crate::{error::one_line, output, store::values};

/// A delivery with `--json`.
#[derive(Serialize)]
pub(super) struct DeliveryRecord {
    id: i64,
    state: &'static str,
    attempts: u32,
    accepted_at: String,
    age_seconds: u64,
    tenant: Option<String>,
    event_id: Option<String>,
    event_type: Option<String>,
    orders: Vec<String>,
    branch: Option<String>,
    reason: Option<String>,
    is_copy: bool,
    is_conflict: bool,
    has_body: bool,
    method: Option<String>,
    uri: Option<String>,
    content_type: Option<String>,
    secret_id: Option<String>,
}

/// An attempt with `--json`.
#[derive(Serialize)]
pub(super) struct AttemptOutput {
    number: u32,
    worker: String,
    started_at: String,
    ended_at: Option<String>,
    status: Option<u16>,
    reason: Option<String>,
}

impl From<&Entry> for DeliveryRecord {
    fn from(entry: &Entry) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            id: entry.id.get(),
            state: entry.state.as_str(),
            attempts: entry.attempts,
            accepted_at: values::time(entry.accepted_at),
            age_seconds: entry.age.as_secs(),
            tenant: owned(entry.tenant()),
            event_id: owned(entry.event_id()),
            event_type: owned(entry.event_type()),
            orders: entry.orders().map(str::to_owned).collect(),
            branch: owned(entry.branch()),
            reason: entry.reason.clone(),
            is_copy: entry.is_copy(),
            is_conflict: entry.is_conflict(),
            has_body: entry.has_body,
            method: owned(entry.method()),
            uri: owned(entry.uri()),
            content_type: owned(entry.content_type()),
            secret_id: owned(entry.secret_id()),
        }
    }
}

impl From<&AttemptRecord> for AttemptOutput {
    fn from(attempt: &AttemptRecord) -> Self {
        Self {
            number: attempt.number,
            worker: attempt.worker.clone(),
            started_at: values::time(attempt.started_at),
            ended_at: attempt.ended_at.map(values::time),
            status: attempt.status,
            reason: attempt.reason.clone(),
        }
    }
}

/// Returns a table of deliveries, one in each row.
pub(super) fn table(entries: &[Entry]) -> Table {
    let mut table =
        output::table(&["id", "state", "attempts", "age", "event id", "orders", "branch", "marks", "reason"]);
    for entry in entries {
        table.add_row([
            entry.id.to_string(),
            entry.state.to_string(),
            entry.attempts.to_string(),
            values::age(entry.age),
            shown(entry.event_id()),
            orders(entry),
            shown(entry.branch()),
            marks(entry),
            shown(entry.reason.as_deref()),
        ]);
    }
    table
}

/// Returns a text of the sender without control characters, or a dash for a missing text.
pub(super) fn shown(text: Option<&str>) -> String {
    text.map_or_else(|| "-".into(), one_line)
}

/// Returns the ids of the first orders.
pub(super) fn orders(entry: &Entry) -> String {
    const SHOWN: usize = 3;
    let orders: Vec<_> = entry.orders().map(one_line).collect();
    match orders.len() {
        0 => "-".into(),
        len if len > SHOWN => format!("{} and {} more", orders[..SHOWN].join(" "), len - SHOWN),
        _ => orders.join(" "),
    }
}

/// Returns what is special about a delivery.
pub(super) fn marks(entry: &Entry) -> String {
    let marks = [(entry.is_copy(), "copy"), (entry.is_conflict(), "conflict"), (!entry.has_body, "no-body")];
    let marks: Vec<_> = marks.into_iter().filter(|(applies, _)| *applies).map(|(_, mark)| mark).collect();
    if marks.is_empty() { "-".into() } else { marks.join(" ") }
}

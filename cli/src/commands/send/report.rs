//! The report at the end of a run.

use std::{collections::BTreeMap, time::Duration};

use comfy_table::Table;
use http::StatusCode;
use serde::Serialize;
use tower_klikit::testing::FakeKlikit;

use super::tally::Tally;
use crate::{
    error::CliError,
    output::{Output, table},
    store::values,
};

/// The results of a run, as `--json` prints them.
#[derive(Debug, Serialize)]
pub(crate) struct SendReport {
    url: String,
    /// The number of deliveries with their copies.
    deliveries: u64,
    delivered_at_once: u64,
    delivered_later: u64,
    failed: u64,
    corrupt_rejected: u64,
    corrupt_accepted: u64,
    corrupt_unanswered: u64,
    /// Deliveries that were not started or not finished before ctrl-c.
    unfinished: u64,
    attempts: u64,
    statuses: BTreeMap<u16, u64>,
    timed_out: u64,
    no_response: BTreeMap<String, u64>,
    first_failure: Option<String>,
    latency_ms: Option<Latencies>,
    seconds: f64,
    interrupted: bool,
    #[serde(skip)]
    retries: usize,
}

#[derive(Debug, Serialize)]
struct Latencies {
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

/// The circumstances of a run.
#[derive(Debug)]
pub(crate) struct Circumstances {
    pub(crate) url: String,
    pub(crate) deliveries: u64,
    pub(crate) elapsed: Duration,
    /// The maximum number of retries of a delivery.
    pub(crate) retries: usize,
    pub(crate) is_interrupted: bool,
}

impl SendReport {
    pub(crate) fn new(tally: Tally, run: Circumstances) -> Self {
        let at = |percentile| tally.latency(percentile).map(milliseconds);
        let latency_ms =
            || Some(Latencies { p50: at(50.0)?, p90: at(90.0)?, p99: at(99.0)?, p99_9: at(99.9)?, max: at(100.0)? });
        Self {
            url: run.url,
            deliveries: run.deliveries,
            delivered_at_once: tally.delivered_at_once,
            delivered_later: tally.delivered_later,
            failed: tally.failed,
            corrupt_rejected: tally.corrupt_rejected,
            corrupt_accepted: tally.corrupt_accepted,
            corrupt_unanswered: tally.corrupt_unanswered,
            unfinished: run.deliveries - tally.finished(),
            attempts: tally.attempts(),
            latency_ms: latency_ms(),
            timed_out: tally.timed_out,
            statuses: tally.statuses,
            no_response: tally.no_response,
            first_failure: tally.first_failure,
            seconds: run.elapsed.as_secs_f64(),
            interrupted: run.is_interrupted,
            retries: run.retries,
        }
    }

    /// Prints the report as text or JSON.
    pub(crate) fn print(&self, output: &mut Output) -> Result<(), CliError> {
        if output.is_json() {
            return output.json(self);
        }
        let Self { url, deliveries, attempts, seconds, .. } = self;
        let rate = *attempts as f64 / seconds;
        let noun = if *attempts == 1 { "attempt" } else { "attempts" };
        output.line(format_args!(
            "{} to {url}: {attempts} {noun} in {seconds:.2} s, {rate:.1} a second",
            values::deliveries(*deliveries)
        ))?;
        if self.interrupted {
            output.line("Interrupted.")?;
        }
        output.line("")?;
        output.table(&self.deliveries_table())?;
        if *attempts > 0 {
            output.line("")?;
            output.table(&self.attempts_table())?;
        }
        if let Some(latency) = &self.latency_ms {
            output.line("")?;
            let mut table = table(&["latency", "p50", "p90", "p99", "p99.9", "max"]);
            let Latencies { p50, p90, p99, p99_9, max } = latency;
            let values = [p50, p90, p99, p99_9, max].map(|value| format!("{value:.1}"));
            table.add_row([String::from("ms")].into_iter().chain(values));
            output.table(&table)?;
        }
        if let Some(failure) = &self.first_failure {
            output.line(format_args!("\nFirst failure: {failure}"))?;
        }
        Ok(())
    }

    fn deliveries_table(&self) -> Table {
        let mut table = table(&["deliveries", "number"]);
        let rows = [
            ("delivered at the first attempt", self.delivered_at_once),
            ("delivered by a retry", self.delivered_later),
            (&*failed(self.retries), self.failed),
            ("corrupted, and rejected as they must be", self.corrupt_rejected),
            ("corrupted, and accepted: the receiver does not verify", self.corrupt_accepted),
            ("corrupted, and without a response in time", self.corrupt_unanswered),
            ("unfinished", self.unfinished),
        ];
        for (name, number) in rows.into_iter().filter(|(_, number)| *number > 0) {
            table.add_row([name, &number.to_string()]);
        }
        table
    }

    fn attempts_table(&self) -> Table {
        let mut table = table(&["response", "attempts"]);
        for (status, number) in &self.statuses {
            let name = StatusCode::from_u16(*status).map_or_else(|_| status.to_string(), |status| status.to_string());
            table.add_row([name, number.to_string()]);
        }
        if self.timed_out > 0 {
            let name =
                format!("late: not complete within {} s, which klikit counts as failed", FakeKlikit::TIMEOUT.as_secs());
            table.add_row([name, self.timed_out.to_string()]);
        }
        for (reason, number) in &self.no_response {
            table.add_row([format!("none: {reason}"), number.to_string()]);
        }
        table
    }
}

/// Returns the name of the deliveries that failed after this number of retries.
fn failed(retries: usize) -> String {
    match retries {
        0 => "failed without a retry".into(),
        1 => "failed after 1 retry".into(),
        _ if retries < FakeKlikit::PAUSES.len() => format!("failed after {retries} retries"),
        _ => format!("failed after {retries} retries: klikit would dead-letter them"),
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

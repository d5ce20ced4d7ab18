//! The printed report of a trial.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use crate::{
    attackers::Tally,
    memory::MIB,
    sender::{Outcome, Record},
    trial::{Memory, Results},
};

/// The numbers of sent and accepted deliveries.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Score {
    pub(crate) sent: usize,
    pub(crate) accepted: usize,
}

impl Score {
    pub(crate) fn of<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Self {
        outcomes.into_iter().fold(Self::default(), |Self { sent, accepted }, outcome| Self {
            sent: sent + 1,
            accepted: accepted + usize::from(is_accepted(outcome)),
        })
    }

    /// Returns whether at least this percentage was accepted. One failure is always allowed among fewer than 100 deliveries.
    pub(crate) fn reaches(self, percent: usize) -> bool {
        let may_fail = (self.sent * (100 - percent)).div_ceil(100);
        self.sent - self.accepted <= may_fail
    }
}

pub(crate) fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome.answer, Ok(200..=299))
}

/// Returns a table with a line for each shape, and lines about the attacker and the server's memory.
pub(crate) fn table(name: &str, results: &Results) -> String {
    let Results { before, during, tally, memory, .. } = results;
    let mut text = format!("\n{name}\n");
    let seconds = tally.time.as_secs_f64();
    let rate = |count: u64| count as f64 / seconds;
    let Tally { answered, overloaded, broken, cut_off, lost, .. } = tally;
    let _ = writeln!(
        text,
        "  attacker: {:.0} requests/s, {:.0} kB/s for {seconds:.1} s; {answered} answered ({overloaded} with 503), \
         {broken} broken, {cut_off} cut off, {lost} connections lost",
        rate(tally.begun),
        rate(tally.bytes) / 1e3,
    );
    let Memory { before: idle, peak, after, allowed } = memory;
    let [idle, peak, after, allowed] = [idle, peak, after, allowed].map(|bytes| bytes / MIB);
    let _ = writeln!(
        text,
        "  memory in MiB: {idle} before, {peak} at the peak ({allowed} allowed), {after} after the attack"
    );
    let _ = writeln!(
        text,
        "  {:<30} {:>9} {:>9} {:>9}   {:>9} {:>9} {:>9}   {:>7} {:>7}",
        "genuine deliveries", "before", "p50 ms", "p99 ms", "during", "p50 ms", "p99 ms", "p50 x", "p99 x"
    );
    for (before, during) in before.iter().zip(during) {
        let _ = write!(text, "  {:<30}", before.shape);
        let latencies = [before, during].map(|Record { outcomes, .. }| {
            let Score { sent, accepted } = Score::of(outcomes);
            let [p50, p99] = [50, 99].map(|percent| latency_ms(outcomes, percent));
            let _ = write!(text, " {:>9} {p50:>9.2} {p99:>9.2}  ", format!("{accepted}/{sent}"));
            [p50, p99]
        });
        let [before, during] = latencies;
        let _ = writeln!(text, " {:>7.1} {:>7.1}", during[0] / before[0], during[1] / before[1]);
    }
    let _ = writeln!(text, "  failures: {:?}", failures(during));
    text
}

/// Returns the number of occurrences of each failure.
fn failures(records: &[Record]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let outcomes = records.iter().flat_map(|record| &record.outcomes);
    for outcome in outcomes.filter(|outcome| !is_accepted(outcome)) {
        let text = outcome.answer.as_ref().map_or_else(Clone::clone, u16::to_string);
        *counts.entry(text).or_default() += 1;
    }
    counts
}

/// Returns a percentile of the latencies of accepted deliveries, in milliseconds.
fn latency_ms(outcomes: &[Outcome], percent: usize) -> f64 {
    let accepted = outcomes.iter().filter(|outcome| is_accepted(outcome));
    let mut latencies: Vec<_> = accepted.map(|outcome| outcome.latency).collect();
    latencies.sort_unstable();
    let last = latencies.len().saturating_sub(1);
    latencies.get(last * percent / 100).map_or(f64::NAN, Duration::as_secs_f64) * 1e3
}

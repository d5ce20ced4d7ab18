//! The printed report of a trial.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use crate::{
    attackers::Tally,
    memory::MIB,
    sender::{Record, Sent},
    trial::Memory,
};

/// The numbers of sent and accepted deliveries.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Score {
    pub(crate) sent: usize,
    pub(crate) accepted: usize,
}

impl Score {
    pub(crate) fn of<'a>(sent: impl IntoIterator<Item = &'a Sent>) -> Self {
        sent.into_iter().fold(Self::default(), |Self { sent, accepted }, one| Self {
            sent: sent + 1,
            accepted: accepted + usize::from(is_accepted(one)),
        })
    }

    /// Returns whether at least this percentage was accepted. One failure is always allowed among fewer than 100 deliveries.
    pub(crate) fn reaches(self, percent: usize) -> bool {
        let may_fail = (self.sent * (100 - percent)).div_ceil(100);
        self.sent - self.accepted <= may_fail
    }
}

pub(crate) fn is_accepted(sent: &Sent) -> bool {
    matches!(sent.answer, Ok(200..=299))
}

/// Returns a table with a line for each shape, and lines about the attacker and the server's memory.
pub(crate) fn table(name: &str, idle: &[Record], attacked: &[Record], tally: &Tally, memory: &Memory) -> String {
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
    let Memory { idle: before, peak, after, allowed } = memory;
    let [before, peak, after, allowed] = [before, peak, after, allowed].map(|bytes| bytes / MIB);
    let _ = writeln!(text, "  memory: {before} MiB idle, {peak} at most (allowed: {allowed}), {after} afterwards");
    let _ = writeln!(
        text,
        "  {:<30} {:>9} {:>9} {:>9}   {:>9} {:>9} {:>9}   {:>7} {:>7}",
        "genuine deliveries", "idle", "p50 ms", "p99 ms", "attacked", "p50 ms", "p99 ms", "p50", "p99"
    );
    for ((shape, idle), (_, attacked)) in idle.iter().zip(attacked) {
        let cells = [idle, attacked].map(|sent| (Score::of(sent), [50, 99].map(|percent| latency(sent, percent))));
        let _ = write!(text, "  {shape:<30}");
        for (Score { sent, accepted }, [p50, p99]) in cells {
            let _ = write!(text, " {:>9} {p50:>9.2} {p99:>9.2}  ", format!("{accepted}/{sent}"));
        }
        let [(_, before), (_, during)] = cells;
        let _ = writeln!(text, " {:>7.1} {:>7.1}", during[0] / before[0], during[1] / before[1]);
    }
    let _ = writeln!(text, "  failures: {:?}", failures(attacked));
    text
}

/// Returns the number of occurrences of each failure.
fn failures(records: &[Record]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for sent in records.iter().flat_map(|(_, sent)| sent).filter(|sent| !is_accepted(sent)) {
        let text = sent.answer.as_ref().map_or_else(Clone::clone, u16::to_string);
        *counts.entry(text).or_default() += 1;
    }
    counts
}

/// Returns a percentile of the times of accepted deliveries, in milliseconds.
fn latency(sent: &[Sent], percent: usize) -> f64 {
    let mut times: Vec<_> = sent.iter().filter(|sent| is_accepted(sent)).map(|sent| sent.time).collect();
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get(last * percent / 100).map_or(f64::NAN, Duration::as_secs_f64) * 1e3
}

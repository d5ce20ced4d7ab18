//! The figures of the cases, and the printed report.

use std::time::Duration;

/// The figures of one case in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    /// The median and the 99th percentile.
    pub(crate) latency: Option<(Duration, Duration)>,
    pub(crate) failed: usize,
    /// The number of processors that each party kept busy.
    pub(crate) cores: Cores,
}

/// The number of processors that each party kept busy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) bench: f64,
    pub(crate) server: f64,
    pub(crate) node: f64,
    /// Programs that do not belong to the benchmark. Their share should be small.
    pub(crate) others: f64,
}

impl Figures {
    /// Summarises calls from their times and the total time `all`. A failed call has no time.
    pub(crate) fn of_calls(times: &[Option<Duration>], all: Duration, cores: Cores) -> Self {
        let taken: Vec<_> = times.iter().flatten().copied().collect();
        let failed = times.len() - taken.len();
        let per_second = taken.len() as f64 / all.as_secs_f64();
        Self { per_second, latency: Some((percentile(&taken, 50), percentile(&taken, 99))), failed, cores }
    }

    pub(crate) fn of_count(count: usize, all: Duration, cores: Cores) -> Self {
        Self { per_second: count as f64 / all.as_secs_f64(), latency: None, failed: 0, cores }
    }
}

/// Returns a percentile of the times, or zero if there are no times.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}

/// The figures of all rounds, in the order in which the cases were first reported.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<(&'static str, Vec<Figures>)>);

impl Report {
    pub(crate) fn add(&mut self, case: &'static str, figures: Figures) {
        match self.0.iter_mut().find(|(name, _)| *name == case) {
            Some((_, rounds)) => rounds.push(figures),
            None => self.0.push((case, vec![figures])),
        }
    }

    /// Returns the round of median throughput.
    fn median(&self, case: &str) -> Option<Figures> {
        let mut rounds = self.0.iter().find(|(name, _)| *name == case)?.1.clone();
        rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        Some(rounds[rounds.len() / 2])
    }

    /// Prints the medians, the busy processors, and the processor time of each delivery. Other programs on the machine hardly
    /// change the processor time.
    pub(crate) fn print(&self) {
        println!(
            "  {:<34} {:>9}  {:>8}  {:>8}   {:>6} {:>6} {:>6} {:>6}  {:>7}  limited by",
            "median of each case", "per s", "p50 ms", "p99 ms", "bench", "server", "node", "others", "µs each"
        );
        for (case, _) in &self.0 {
            let Some(Figures { per_second, latency, failed, cores }) = self.median(case) else { continue };
            let latency = latency.map_or_else(
                || format!("{:>8}  {:>8}", "-", "-"),
                |(p50, p99)| format!("{:>8.2}  {:>8.2}", p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3),
            );
            let Cores { bench, server, node, others } = cores;
            let failures = if failed == 0 { String::new() } else { format!("   {failed} FAILED") };
            let each = (bench + server + node) / per_second * 1e6;
            println!(
                "  {case:<34} {per_second:>9.0}  {latency}   {bench:>6.2} {server:>6.2} {node:>6.2} {others:>6.2}  {each:>7.0}  {}{failures}",
                limit(cores)
            );
        }
    }

    pub(crate) fn print_ratio(&self, case: &str, to: &str) {
        let (Some(a), Some(b)) = (self.median(case), self.median(to)) else { return };
        let p99 = a.latency.zip(b.latency).map(|((_, a), (_, b))| a.as_secs_f64() / b.as_secs_f64());
        let p99 = p99.map_or_else(String::new, |ratio| format!("   p99 {ratio:.2}"));
        println!("  {:<66} {:>5.2}{p99}", format!("{case} / {to}"), a.per_second / b.per_second);
    }
}

/// Returns a guess at what limits a case, from the busy processors.
fn limit(Cores { bench, server, node, others }: Cores) -> &'static str {
    let all = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    if others > 0.15 * all {
        "other programs, perhaps"
    } else if bench + server + node > 0.85 * all {
        "processors"
    } else if node > 0.85 {
        "node's one thread"
    } else {
        "waits: commits and round trips"
    }
}

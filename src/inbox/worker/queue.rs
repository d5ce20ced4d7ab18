//! The queue of leased deliveries that have no handler yet.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::attempt::Job;

/// The time for which a worker prefetches: as many deliveries as its handlers finish in this time.
const AHEAD: Duration = Duration::from_millis(100);

/// Leased deliveries, in the order in which they were leased.
#[derive(Default)]
pub(super) struct Queue(VecDeque<(Instant, Job)>);

impl Queue {
    pub(super) fn add(&mut self, jobs: Vec<Job>) {
        let now = Instant::now();
        self.0.extend(jobs.into_iter().map(|job| (now, job)));
    }

    pub(super) fn next(&mut self) -> Option<Job> {
        self.0.pop_front().map(|(_, job)| job)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the time at which the oldest delivery was added.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.0.front().map(|(since, _)| *since)
    }

    /// Takes all deliveries out.
    pub(super) fn take(&mut self) -> Vec<Job> {
        self.0.drain(..).map(|(_, job)| job).collect()
    }
}

/// A measurement of how many deliveries the handlers finish in a tenth of a second.
pub(super) struct Rate {
    since: Instant,
    finished: usize,
    before: usize,
}

impl Rate {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), finished: 0, before: 0 }
    }

    /// Counts a handler that has finished.
    pub(super) fn finished(&mut self) {
        self.roll();
        self.finished += 1;
    }

    /// Returns the number of handlers that finished in the current or the previous tenth of a second, whichever is
    /// larger.
    pub(super) fn lately(&mut self) -> usize {
        self.roll();
        self.finished.max(self.before)
    }

    fn roll(&mut self) {
        let elapsed = self.since.elapsed();
        if elapsed >= AHEAD {
            // After a longer pause, the last count is outdated.
            self.before = if elapsed < 2 * AHEAD { self.finished } else { 0 };
            (self.since, self.finished) = (Instant::now(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rate_covers_the_last_tenth_of_a_second() {
        let mut rate = Rate::new();
        assert_eq!(rate.lately(), 0);
        (0..5).for_each(|_| rate.finished());
        assert_eq!(rate.lately(), 5);
        advance(AHEAD).await;
        rate.finished();
        assert_eq!(rate.lately(), 5);
        advance(AHEAD).await;
        assert_eq!(rate.lately(), 1);
        advance(2 * AHEAD).await;
        assert_eq!(rate.lately(), 0);
    }
}

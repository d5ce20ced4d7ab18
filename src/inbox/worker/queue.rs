//! The deliveries that wait for a handler of this process.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::attempt::Job;

/// How far ahead deliveries are leased: as many as the handlers finish in this time.
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

    /// Returns since when the first delivery has been waiting.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.0.front().map(|(since, _)| *since)
    }

    /// Takes all deliveries out.
    pub(super) fn take(&mut self) -> Vec<Job> {
        self.0.drain(..).map(|(_, job)| job).collect()
    }
}

/// How many deliveries the handlers finish in a tenth of a second.
pub(super) struct Rate {
    since: Instant,
    finished: usize,
    before: usize,
}

impl Rate {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), finished: 0, before: 0 }
    }

    /// Notes that a handler has finished.
    pub(super) fn finished(&mut self) {
        self.roll();
        self.finished += 1;
    }

    /// Returns how many have finished in the current tenth of a second, or in the last one if those were more.
    pub(super) fn lately(&mut self) -> usize {
        self.roll();
        self.finished.max(self.before)
    }

    fn roll(&mut self) {
        let elapsed = self.since.elapsed();
        if elapsed >= AHEAD {
            // After a longer pause nothing is known.
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
    async fn rate_is_of_the_last_tenth_of_a_second() {
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

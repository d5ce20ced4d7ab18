//! The results of a run.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use tower_klikit::testing::FakeKlikit;

use super::plan::Planned;
use crate::exchange::{Exchange, NoAnswer, is_success};

/// The maximum number of different reasons that are counted apart.
const MAX_REASONS: usize = 20;

/// The results of a run so far.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Deliveries with a success at the first attempt.
    pub(crate) delivered_at_once: u64,
    /// Deliveries with a success at a later attempt.
    pub(crate) delivered_later: u64,
    /// Deliveries whose last attempt failed.
    pub(crate) failed: u64,
    /// Corrupted deliveries that the receiver rejected, as it must.
    pub(crate) corrupt_rejected: u64,
    /// Corrupted deliveries that the receiver accepted.
    pub(crate) corrupt_accepted: u64,
    /// Corrupted deliveries without a complete response in time.
    pub(crate) corrupt_unanswered: u64,
    /// Attempts by the status of the response.
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) timed_out: u64,
    /// Attempts without a response by the reason.
    pub(crate) no_response: BTreeMap<String, u64>,
    /// The first response that klikit counts as a failure, of a delivery that was not corrupted.
    pub(crate) first_failure: Option<String>,
    /// The reason to stop the run: the first response did not end, so that the URL is not that of a webhook endpoint, or
    /// this process may not open more files.
    pub(crate) stop: Option<NoAnswer>,
    latencies: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let most = u64::try_from(2 * FakeKlikit::TIMEOUT.as_micros()).expect("20 seconds fit");
        let mut latencies = Histogram::new_with_bounds(1, most, 3).expect("the bounds are valid");
        latencies.auto(true);
        Self {
            delivered_at_once: 0,
            delivered_later: 0,
            failed: 0,
            corrupt_rejected: 0,
            corrupt_accepted: 0,
            corrupt_unanswered: 0,
            statuses: BTreeMap::new(),
            timed_out: 0,
            no_response: BTreeMap::new(),
            first_failure: None,
            stop: None,
            latencies,
        }
    }

    /// Counts an attempt at a delivery. Returns the failure if it is the first.
    pub(crate) fn add(&mut self, attempt: &Exchange, planned: &Planned) -> Option<String> {
        match attempt {
            Ok(answer) => {
                *self.statuses.entry(answer.status.as_u16()).or_default() += 1;
                self.record(answer.time);
            }
            Err(error @ (NoAnswer::Late | NoAnswer::Unfinished(_))) => {
                if matches!(error, NoAnswer::Unfinished(_)) && self.statuses.is_empty() {
                    self.stop = Some(error.clone());
                }
                self.timed_out += 1;
                self.record(FakeKlikit::TIMEOUT);
            }
            Err(NoAnswer::OutOfFiles) => self.stop = Some(NoAnswer::OutOfFiles),
            Err(NoAnswer::Failed(reason)) => {
                let is_known = self.no_response.contains_key(&**reason) || self.no_response.len() < MAX_REASONS;
                let reason = if is_known { reason } else { "other reasons" };
                *self.no_response.entry(reason.into()).or_default() += 1;
            }
        }
        if planned.is_corrupt || is_success(attempt) || self.first_failure.is_some() {
            return None;
        }
        let failure = attempt.as_ref().map_or_else(NoAnswer::to_string, |answer| format!("{answer:.200}"));
        self.first_failure = Some(failure);
        self.first_failure.clone()
    }

    fn record(&mut self, latency: Duration) {
        self.latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Returns the number of deliveries whose last attempt has ended.
    pub(crate) fn finished(&self) -> u64 {
        let corrupt = self.corrupt_rejected + self.corrupt_accepted + self.corrupt_unanswered;
        self.delivered_at_once + self.delivered_later + self.failed + corrupt
    }

    /// Returns the number of attempts.
    pub(crate) fn attempts(&self) -> u64 {
        self.statuses.values().chain(self.no_response.values()).sum::<u64>() + self.timed_out
    }

    /// Returns whether the receiver did something wrong.
    pub(crate) fn has_fault(&self) -> bool {
        self.failed + self.corrupt_accepted + self.corrupt_unanswered > 0
    }

    /// Returns the reason why no attempt reached the receiver. `None` if one did.
    pub(crate) fn unreachable(&self) -> Option<&str> {
        let is_reached = !self.statuses.is_empty() || self.timed_out > 0;
        self.no_response.keys().next().filter(|_| !is_reached).map(String::as_str)
    }

    /// Returns the latency that this percentage of the attempts did not exceed. `None` without any response.
    pub(crate) fn latency(&self, percentile: f64) -> Option<Duration> {
        let is_empty = self.latencies.is_empty();
        (!is_empty).then(|| Duration::from_micros(self.latencies.value_at_quantile(percentile / 100.0)))
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tower_klikit::testing::SignedDelivery;

    use super::*;
    use crate::exchange::Answer;

    #[test]
    fn percentiles_come_from_all_attempts() {
        let planned = Planned { delivery: SignedDelivery::new("a secret", "{}"), is_corrupt: false };
        let mut tally = Tally::new();
        assert_eq!(tally.latency(50.0), None);
        for milliseconds in [100, 100, 100, 1500] {
            let time = Duration::from_millis(milliseconds);
            tally.add(&Ok(Answer { status: StatusCode::OK, body: String::new(), time }), &planned);
        }
        let latency = |percentile| tally.latency(percentile).unwrap().as_millis();
        assert_eq!([50.0, 75.0, 76.0, 100.0].map(latency), [100, 100, 1500, 1500]);
        tally.add(&Err(NoAnswer::Late), &planned);
        assert_eq!(tally.latency(100.0).unwrap().as_secs(), FakeKlikit::TIMEOUT.as_secs());
    }
}

//! Detection of handlers that block their thread.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;

/// The shortest time that is worth a warning, however short a lease is.
const MIN_THRESHOLD: Duration = Duration::from_millis(100);

/// Returns how long a handler may keep its thread before it endangers a lease of this length: the time between two
/// extensions.
pub(crate) fn threshold(lease: Duration) -> Duration {
    (lease / 3).max(MIN_THRESHOLD)
}

pin_project! {
    /// A future that reports each poll that takes at least as long as a threshold.
    ///
    /// While a poll runs, no other task runs on that thread, not even the task that renews claims or extends leases.
    pub(crate) struct WatchPolls<F, R> {
        #[pin]
        future: F,
        threshold: Duration,
        report: R,
    }
}

impl<F, R: FnMut(Duration)> WatchPolls<F, R> {
    /// Calls `report` with the duration of each poll of `future` that reaches `threshold`.
    pub(crate) fn new(future: F, threshold: Duration, report: R) -> Self {
        Self { future, threshold, report }
    }
}

impl<F: Future, R: FnMut(Duration)> Future for WatchPolls<F, R> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // The real clock: tokio's may be paused.
        let started = Instant::now();
        let poll = this.future.poll(cx);
        let elapsed = started.elapsed();
        if elapsed >= *this.threshold {
            (this.report)(elapsed);
        }
        poll
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn reports_long_poll() {
        let mut reports = Vec::new();
        let future = async {
            sleep(Duration::from_millis(20));
        };
        let watched = WatchPolls::new(future, Duration::from_millis(10), |elapsed| reports.push(elapsed));
        assert_eq!(watched.now_or_never(), Some(()));
        assert!(matches!(reports[..], [elapsed] if elapsed >= Duration::from_millis(20)), "{reports:?}");
    }

    #[test]
    fn short_polls_are_not_reported() {
        let watched = WatchPolls::new(async {}, Duration::from_secs(60), |elapsed| panic!("{elapsed:?}"));
        assert_eq!(watched.now_or_never(), Some(()));
    }
}

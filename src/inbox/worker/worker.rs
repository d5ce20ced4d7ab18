use std::{fmt, future::Future, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode};
use tower_service::Service;

use super::{BoxError, backoff::Backoff, outcome::Outcome, run, settings::Settings};
use crate::{inbox::config::Config, verify::VerifiedBody};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A worker that calls a handler with the deliveries of an [`Inbox`](crate::inbox::Inbox): see the
/// [module](crate::inbox) for the rules.
///
/// The request's extensions hold an [`Attempt`](super::Attempt) besides the [`Delivery`](crate::Delivery) and the
/// [`EventId`](crate::EventId). Its method, path, query and content type are not signed: see the [module](crate::inbox).
///
/// When an attempt fails, its reason is logged and kept as the [reason](crate::inbox::Entry::reason) of the delivery:
/// the [`FailureReason`](crate::FailureReason) in the response's extensions if there is one, or else the status, or the
/// beginning of the error's text. None of these should quote a body.
///
/// A handler that blocks its thread belongs in [`spawn_blocking`](tokio::task::spawn_blocking). The worker copes with
/// one that does not: a task of its own extends the leases, and a delivery whose lease expires is not handled again by
/// this process while its handler is still running.
#[derive(Clone)]
#[must_use = "a worker does nothing until it runs"]
pub struct Worker<S> {
    handler: S,
    config: Arc<Config>,
    pub(super) settings: Settings,
}

impl<S> Worker<S> {
    pub(in crate::inbox) fn new(handler: S, config: Arc<Config>) -> Self {
        Self { handler, config, settings: Settings::default() }
    }

    /// Sets how many deliveries are handled at a time, at least 1. Default: 16.
    pub fn concurrency(mut self, deliveries: usize) -> Self {
        self.settings.concurrency = deliveries.max(1);
        self
    }

    /// Sets how many deliveries to lease ahead of need, at most, while there are more than handlers. Default: what the
    /// store [asks for](crate::inbox::InboxStore::prefetch), which is 0 for most.
    ///
    /// The worker leases only as many as its handlers have finished in the last tenth of a second. It releases what is
    /// not started within a second, or within a third of the [lease](Self::lease) if that is shorter. So slow handlers
    /// keep no delivery from other nodes for long. A delivery counts an attempt when its handler starts. The bodies are
    /// in memory meanwhile.
    pub fn prefetch(mut self, deliveries: usize) -> Self {
        self.settings.prefetch = Some(deliveries);
        self
    }

    /// Sets how long a lease lasts. Default: 30 seconds. While the handler runs, the lease is extended at a third of
    /// that time. After a crash, deliveries that were being handled are handled again once their leases have expired.
    ///
    /// The time is clamped to between 100 milliseconds and a day.
    pub fn lease(mut self, time: Duration) -> Self {
        self.settings.lease = time.clamp(Duration::from_millis(100), DAY);
        self
    }

    /// Sets how many attempts a delivery gets before it is dead-lettered, at least 1. Default: 25. With the default
    /// [`backoff`](Self::backoff) these take 31 hours on average, as long as klikit itself would retry.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = attempts.max(1);
        self
    }

    /// Sets how long to wait before the next attempt: a random time up to `first` after the first attempt, up to twice
    /// that after the second, and so on, but never more than `last`. Default: 1 second and 6 hours. Both are limited to
    /// a year.
    pub fn backoff(mut self, first: Duration, last: Duration) -> Self {
        let year = 365 * DAY;
        self.settings.backoff = Backoff { first: first.min(year), last: last.min(year) };
        self
    }

    /// Sets how long the handler may take. Default: 5 minutes. After that the handler is dropped at its current await,
    /// and the attempt has failed.
    pub fn handler_deadline(mut self, time: Duration) -> Self {
        self.settings.handler_deadline = time;
        self
    }

    /// Sets how long handlers may take to finish once the worker is told to stop. Default: 25 seconds. After that they
    /// are dropped at their current await, and their deliveries are released: the attempt does not count.
    ///
    /// Reporting outcomes and releasing deliveries may take 5 seconds more, and a call to the store that is under way
    /// up to one [lease](Self::lease). Give the process that much time to stop. A handler that blocks its thread cannot
    /// be dropped before it awaits something.
    pub fn drain_deadline(mut self, time: Duration) -> Self {
        self.settings.drain_deadline = time;
        self
    }

    /// Sets how often to look for deliveries that other processes have accepted, for retries that are due, and for
    /// expired leases. Default: every second. The longest interval is a day. What this process accepts is handled at
    /// once.
    pub fn poll_interval(mut self, time: Duration) -> Self {
        self.settings.poll_interval = time.clamp(Duration::from_millis(1), DAY);
        self
    }

    /// Sets how often to report the contents of the inbox to [`metrics`](crate::metrics). Default: every 15 seconds.
    /// The shortest interval is a second, and `None` turns the reports off. The store counts everything it holds for
    /// them: where that is much, as with [kept](crate::inbox::Inbox::keep_bodies) deliveries on Postgres, let one
    /// worker report, or report less often.
    #[cfg(feature = "metrics")]
    pub fn metrics_interval(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.metrics_interval = time.into().map(|time| time.clamp(Duration::from_secs(1), DAY));
        self
    }

    /// Sets what the status of the handler's response means. Default: [`Outcome::of`], which retries after 409.
    ///
    /// A handler that responds 409 to an order that it already has should not get it again:
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_klikit::inbox::{Outcome, Worker};
    ///
    /// fn configured<S>(worker: Worker<S>) -> Worker<S> {
    ///     worker.outcome(|status| match status {
    ///         StatusCode::CONFLICT => Outcome::Done, // it already has this order
    ///         other => Outcome::of(other),
    ///     })
    /// }
    /// ```
    pub fn outcome(mut self, outcome: impl Fn(StatusCode) -> Outcome + Send + Sync + 'static) -> Self {
        self.settings.outcome = Arc::new(outcome);
        self
    }

    /// Handles deliveries until `shutdown` is ready, and then [drains](Self::drain_deadline): running handlers finish,
    /// and nothing new is leased.
    ///
    /// A store that is down is waited for. If this future is dropped instead of being shut down, its deliveries are
    /// handled again once their leases have expired.
    pub async fn run_until<ResBody>(self, shutdown: impl Future)
    where
        S: Service<Request<VerifiedBody>, Response = Response<ResBody>, Future: Send, Error: Into<BoxError>>
            + Clone
            + Send
            + 'static,
        S::Error: Send,
        ResBody: Send + 'static,
    {
        // Taken apart, so that the future is `Send` even if the handler is not `Sync`.
        let Self { handler, config, settings } = self;
        run::until(shutdown, handler, config, settings).await;
    }
}

impl<S: fmt::Debug> fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("handler", &self.handler)
            .field("config", &self.config)
            .field("settings", &self.settings)
            .finish()
    }
}

use std::{fmt, future::Future, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode};
use tower_service::Service;

use super::{
    HandlerError, backoff::Backoff, expiry::Expired, name::shortened, outcome::Outcome, run, settings::Settings,
};
use crate::{inbox::config::InboxConfig, verify::VerifiedBody};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A worker that calls a handler with the deliveries of an [`Inbox`](crate::inbox::Inbox): see the
/// [module](crate::inbox) for the rules.
///
/// The request's extensions hold an [`Attempt`](super::Attempt) besides the [`Delivery`](crate::Delivery) and the
/// [`EventId`](crate::EventId). Its method, path, query and content type are not signed: see the
/// [module](crate::inbox).
///
/// If an attempt fails, its reason is logged and kept as the [reason](crate::inbox::Entry::reason) of the delivery. The
/// reason is the [`FailureReason`](crate::FailureReason) in the response's extensions, if there is one. Otherwise the
/// reason is the status, or the beginning of the error's text. Do not quote the body in either of them.
///
/// Run code that blocks its thread in [`spawn_blocking`](tokio::task::spawn_blocking). The worker tolerates handlers
/// that block: a separate task extends the leases, and this process does not handle a delivery again while its handler
/// is still running.
#[derive(Clone)]
#[must_use = "a worker does nothing until it runs"]
pub struct Worker<S> {
    handler: S,
    config: Arc<InboxConfig>,
    pub(super) settings: Settings,
}

impl<S> Worker<S> {
    pub(in crate::inbox) fn new(handler: S, config: Arc<InboxConfig>) -> Self {
        Self { handler, config, settings: Settings::default() }
    }

    /// Sets the name of the worker in the [records of attempts](crate::inbox::Entry::history), of which the first 100
    /// characters count. Default: the name of the machine and the id of the process, such as `kitchen-1/4711`.
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.settings.name = shortened(name.as_ref());
        self
    }

    /// Sets the maximum number of deliveries that are handled at the same time, at least 1. Default: 16.
    pub fn concurrency(mut self, deliveries: usize) -> Self {
        self.settings.concurrency = deliveries.max(1);
        self
    }

    /// Sets the maximum number of deliveries to prefetch, which are leased before a handler is free. Default: the
    /// [default of the store](crate::inbox::InboxStore::prefetch), which is 0 for most stores.
    ///
    /// The worker prefetches only as many deliveries as its handlers have finished in the last tenth of a second. It
    /// releases deliveries that do not start within a second, or within a third of the [lease](Self::lease) if that is
    /// shorter. So slow handlers do not hold back deliveries from other nodes for long. An attempt counts when the
    /// handler starts. Prefetched bodies are kept in memory.
    pub fn prefetch(mut self, deliveries: usize) -> Self {
        self.settings.prefetch = Some(deliveries);
        self
    }

    /// Sets the duration of a lease, between 100 milliseconds and a day. Default: 30 seconds. Other values are clamped.
    ///
    /// While the handler runs, the lease is extended after each third of that time. After a crash, the deliveries of
    /// the process are handled again once their leases have expired.
    pub fn lease(mut self, time: Duration) -> Self {
        self.settings.lease = time.clamp(Duration::from_millis(100), DAY);
        self
    }

    /// Sets the number of attempts after which a delivery is dead-lettered, at least 1. Default: 25. With the default
    /// [`backoff`](Self::backoff), 25 attempts take 31 hours on average, as long as klikit itself retries.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = attempts.max(1);
        self
    }

    /// Sets the pause before the next attempt: a random time up to `first` after the first attempt, up to twice that
    /// after the second, and so on, but never more than `last`. Default: 1 second and 6 hours. Both are limited to a
    /// year.
    pub fn backoff(mut self, first: Duration, last: Duration) -> Self {
        let year = 365 * DAY;
        self.settings.backoff = Backoff { first: first.min(year), last: last.min(year) };
        self
    }

    /// Sets the time limit for the handler. Default: 5 minutes. At the limit, the handler is dropped at its current
    /// await, and the attempt has failed.
    pub fn handler_deadline(mut self, time: Duration) -> Self {
        self.settings.handler_deadline = time;
        self
    }

    /// Sets the time that running handlers have to finish after the worker is told to stop. Default: 25 seconds. After
    /// that they are dropped at their current await and their deliveries are released, so the attempts do not count.
    ///
    /// Reporting outcomes and releasing deliveries may take 5 more seconds. A call that leases deliveries may take up
    /// to one [lease](Self::lease). Give the process that much time to stop. A handler that blocks its thread cannot be
    /// dropped before its next await.
    pub fn drain_deadline(mut self, time: Duration) -> Self {
        self.settings.drain_deadline = time;
        self
    }

    /// Sets the interval at which the worker looks for deliveries that other processes have accepted, for retries that
    /// are due, and for expired leases. Default: 1 second. The longest interval is a day. Deliveries that this process
    /// accepts are handled at once.
    pub fn poll_interval(mut self, time: Duration) -> Self {
        self.settings.poll_interval = time.clamp(Duration::from_millis(1), DAY);
        self
    }

    /// Sets the interval at which the worker reports the contents of the inbox to [`metrics`](crate::metrics). Default:
    /// 15 seconds. The shortest interval is a second, and `None` turns the reports off.
    ///
    /// The store counts all its deliveries for each report. If these are many, as with
    /// [kept](crate::inbox::Inbox::keep_bodies) deliveries on Postgres, let only one worker report, or report less
    /// often.
    #[cfg(feature = "metrics")]
    pub fn metrics_interval(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.metrics_interval = time.into().map(|time| time.clamp(Duration::from_secs(1), DAY));
        self
    }

    /// Sets the function that maps the status of the handler's response to an outcome. Default: [`Outcome::of`], which
    /// retries after 409.
    ///
    /// If the handler responds with 409 to an order that it already has, treat that status as success:
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

    /// Sets the age after which deliveries with this event type are not handled, measured from their acceptance. Call
    /// it once for each event type. Default: no delivery expires.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_klikit::inbox::Worker;
    ///
    /// fn configured<S>(worker: Worker<S>) -> Worker<S> {
    ///     // An order that was placed an hour ago must not ring the kitchen now.
    ///     worker.expire_after("klikit.order.created.v2", Duration::from_secs(30 * 60))
    /// }
    /// ```
    ///
    /// The worker checks the age right before the handler would start. It dead-letters an expired delivery with the
    /// reason [`EXPIRED`](crate::inbox::EXPIRED), without calling the handler and without counting an attempt. It logs
    /// a warning, calls [`on_expired`](Self::on_expired), and counts the delivery in `klikit_inbox_expired_total`.
    ///
    /// A running handler is not interrupted. A delivery that an operator [retries](crate::inbox::Operator::retry) after
    /// it has expired does not expire again before its next attempt. One that klikit sends again keeps its time of
    /// acceptance, and so stays expired. klikit does not sign the event type: somebody who replays a captured delivery
    /// can choose a type that does not expire.
    pub fn expire_after(mut self, event_type: impl Into<String>, age: Duration) -> Self {
        self.settings.expiries.add(event_type.into(), age);
        self
    }

    /// Sets a function to call with each [expired](Self::expire_after) delivery after it is dead-lettered, for example
    /// to tell the branch. The function must not block. If it panics, the panic is ignored.
    pub fn on_expired(mut self, hook: impl Fn(&Expired) + Send + Sync + 'static) -> Self {
        self.settings.expiries.set_hook(hook);
        self
    }

    /// Handles deliveries until `shutdown` is ready, and then [drains](Self::drain_deadline): running handlers finish,
    /// and no more deliveries are leased.
    ///
    /// The worker logs at level `info` when it starts, when it drains, and when it has stopped. The first line tells
    /// how many deliveries are pending, leased and dead. After a crash, it also tells when the leases of the crashed
    /// worker end at the latest, if that worker had the same [`lease`](Self::lease).
    ///
    /// If the store is down, the worker waits until the store is back. If this future is dropped instead of being shut
    /// down, its deliveries are handled again once their leases have expired.
    pub async fn run_until<ResBody>(self, shutdown: impl Future)
    where
        S: Service<Request<VerifiedBody>, Response = Response<ResBody>, Future: Send, Error: Into<HandlerError>>
            + Clone
            + Send
            + 'static,
        S::Error: Send,
        ResBody: Send + 'static,
    {
        // Destructured, so that the future is `Send` even if the handler is not `Sync`.
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

mod attempt;
mod backoff;
mod preflight;

use std::{error::Error, fmt, future::Future, pin::pin, sync::Arc, time::Duration};

use futures_util::{
    FutureExt,
    future::{Either, join_all, select},
};
use http::{Request, Response, StatusCode};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tower_service::Service;

pub use self::attempt::Attempt;
use self::backoff::Backoff;
use super::{config::Config, delivery::Leased};
use crate::{dedupe::StoreError, telemetry, verify::VerifiedBody};

type BoxError = Box<dyn Error + Send + Sync>;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How often to purge what was kept and is over.
const PURGE_INTERVAL: Duration = Duration::from_secs(60);

/// How many to purge at once.
const PURGED: u32 = 1000;

/// How long it may take to give back what was leased.
const GIVING_BACK: Duration = Duration::from_secs(5);

/// What a handler's answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It was handled.
    Done,
    /// It is to be tried again.
    Retry,
    /// It would be answered the same way for ever: it is given up at once.
    Dead,
}

impl Outcome {
    /// What is made of a status unless [`Worker::outcome`] says otherwise: 2xx is done, 400 and 422 are dead, everything else is
    /// tried again.
    pub fn of(status: StatusCode) -> Self {
        match status {
            _ if status.is_success() => Self::Done,
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Self::Dead,
            _ => Self::Retry,
        }
    }
}

/// Handles what the inbox has stored: see the [module](super) for the rules.
///
/// A handler that wants to know which attempt it is finds an [`Attempt`] in the extensions, beside the
/// [`Delivery`](crate::Delivery) and the [`EventId`](crate::EventId).
///
/// When an attempt fails with an error, the beginning of its text is logged, and kept as the [reason](super::Entry::reason): an error
/// should not quote a body.
#[derive(Clone)]
#[must_use = "it does nothing before it is run"]
pub struct Worker<S> {
    handler: S,
    config: Arc<Config>,
    settings: Settings,
}

#[derive(Clone)]
struct Settings {
    concurrency: usize,
    lease: Duration,
    max_attempts: u32,
    backoff: Backoff,
    handler_deadline: Duration,
    drain_deadline: Duration,
    poll_interval: Duration,
    #[cfg(feature = "metrics")]
    metrics_interval: Option<Duration>,
    outcome: Arc<dyn Fn(StatusCode) -> Outcome + Send + Sync>,
}

impl<S> Worker<S> {
    pub(super) fn new(handler: S, config: Arc<Config>) -> Self {
        let settings = Settings {
            concurrency: 16,
            lease: Duration::from_secs(30),
            max_attempts: 25,
            backoff: Backoff { first: Duration::from_secs(1), last: Duration::from_secs(6 * 60 * 60) },
            handler_deadline: Duration::from_secs(5 * 60),
            drain_deadline: Duration::from_secs(25),
            poll_interval: Duration::from_secs(1),
            #[cfg(feature = "metrics")]
            metrics_interval: Some(Duration::from_secs(15)),
            outcome: Arc::new(Outcome::of),
        };
        Self { handler, config, settings }
    }

    /// How many deliveries are handled at a time: 16 unless set, and at least 1.
    pub fn concurrency(mut self, deliveries: usize) -> Self {
        self.settings.concurrency = deliveries.max(1);
        self
    }

    /// How long a lease lasts unless it is extended, which it is at a third of that time for as long as the handler runs: 30
    /// seconds unless set. After a crash, what was being handled is taken up again when its lease has run out.
    ///
    /// From 100 milliseconds to a day: what is beyond that is taken to be that.
    pub fn lease(mut self, time: Duration) -> Self {
        self.settings.lease = time.clamp(Duration::from_millis(100), DAY);
        self
    }

    /// How many attempts a delivery gets before it is given up: 25 unless set, which with the default
    /// [`backoff`](Self::backoff) take 31 hours on average, as long as klikit itself would try. At least 1.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = attempts.max(1);
        self
    }

    /// How long to wait before the next attempt: a random time up to `first` after the first attempt, up to twice that after the
    /// second, and so on, up to `last` at most. 1 second and 6 hours unless set.
    /// Neither can be longer than a year.
    pub fn backoff(mut self, first: Duration, last: Duration) -> Self {
        let year = 365 * DAY;
        self.settings.backoff = Backoff { first: first.min(year), last: last.min(year) };
        self
    }

    /// How long the handler may take: 5 minutes unless set. Then it is dropped where it stands, and the attempt has failed.
    pub fn handler_deadline(mut self, time: Duration) -> Self {
        self.settings.handler_deadline = time;
        self
    }

    /// How long handlers may take to end once the worker is told to stop: 25 seconds unless set. Then they are dropped where
    /// they stand, and their deliveries are given back without having lost an attempt.
    ///
    /// Before and after that, the store is waited for: for as long as it takes to answer a call that is under way, a
    /// [lease](Self::lease) at most, and for 5 seconds to give deliveries back. Give the process that much time to end.
    pub fn drain_deadline(mut self, time: Duration) -> Self {
        self.settings.drain_deadline = time;
        self
    }

    /// How often to look for what other processes have accepted, for retries that are due, and for leases that have run out: each
    /// second unless set, and each day at least. What this process accepts is taken up at once.
    pub fn poll_interval(mut self, time: Duration) -> Self {
        self.settings.poll_interval = time.clamp(Duration::from_millis(1), DAY);
        self
    }

    /// How often to tell [`metrics`](crate::metrics) what is in the inbox: every 15 seconds unless set, a second at least, and
    /// `None` for never. It has the store count everything that is there: where that is much, as with
    /// [kept](super::Inbox::keep_bodies) deliveries on Postgres, let it be one worker that does, or do it less often.
    #[cfg(feature = "metrics")]
    pub fn metrics_interval(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.metrics_interval = time.into().map(|time| time.clamp(Duration::from_secs(1), DAY));
        self
    }

    /// What the status of the handler's answer means: [`Outcome::of`] unless set.
    pub fn outcome(mut self, outcome: impl Fn(StatusCode) -> Outcome + Send + Sync + 'static) -> Self {
        self.settings.outcome = Arc::new(outcome);
        self
    }

    /// Handles deliveries until `shutdown` is ready, and then [ends](Self::drain_deadline) what it has begun.
    ///
    /// It waits out a store that is down. When it is dropped in place of being shut down, the deliveries that it has are taken up
    /// again when their leases have run out.
    pub async fn run_until<ResBody>(self, shutdown: impl Future)
    where
        S: Service<Request<VerifiedBody>, Response = Response<ResBody>, Future: Send, Error: Into<BoxError>>
            + Clone
            + Send
            + 'static,
        S::Error: Send,
        ResBody: Send + 'static,
    {
        // Apart, so that the future is `Send` also when the handler is not `Sync`.
        let Self { handler, config, settings } = self;
        let looker = Looker { config, settings };
        let mut shutdown = pin!(shutdown.map(drop));
        let (cut, cut_off) = watch::channel(false);
        let mut attempts = JoinSet::new();
        // Beside the rest: nothing waits for it, and it ends with this.
        let mut purging = JoinSet::new();
        #[cfg(feature = "metrics")]
        let mut measuring = JoinSet::new();
        #[cfg(feature = "metrics")]
        if let Some(interval) = looker.settings.metrics_interval {
            measuring.spawn(measure(Arc::clone(&looker.config), interval));
        }
        let mut pace = Pace::new();
        loop {
            let stopped = {
                let ready = pin!(looker.ready_to_lease(&mut attempts, &mut pace));
                matches!(select(&mut shutdown, ready).await, Either::Left(_))
            };
            if stopped {
                break;
            }
            // Never dropped half-way: what it has leased would be lost for the time of a lease.
            let leased_at = Instant::now();
            let limit = looker.settings.concurrency - attempts.len();
            let leased = looker.lease(limit, &mut pace).await;
            if (&mut shutdown).now_or_never().is_some() {
                looker.give_back(&leased).await;
                break;
            }
            for leased in leased {
                let (config, settings) = (Arc::clone(&looker.config), looker.settings.clone());
                attempts.spawn(attempt::run(handler.clone(), leased, leased_at, config, settings, cut_off.clone()));
            }
            looker.purge(&mut purging, &mut pace);
        }
        drain(attempts, cut, looker.settings.drain_deadline).await;
    }
}

/// Looks for what there is to do.
struct Looker {
    config: Arc<Config>,
    settings: Settings,
}

impl Looker {
    /// Waits until there is room for an attempt, and a reason to look for one.
    async fn ready_to_lease(&self, attempts: &mut JoinSet<()>, pace: &mut Pace) {
        loop {
            while attempts.try_join_next().is_some() {
                // Those that share its ordering keys waited for it.
                pace.look = true;
            }
            let has_room = attempts.len() < self.settings.concurrency;
            if has_room && pace.look {
                return;
            }
            let ended = async {
                // An empty set has nothing to wait for.
                if attempts.join_next().await.is_none() {
                    std::future::pending::<()>().await;
                }
            };
            let next = pace.looked + self.settings.poll_interval;
            let waited = async {
                if !has_room {
                    std::future::pending::<()>().await;
                }
                let poll = sleep_until(next);
                select(pin!(self.config.wake.notified()), pin!(poll)).await;
            };
            match select(pin!(ended), pin!(waited)).await {
                Either::Left(_) | Either::Right(_) => pace.look = true,
            }
        }
    }

    async fn lease(&self, limit: usize, pace: &mut Pace) -> Vec<Leased> {
        let Settings { lease, max_attempts, .. } = self.settings;
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        pace.looked = Instant::now();
        // An answer that comes later is of leases that have run out.
        let leased = timeout(lease, self.config.store.lease(limit, lease, max_attempts)).await;
        let leased = leased.unwrap_or_else(|_| Err(StoreError::deadline())).unwrap_or_else(|error| {
            telemetry::inbox_store_failed("lease", &error);
            Vec::new()
        });
        // As many as were asked for: there may be more.
        pace.look = leased.len() >= limit as usize;
        leased
    }

    /// One that fails is taken up again when its lease has run out.
    async fn give_back(&self, leased: &[Leased]) {
        let given_back = join_all(leased.iter().map(|leased| self.config.store.give_back(leased.lease())));
        let results = timeout(GIVING_BACK, given_back).await.unwrap_or_else(|_| vec![Err(StoreError::deadline())]);
        for error in results.into_iter().filter_map(Result::err) {
            telemetry::inbox_store_failed("give back", &error);
        }
    }

    /// Deletes what was kept and is over, now and then.
    fn purge(&self, purging: &mut JoinSet<()>, pace: &mut Pace) {
        let is_running = purging.try_join_next().is_none() && !purging.is_empty();
        if is_running || pace.purged.elapsed() < PURGE_INTERVAL {
            return;
        }
        pace.purged = Instant::now();
        let store = Arc::clone(&self.config.store);
        purging.spawn(async move {
            loop {
                match store.purge_done(PURGED).await {
                    Ok(purged) if purged >= u64::from(PURGED) => {}
                    Ok(_) => return,
                    Err(error) => return telemetry::inbox_store_failed("purge", &error),
                }
            }
        });
    }
}

/// Tells now and then what is in the inbox, until it is dropped.
#[cfg(feature = "metrics")]
async fn measure(config: Arc<Config>, interval: Duration) {
    loop {
        let next = Instant::now() + interval;
        // One that never answers would be the last.
        let counts = timeout(interval, config.store.counts()).await;
        match counts.unwrap_or_else(|_| Err(StoreError::deadline())) {
            Ok(counts) => telemetry::inbox(&counts.by_state(), counts.oldest),
            Err(error) => telemetry::inbox_store_failed("count", &error),
        }
        sleep_until(next).await;
    }
}

/// When to ask the store for what.
struct Pace {
    /// There may be something to lease.
    look: bool,
    looked: Instant,
    purged: Instant,
}

impl Pace {
    fn new() -> Self {
        let now = Instant::now();
        Self { look: true, looked: now, purged: now }
    }
}

/// Lets attempts end, for this time, and then has them give back what they have.
async fn drain(mut attempts: JoinSet<()>, cut: watch::Sender<bool>, deadline: Duration) {
    let ended = async |attempts: &mut JoinSet<()>| while attempts.join_next().await.is_some() {};
    if timeout(deadline, ended(&mut attempts)).await.is_err() {
        cut.send_replace(true);
        // Those that do not manage are stopped here.
        let _ = timeout(GIVING_BACK, ended(&mut attempts)).await;
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

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("concurrency", &self.concurrency)
            .field("lease", &self.lease)
            .field("max_attempts", &self.max_attempts)
            .field("backoff", &self.backoff)
            .field("handler_deadline", &self.handler_deadline)
            .field("drain_deadline", &self.drain_deadline)
            .field("poll_interval", &self.poll_interval)
            .finish_non_exhaustive()
    }
}

//! The main loop of a worker.

use std::{
    future::{Future, pending},
    panic::resume_unwind,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{Either, select},
};
use http::{Request, Response};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tower_service::Service;

use super::{
    HandlerError,
    attempt::{self, Job, StopStage, WorkerContext},
    extension,
    misrouted::Misrouted,
    queue::{Queue, Rate},
    running::WorkerId,
    settings::Settings,
};
use crate::{
    deadline::store_call,
    dedupe::StoreError,
    inbox::{DeadLettered, LeaseBatch, LeaseRequest, Settlement, Unreadable, config::InboxConfig, head::StoredHead},
    nudge::{NUDGES_PER_LEASE, Nudges},
    telemetry::{self, LogContext},
    verify::VerifiedBody,
};

/// The interval at which expired kept deliveries and expired dead letters are purged.
const PURGE_INTERVAL: Duration = Duration::from_secs(60);

/// The maximum number of deliveries to purge with one call.
const PURGE_BATCH: u32 = 1000;

/// The time limit for a call that leases. A shutdown waits for the call.
const LEASE_DEADLINE: Duration = Duration::from_secs(30);

/// The time limit for the call that counts deliveries when a worker starts. The first lease waits for the call.
const REPORT_DEADLINE: Duration = Duration::from_secs(2);

/// The longest time for which a prefetched delivery waits for a handler. Less if leases are short.
const PATIENCE: Duration = Duration::from_secs(1);

/// The time after the drain deadline for reporting outcomes and releasing deliveries.
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);

/// Handles deliveries until `shutdown` is ready, then drains.
pub(super) async fn until<S, ResBody>(shutdown: impl Future, handler: S, config: Arc<InboxConfig>, settings: Settings)
where
    S: Service<Request<VerifiedBody>, Response = Response<ResBody>, Future: Send> + Clone + Send + 'static,
    S::Error: Into<HandlerError> + Send,
    ResBody: Send + 'static,
{
    let mut shutdown = pin!(shutdown.map(drop));
    let mut guard = config.vitals.starts();
    let (stop, stopping) = watch::channel(StopStage::Not);
    let worker = WorkerLoop {
        id: WorkerId::next(),
        shared: Arc::new(WorkerContext { config, settings, misrouted: Misrouted::default() }),
        stopping,
    };
    let mut background = worker.background();
    let mut work = WorkerTasks::new();
    let mut is_stopping = false;
    if telemetry::worker_lines_are_enabled() {
        is_stopping = matches!(select(pin!(worker.report_start()), &mut shutdown).await, Either::Right(_));
    }
    loop {
        work.reap();
        while let Some(job) = work.next_job(worker.shared.settings.concurrency) {
            let attempt = attempt::run(handler.clone(), job, Arc::clone(&worker.shared), worker.stopping.clone());
            work.attempts.spawn(attempt);
        }
        worker.fetch(&mut work);
        worker.release_stale(&mut work);
        worker.purge(&mut background, &mut work.pace);
        if is_stopping || matches!(select(&mut shutdown, pin!(worker.wait(&mut work))).await, Either::Left(_)) {
            break;
        }
    }
    guard.drains();
    // From here on no handler starts, and no delivery is leased.
    stop.send_replace(StopStage::Draining);
    work.reap();
    telemetry::worker_drains(work.attempts.len());
    work.fetched_last().await;
    worker.release_queue(&mut work);
    let deadline = worker.shared.settings.drain_deadline;
    let interrupted = drain(work, stop, deadline).await;
    guard.end();
    telemetry::worker_stopped(interrupted, deadline);
}

/// A worker without its handler.
struct WorkerLoop {
    id: WorkerId,
    shared: Arc<WorkerContext>,
    stopping: watch::Receiver<StopStage>,
}

/// The queue of a worker, and its tasks for attempts and store calls.
struct WorkerTasks {
    attempts: JoinSet<()>,
    /// The call that leases, if one is running. It is never dropped early: the deliveries that it leases would be stuck
    /// until their leases expire.
    fetching: JoinSet<FetchedJobs>,
    releasing: JoinSet<()>,
    queue: Queue,
    rate: Rate,
    pace: Pace,
}

/// The result of a call that leases.
struct FetchedJobs {
    jobs: Vec<Job>,
    /// Whether the call leased as many deliveries as requested, so that the store may have more.
    may_be_more: bool,
}

impl WorkerTasks {
    fn new() -> Self {
        let (attempts, fetching, releasing) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
        Self { attempts, fetching, releasing, queue: Queue::default(), rate: Rate::new(), pace: Pace::new() }
    }

    /// Processes the results of tasks that have ended.
    fn reap(&mut self) {
        while self.attempts.try_join_next().is_some() {
            self.ended();
        }
        if let Some(fetched) = self.fetching.try_join_next() {
            self.fetched(fetched);
        }
        while self.releasing.try_join_next().is_some() {}
    }

    fn ended(&mut self) {
        self.rate.finished();
        // The delivery may have blocked others that share its ordering keys.
        self.pace.look = true;
    }

    fn fetched(&mut self, fetched: Result<FetchedJobs, JoinError>) {
        match fetched {
            Ok(FetchedJobs { jobs, may_be_more }) => {
                self.queue.add(jobs);
                self.pace.may_be_more = may_be_more;
                self.pace.look |= may_be_more;
            }
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    resume_unwind(panic);
                }
            }
        }
    }

    /// Waits for the call that leases, if one is running.
    async fn fetched_last(&mut self) {
        if let Some(fetched) = self.fetching.join_next().await {
            self.fetched(fetched);
        }
    }

    /// Returns the next delivery to handle, if a handler is free.
    fn next_job(&mut self, concurrency: usize) -> Option<Job> {
        if self.attempts.len() < concurrency { self.queue.next() } else { None }
    }

    /// Returns the number of deliveries that have a handler or will get the next free one.
    fn busy(&self) -> usize {
        self.attempts.len() + self.queue.len()
    }
}

impl WorkerLoop {
    /// Starts the background tasks. They stop when the returned value is dropped.
    fn background(&self) -> Background {
        telemetry::start_worker_counters();
        let WorkerContext { config, settings, .. } = &*self.shared;
        let mut tasks = JoinSet::new();
        tasks.spawn(extension::extend_leases(Arc::clone(config), self.id, settings.lease).map(|never| match never {}));
        #[cfg(feature = "metrics")]
        if let Some(interval) = settings.metrics_interval {
            tasks.spawn(measure(Arc::clone(config), interval));
        }
        let nudges = Nudges::start(settings.lease / NUDGES_PER_LEASE);
        Background { _tasks: tasks, _nudges: nudges, purging: JoinSet::new() }
    }

    /// Logs how many deliveries the store has in each state. Does not wait long for the store, which may be down.
    async fn report_start(&self) {
        let WorkerContext { config, settings, .. } = &*self.shared;
        match store_call(REPORT_DEADLINE, config.store.counts()).await {
            Ok(counts) => telemetry::worker_starts(&counts, settings.lease),
            Err(error) => telemetry::inbox_store_failed("count", &error),
        }
    }

    /// Waits until there is something to do.
    async fn wait(&self, work: &mut WorkerTasks) {
        let WorkerContext { config, settings, .. } = &*self.shared;
        let WorkerTasks { attempts, fetching, queue, pace, .. } = work;
        // No second call leases while one is running.
        let is_free = fetching.is_empty() && attempts.len() + queue.len() < settings.concurrency;
        let (next, stale) = (pace.looked + settings.poll_interval, queue.oldest().map(|since| since + self.patience()));
        let mut ended = false;
        let mut fetched = None;
        {
            let one_ended = async {
                // An empty set is ready at once: wait for the other events instead.
                if attempts.join_next().await.is_none() {
                    pending::<()>().await;
                }
                ended = true;
            };
            let one_fetched = async {
                fetched = fetching.join_next().await;
                if fetched.is_none() {
                    pending::<()>().await;
                }
            };
            let look = async {
                if !is_free {
                    pending::<()>().await;
                }
                select(pin!(config.wake.notified()), pin!(sleep_until(next))).await;
                pace.look = true;
            };
            let is_stale = async {
                match stale {
                    Some(stale) => sleep_until(stale).await,
                    None => pending().await,
                }
            };
            let (one_ended, one_fetched) = (pin!(one_ended), pin!(one_fetched));
            let (look, is_stale) = (pin!(look), pin!(is_stale));
            select(select(one_ended, one_fetched), select(look, is_stale)).await;
        }
        if ended {
            work.ended();
        }
        if let Some(fetched) = fetched {
            work.fetched(fetched);
        }
    }

    /// Starts a task that leases deliveries, if there is a reason to: for free handlers, and to prefetch if the store
    /// probably has more.
    fn fetch(&self, work: &mut WorkerTasks) {
        let WorkerContext { config, settings, .. } = &*self.shared;
        let ahead = if work.pace.may_be_more {
            work.rate.lately().min(settings.prefetch.unwrap_or_else(|| config.store.prefetch()))
        } else {
            0
        };
        let (busy, wanted) = (work.busy(), settings.concurrency.saturating_add(ahead));
        let is_needed = busy < settings.concurrency || work.queue.len() < ahead.div_ceil(2);
        if !work.pace.look || !is_needed || !work.fetching.is_empty() {
            return;
        }
        work.pace.look = false;
        work.pace.looked = Instant::now();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let limit = number(wanted.saturating_sub(busy));
        let free_handlers = number(settings.concurrency.saturating_sub(busy));
        let lease = lease(Arc::clone(&self.shared), self.id, limit, free_handlers);
        let stopped = attempt::reached(self.stopping.clone(), StopStage::Draining);
        let running = Arc::clone(&config.running);
        work.fetching.spawn(async move {
            // Workers of this inbox lease one after the other: see `RunningDeliveries`.
            let turn = running.leasing();
            match select(pin!(turn), pin!(stopped)).await {
                Either::Left((_turn, _)) => lease.await,
                Either::Right(_) => FetchedJobs { jobs: Vec::new(), may_be_more: false },
            }
        });
    }

    /// Returns the time after which a prefetched delivery without a handler is released.
    fn patience(&self) -> Duration {
        PATIENCE.min(self.shared.settings.lease / 3)
    }

    /// Releases the prefetched deliveries if handlers have become so slow that another node may be faster.
    fn release_stale(&self, work: &mut WorkerTasks) {
        if work.queue.oldest().is_some_and(|since| since.elapsed() >= self.patience()) {
            work.pace.may_be_more = false;
            self.release_queue(work);
        }
    }

    /// Starts a task that releases the deliveries in the queue.
    fn release_queue(&self, work: &mut WorkerTasks) {
        let (shared, jobs) = (Arc::clone(&self.shared), work.queue.take());
        if !jobs.is_empty() {
            work.releasing.spawn(async move { release(&shared, jobs).await });
        }
    }

    /// Starts a task that deletes expired kept deliveries and expired dead letters, once per [`PURGE_INTERVAL`].
    fn purge(&self, background: &mut Background, pace: &mut Pace) {
        let purging = &mut background.purging;
        let is_running = purging.try_join_next().is_none() && !purging.is_empty();
        if is_running || pace.purged.elapsed() < PURGE_INTERVAL {
            return;
        }
        pace.purged = Instant::now();
        let config = Arc::clone(&self.shared.config);
        purging.spawn(async move {
            purge_in_batches(|| config.store.purge_done(PURGE_BATCH), |_| {}).await;
            if let Some(age) = config.keep_dead_letters {
                let report = |deleted| telemetry::dead_letters_expired(deleted, age);
                purge_in_batches(|| config.store.purge_dead(age, PURGE_BATCH), report).await;
            }
        });
    }
}

/// Repeats a call that deletes a batch until there are no more deliveries to delete. Reports the size of each batch.
async fn purge_in_batches<F>(purge: impl Fn() -> F, report: impl Fn(u64))
where
    F: Future<Output = Result<u64, StoreError>>,
{
    loop {
        let purged = match store_call(PURGE_INTERVAL, purge()).await {
            Ok(purged) => purged,
            Err(error) => return telemetry::inbox_store_failed("purge", &error),
        };
        if purged > 0 {
            report(purged);
        }
        if purged < u64::from(PURGE_BATCH) {
            return;
        }
    }
}

/// Leases deliveries and registers them as running. No other worker of the inbox may lease at the same time.
async fn lease(shared: Arc<WorkerContext>, worker: WorkerId, limit: u32, free_handlers: u32) -> FetchedJobs {
    let WorkerContext { config, settings, .. } = &*shared;
    let (asked, held) = (Instant::now(), config.running.held());
    let request = LeaseRequest {
        limit,
        free_handlers,
        duration: settings.lease,
        max_attempts: settings.max_attempts,
        held: &held,
        worker: &settings.name,
    };
    let deadline = settings.lease.min(LEASE_DEADLINE);
    let batch = store_call(deadline, config.store.lease(&request)).await.unwrap_or_else(|error| {
        telemetry::inbox_store_failed("lease", &error);
        LeaseBatch::default()
    });
    report(&batch);
    let may_be_more = batch.leased.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let leased_at = Instant::now();
    let jobs = batch.leased.into_iter().filter_map(|leased| {
        let (registration, blocked) = config.running.register(&leased, worker, asked)?;
        Some(Job { leased, registration, blocked, leased_at })
    });
    FetchedJobs { jobs: jobs.collect(), may_be_more }
}

/// Releases deliveries that were not started. If the call fails, they are handled once their leases expire.
async fn release(shared: &WorkerContext, jobs: Vec<Job>) {
    let releases: Vec<_> = jobs.iter().map(|job| (job.registration.lease(), Settlement::Release)).collect();
    if let Err(error) = store_call(RELEASE_DEADLINE, shared.config.store.settle(&releases)).await {
        telemetry::inbox_store_failed("release", &error);
    }
}

/// The background tasks of a worker.
struct Background {
    _tasks: JoinSet<()>,
    _nudges: Option<Nudges>,
    purging: JoinSet<()>,
}

/// Logs and counts the deliveries that leasing has dead-lettered or could not read.
fn report(batch: &LeaseBatch) {
    for DeadLettered { id, attempts, head, reason } in &batch.dead_lettered {
        let head = head.as_deref().and_then(|head| StoredHead::from_text(head).ok());
        let event_id = head.as_ref().and_then(StoredHead::event_id);
        let context = LogContext::new(event_id.as_ref(), head.as_ref().map(|head| &*head.tenant));
        telemetry::dead_lettered(context, *id, *attempts, reason);
    }
    for Unreadable { id, error } in &batch.unreadable {
        telemetry::unreadable(*id, error);
    }
}

/// Reports the number of deliveries in the inbox at this interval, until the future is dropped.
#[cfg(feature = "metrics")]
async fn measure(config: Arc<InboxConfig>, interval: Duration) {
    loop {
        let next = Instant::now() + interval;
        // With a deadline, because a call that never returns would end the reports.
        match store_call(interval, config.store.counts()).await {
            Ok(counts) => {
                telemetry::inbox(&counts.by_state(), counts.oldest);
                telemetry::inbox_stored(counts.stored(), config.max_stored);
            }
            Err(error) => telemetry::inbox_store_failed("count", &error),
        }
        sleep_until(next).await;
    }
}

/// The state that decides when to call the store.
struct Pace {
    /// Whether the store may have deliveries to lease.
    look: bool,
    /// Whether the last call leased as many deliveries as requested.
    may_be_more: bool,
    looked: Instant,
    purged: Instant,
}

impl Pace {
    fn new() -> Self {
        let now = Instant::now();
        Self { look: true, may_be_more: false, looked: now, purged: now }
    }
}

/// Lets attempts finish within `deadline`, then stops the others, which release their deliveries. Returns the number of
/// attempts that it stops.
async fn drain(mut work: WorkerTasks, stop: watch::Sender<StopStage>, deadline: Duration) -> usize {
    let ended = async |work: &mut WorkerTasks| {
        while work.attempts.join_next().await.is_some() {}
        while work.releasing.join_next().await.is_some() {}
    };
    if timeout(deadline, ended(&mut work)).await.is_ok() {
        return 0;
    }
    let interrupted = work.attempts.len();
    stop.send_replace(StopStage::Now);
    // Dropping the sets aborts the tasks that are still running.
    let _ = timeout(RELEASE_DEADLINE, ended(&mut work)).await;
    interrupted
}

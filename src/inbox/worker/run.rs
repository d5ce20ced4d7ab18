//! The worker's loop.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use futures_util::{
    FutureExt,
    future::{Either, select},
};
use http::{Request, Response};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tower_service::Service;

use super::{
    BoxError,
    attempt::{self, Job, Shared, Stop},
    keeper,
    misrouted::Misrouted,
    running::WorkerId,
    settings::Settings,
};
use crate::{
    deadline::store_call,
    inbox::{DeadLettered, LeaseBatch, LeaseRequest, Settlement, Unreadable, config::Config, head::Head},
    nudge::{NUDGES_PER_LEASE, Nudges},
    telemetry::{self, LogContext},
    verify::VerifiedBody,
};

/// How often to purge what was kept and whose time is over.
const PURGE_INTERVAL: Duration = Duration::from_secs(60);

/// How many deliveries to purge with one call.
const PURGE_BATCH: u32 = 1000;

/// How long a call that leases may take. A shutdown waits for it.
const LEASING: Duration = Duration::from_secs(30);

/// How long outcomes may take to be reported, and deliveries to be released, after the drain deadline.
const RELEASING: Duration = Duration::from_secs(5);

/// Handles deliveries until `shutdown` is ready, and then drains.
pub(super) async fn until<S, ResBody>(shutdown: impl Future, handler: S, config: Arc<Config>, settings: Settings)
where
    S: Service<Request<VerifiedBody>, Response = Response<ResBody>, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError> + Send,
    ResBody: Send + 'static,
{
    let mut shutdown = pin!(shutdown.map(drop));
    let (stop, stopping) = watch::channel(Stop::Not);
    let mut attempts = JoinSet::new();
    let worker =
        Loop { id: WorkerId::next(), shared: Arc::new(Shared { config, settings, misrouted: Misrouted::default() }) };
    let mut background = worker.background();
    let mut pace = Pace::new();
    loop {
        let leasing = {
            let ready = pin!(async {
                worker.ready_to_lease(&mut attempts, &mut pace).await;
                worker.shared.config.running.leasing().await
            });
            match select(&mut shutdown, ready).await {
                Either::Left(_) => break,
                Either::Right((leasing, _)) => leasing,
            }
        };
        // Never dropped half-way: what it leased would be lost until the leases expire.
        let jobs = worker.lease(attempts.len(), &mut pace).await;
        drop(leasing);
        if (&mut shutdown).now_or_never().is_some() {
            worker.release(&jobs).await;
            break;
        }
        for job in jobs {
            attempts.spawn(attempt::run(handler.clone(), job, Arc::clone(&worker.shared), stopping.clone()));
        }
        worker.purge(&mut background, &mut pace);
    }
    drain(attempts, stop, worker.shared.settings.drain_deadline).await;
}

/// A worker, apart from its handler.
struct Loop {
    id: WorkerId,
    shared: Arc<Shared>,
}

impl Loop {
    /// Starts the tasks that run alongside the loop. They stop when the value is dropped.
    fn background(&self) -> Background {
        let Shared { config, settings, .. } = &*self.shared;
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper::extend_leases(Arc::clone(config), self.id, settings.lease).map(|never| match never {}));
        #[cfg(feature = "metrics")]
        if let Some(interval) = settings.metrics_interval {
            tasks.spawn(measure(Arc::clone(config), interval));
        }
        let nudges = Nudges::start(settings.lease / NUDGES_PER_LEASE);
        Background { _tasks: tasks, _nudges: nudges, purging: JoinSet::new() }
    }

    /// Waits until another attempt can start, and there is a reason to look for one.
    async fn ready_to_lease(&self, attempts: &mut JoinSet<()>, pace: &mut Pace) {
        let Shared { config, settings, .. } = &*self.shared;
        loop {
            while attempts.try_join_next().is_some() {
                // Deliveries that share its ordering keys were blocked.
                pace.look = true;
            }
            let is_free = attempts.len() < settings.concurrency;
            if is_free && pace.look {
                return;
            }
            let ended = async {
                // An empty set has nothing to wait for.
                if attempts.join_next().await.is_none() {
                    std::future::pending::<()>().await;
                }
            };
            let next = pace.looked + settings.poll_interval;
            let waited = async {
                if !is_free {
                    std::future::pending::<()>().await;
                }
                select(pin!(config.wake.notified()), pin!(sleep_until(next))).await;
            };
            select(pin!(ended), pin!(waited)).await;
            pace.look = true;
        }
    }

    /// Leases deliveries for the attempts that can start, and enters them in the process's list. No other worker of the
    /// inbox may be leasing meanwhile.
    async fn lease(&self, running: usize, pace: &mut Pace) -> Vec<Job> {
        let Shared { config, settings, .. } = &*self.shared;
        let limit = settings.concurrency.saturating_sub(running);
        let asked = Instant::now();
        pace.looked = asked;
        let held = config.running.held();
        let request = LeaseRequest {
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            duration: settings.lease,
            max_attempts: settings.max_attempts,
            held: &held,
        };
        let limit_of_call = settings.lease.min(LEASING);
        let batch = store_call(limit_of_call, config.store.lease(&request)).await.unwrap_or_else(|error| {
            telemetry::inbox_store_failed("lease", &error);
            LeaseBatch::default()
        });
        report(&batch);
        // As many as were asked for: there may be more.
        pace.look = batch.leased.len() >= limit;
        let jobs = batch.leased.into_iter().filter_map(|leased| {
            let extend_for = settings.handler_deadline.saturating_add(settings.lease);
            let (registration, blocked) = config.running.register(&leased, self.id, asked, extend_for)?;
            Some(Job { leased, registration, blocked })
        });
        jobs.collect()
    }

    /// Releases deliveries that were not started. If that fails, they are handled once their leases have expired.
    async fn release(&self, jobs: &[Job]) {
        let releases: Vec<_> = jobs.iter().map(|job| (job.registration.lease(), Settlement::Release)).collect();
        if !releases.is_empty()
            && let Err(error) = store_call(RELEASING, self.shared.config.store.settle(&releases)).await
        {
            telemetry::inbox_store_failed("release", &error);
        }
    }

    /// Deletes what was kept and whose time is over, now and then.
    fn purge(&self, background: &mut Background, pace: &mut Pace) {
        let purging = &mut background.purging;
        let is_running = purging.try_join_next().is_none() && !purging.is_empty();
        if is_running || pace.purged.elapsed() < PURGE_INTERVAL {
            return;
        }
        pace.purged = Instant::now();
        let store = Arc::clone(&self.shared.config.store);
        purging.spawn(async move {
            loop {
                match store_call(PURGE_INTERVAL, store.purge_done(PURGE_BATCH)).await {
                    Ok(purged) if purged >= u64::from(PURGE_BATCH) => {}
                    Ok(_) => return,
                    Err(error) => return telemetry::inbox_store_failed("purge", &error),
                }
            }
        });
    }
}

/// The tasks that run alongside the loop.
struct Background {
    _tasks: JoinSet<()>,
    _nudges: Option<Nudges>,
    purging: JoinSet<()>,
}

/// Logs and counts what leasing has come across.
fn report(batch: &LeaseBatch) {
    for DeadLettered { id, attempts, head, reason } in &batch.dead_lettered {
        let head = head.as_deref().and_then(|head| Head::from_text(head).ok());
        let event_id = head.as_ref().and_then(Head::event_id);
        let context = LogContext::new(event_id.as_ref(), head.as_ref().map(|head| &*head.tenant));
        telemetry::dead_lettered(context, *id, *attempts, reason);
    }
    for Unreadable { id, error } in &batch.unreadable {
        telemetry::unreadable(*id, error);
    }
}

/// Reports now and then what is in the inbox, until it is dropped.
#[cfg(feature = "metrics")]
async fn measure(config: Arc<Config>, interval: Duration) {
    loop {
        let next = Instant::now() + interval;
        // A call that never answers would be the last.
        match store_call(interval, config.store.counts()).await {
            Ok(counts) => telemetry::inbox(&counts.by_state(), counts.oldest),
            Err(error) => telemetry::inbox_store_failed("count", &error),
        }
        sleep_until(next).await;
    }
}

/// The times of the calls to the store.
struct Pace {
    /// Whether there may be something to lease.
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

/// Lets attempts finish within `deadline`, and then makes them release their deliveries.
async fn drain(mut attempts: JoinSet<()>, stop: watch::Sender<Stop>, deadline: Duration) {
    stop.send_replace(Stop::Draining);
    let ended = async |attempts: &mut JoinSet<()>| while attempts.join_next().await.is_some() {};
    if timeout(deadline, ended(&mut attempts)).await.is_err() {
        stop.send_replace(Stop::Now);
        // Dropping the set aborts those that are still running.
        let _ = timeout(RELEASING, ended(&mut attempts)).await;
    }
}

//! Sends deliveries as klikit does, and retries those that fail.

use std::{
    num::NonZeroU32,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use indicatif::ProgressBar;
use reqwest::{Client, Url};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet},
    time::{Instant, sleep, sleep_until},
};
use tower_klikit::testing::FakeKlikit;

use super::{
    plan::{Plan, Planned},
    tally::Tally,
};
use crate::{
    exchange::{Exchange, exchange, is_success},
    interrupt::Interrupt,
    output,
};

/// The maximum number of unfinished deliveries, so that deliveries that wait for a retry do not fill the memory.
const MAX_UNFINISHED: usize = 10_000;

/// The pace of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The number of first attempts a second. `None` if only the concurrency limits them.
    pub(crate) rate: Option<f64>,
    /// The maximum number of attempts at a time.
    pub(crate) concurrency: NonZeroU32,
    /// The divisor of klikit's retry delays.
    pub(crate) speed: f64,
    /// The maximum number of retries of a delivery.
    pub(crate) retries: usize,
}

/// The state that the tasks of a run share.
struct Shared {
    client: Client,
    url: Url,
    retry_delays: Vec<Duration>,
    /// A permit for each attempt.
    attempts: Arc<Semaphore>,
    tally: Mutex<Tally>,
    /// Notified if the tally has a reason to stop.
    stop: Notify,
    progress: ProgressBar,
}

/// Sends all deliveries. Returns the results, which are incomplete after ctrl-c, or if the tally has a reason to stop.
pub(crate) async fn run(client: Client, url: Url, plan: &Plan, pace: Pace, interrupt: &Interrupt) -> Tally {
    let concurrency = usize::try_from(pace.concurrency.get()).expect("a pointer has at least 32 bits");
    let shared = Arc::new(Shared {
        client,
        url,
        retry_delays: FakeKlikit::PAUSES.iter().take(pace.retries).map(|delay| delay.div_f64(pace.speed)).collect(),
        attempts: Arc::new(Semaphore::new(concurrency)),
        tally: Mutex::new(Tally::new()),
        stop: Notify::new(),
        progress: output::progress("{bar:30} {human_pos}/{human_len} deliveries, {eta} left", plan.len()),
    });
    let mut tasks = JoinSet::new();
    let all = async {
        start_all(&shared, plan, pace.rate, &mut tasks).await;
        while let Some(ended) = tasks.join_next().await {
            check(ended);
        }
    };
    tokio::select! {
        () = all => {}
        () = shared.stop.notified() => {}
        () = interrupt.requested() => {}
    }
    tasks.shutdown().await;
    shared.progress.finish_and_clear();
    std::mem::replace(&mut *shared.tally(), Tally::new())
}

/// Starts the first attempts at their times.
async fn start_all(shared: &Arc<Shared>, plan: &Plan, rate: Option<f64>, tasks: &mut JoinSet<()>) {
    let unfinished = Arc::new(Semaphore::new(MAX_UNFINISHED));
    let started = Instant::now();
    for (number, planned) in plan.deliveries().enumerate() {
        if let Some(rate) = rate {
            sleep_until(started + Duration::from_secs_f64(number as f64 / rate)).await;
        }
        let place = permit(&unfinished).await;
        let first = permit(&shared.attempts).await;
        let shared = Arc::clone(shared);
        tasks.spawn(async move {
            shared.deliver(&planned, first).await;
            drop(place);
        });
        // Forget the tasks that have ended.
        while let Some(ended) = tasks.try_join_next() {
            check(ended);
        }
    }
}

/// Passes on the panic of a task, so that no delivery gets lost unnoticed.
fn check(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        resume_unwind(panic);
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_owned().await.expect("the semaphore is never closed")
}

impl Shared {
    /// Sends a delivery until an attempt succeeds or no retry is left.
    async fn deliver(&self, planned: &Planned, first: OwnedSemaphorePermit) {
        let mut permitted = first;
        // A retry would not make the signature of a corrupted delivery match.
        let mut retry_delays = self.retry_delays.iter().filter(|_| !planned.is_corrupt);
        let mut is_first = true;
        let last = loop {
            let (parts, body) = planned.delivery.request::<Bytes>().into_parts();
            let attempt = exchange(self.client.post(self.url.clone()).headers(parts.headers).body(body)).await;
            self.count(&attempt, planned);
            drop(permitted);
            match retry_delays.next() {
                Some(delay) if !is_success(&attempt) => sleep(*delay).await,
                _ => break attempt,
            }
            is_first = false;
            permitted = permit(&self.attempts).await;
        };
        let mut tally = self.tally();
        *match (planned.is_corrupt, is_success(&last)) {
            (false, true) if is_first => &mut tally.delivered_at_once,
            (false, true) => &mut tally.delivered_later,
            (false, false) => &mut tally.failed,
            (true, true) => &mut tally.corrupt_accepted,
            (true, false) if last.is_ok() => &mut tally.corrupt_rejected,
            (true, false) => &mut tally.corrupt_unanswered,
        } += 1;
        self.progress.inc(1);
    }

    fn count(&self, attempt: &Exchange, planned: &Planned) {
        let mut tally = self.tally();
        let first_failure = tally.add(attempt, planned);
        if tally.stop.is_some() {
            self.stop.notify_one();
        } else if let Some(failure) = first_failure {
            // The report may come much later.
            self.progress.println(format!("first failure: {failure}"));
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        // A panic while counting loses at most one attempt.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

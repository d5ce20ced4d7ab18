//! The health of an inbox, for probes.

use std::{fmt, sync::Arc, time::Duration};

use super::{Inbox, config::InboxConfig, entry::Counts};
use crate::{deadline::store_call, dedupe::StoreError, telemetry};

/// The time limit for the call that tests the store.
const DEADLINE: Duration = Duration::from_millis(500);

/// The time limit for a count of all deliveries, which runs in the background.
const COUNT_DEADLINE: Duration = Duration::from_secs(10);

/// The health of an inbox in this process, from [`Inbox::health`].
///
/// [`Display`](fmt::Display) writes one line for the body of a probe's response, without names or customers' data.
#[derive(Debug)]
#[non_exhaustive]
pub struct Health {
    /// The error of the store, if it did not answer a small query within half a second.
    pub store: Result<(), StoreError>,
    /// The number of workers of this process that run.
    pub workers: usize,
    /// The number of workers of this process that were told to stop and are [draining](super::Worker::drain_deadline).
    pub draining: usize,
    /// The number of workers of this process that have panicked, or whose future was dropped before they were told to
    /// stop.
    pub failed: usize,
    /// The number of deliveries in each state, and the age of the oldest pending one, at most about 10 seconds ago if
    /// the store answers and the probe is called often. `None` until the first count is made.
    pub counts: Option<Counts>,
}

impl Health {
    /// Returns whether the process should go on running: no worker has failed. A store that is down does not make it
    /// fail, because a restart would not help.
    pub fn is_live(&self) -> bool {
        self.failed == 0
    }

    /// Returns whether the process should receive deliveries: it is [live](Self::is_live), the store answers, and no
    /// worker is draining.
    pub fn is_ready(&self) -> bool {
        self.is_live() && self.store.is_ok() && self.draining == 0
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, workers, draining, failed, counts } = self;
        let store = if store.is_ok() { "reachable" } else { "unreachable" };
        write!(f, "store {store}, {workers} workers running, {draining} draining, {failed} failed")?;
        let Some(counts) = counts else { return Ok(()) };
        write!(f, ", {} pending, {} dead", counts.backlog(), counts.dead)?;
        match counts.oldest {
            Some(age) => write!(f, ", oldest pending {} s", age.as_secs()),
            None => Ok(()),
        }
    }
}

impl Inbox {
    /// Returns the health of the inbox, for the probes of a load balancer or an orchestrator. It is cheap enough to be
    /// called every second: each call makes one small query, and deliveries are counted every 10 seconds in the
    /// background.
    ///
    /// Clones of the inbox share the state of the workers.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_klikit::inbox::Inbox;
    ///
    /// async fn ready(inbox: Inbox) -> (StatusCode, String) {
    ///     let health = inbox.health().await;
    ///     let status = if health.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    ///     (status, health.to_string())
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime with an enabled timer.
    pub async fn health(&self) -> Health {
        let store = store_call(DEADLINE, self.config.store.backlog(1)).await.map(drop);
        if self.config.vitals.begin_count() {
            drop(tokio::spawn(count(Arc::clone(&self.config))));
        }
        let workers = self.config.vitals.workers();
        Health {
            store,
            workers: workers.running,
            draining: workers.draining,
            failed: workers.failed,
            counts: self.config.vitals.counts(),
        }
    }
}

/// Counts the deliveries for the next probes.
async fn count(config: Arc<InboxConfig>) {
    let counts = store_call(COUNT_DEADLINE, config.store.counts()).await;
    if let Err(error) = &counts {
        telemetry::acceptor_store_failed("count", error, &config.policy.log_limits);
    }
    config.vitals.record(counts.ok());
}

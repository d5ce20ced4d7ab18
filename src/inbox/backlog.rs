//! How much waits to be handled.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use super::config::Config;
use crate::{deadline::store_call, dedupe::StoreError, telemetry};

/// How old a count may be before it is made again in the background.
const STALE: Duration = Duration::from_secs(1);

/// How old a count may be by which a delivery is rejected.
const FRESH: Duration = Duration::from_millis(100);

/// The last count, and what was accepted since: the store is not asked for each delivery.
#[derive(Default)]
pub(super) struct Backlog {
    estimate: Mutex<Estimate>,
    /// One asks, the others wait for it.
    counting: AsyncMutex<()>,
    recounting: AtomicBool,
}

#[derive(Default, Clone, Copy)]
struct Estimate {
    deliveries: u64,
    counted: Option<Instant>,
}

impl Estimate {
    fn is_older_than(&self, age: Duration) -> bool {
        self.counted.is_none_or(|counted| counted.elapsed() >= age)
    }
}

impl Backlog {
    /// Whether one more may be accepted, which it then is taken to be.
    pub(super) async fn take_room(self: &Arc<Self>, config: &Arc<Config>) -> Result<bool, StoreError> {
        let estimate = *self.estimate();
        let full = estimate.deliveries >= config.max_backlog;
        if estimate.is_older_than(if full { FRESH } else { Duration::MAX }) {
            self.count(config).await?;
        } else if estimate.is_older_than(STALE) && !self.recounting.swap(true, Ordering::AcqRel) {
            let (backlog, config) = (Arc::clone(self), Arc::clone(config));
            drop(tokio::spawn(async move {
                if let Err(error) = backlog.count(&config).await {
                    telemetry::inbox_store_failed("count", &error);
                }
                backlog.recounting.store(false, Ordering::Release);
            }));
        }
        let mut estimate = self.estimate();
        let has_room = estimate.deliveries < config.max_backlog;
        estimate.deliveries += u64::from(has_room);
        Ok(has_room)
    }

    /// Corrects the estimate for a delivery that was known already.
    pub(super) fn leave_room(&self) {
        let mut estimate = self.estimate();
        estimate.deliveries = estimate.deliveries.saturating_sub(1);
    }

    async fn count(&self, config: &Config) -> Result<(), StoreError> {
        let _counting = self.counting.lock().await;
        if !self.estimate().is_older_than(FRESH) {
            return Ok(());
        }
        // A call that never answers would keep everybody else from asking.
        let deliveries = store_call(config.accept_deadline, config.store.backlog(config.max_backlog)).await?;
        *self.estimate() = Estimate { deliveries, counted: Some(Instant::now()) };
        Ok(())
    }

    fn estimate(&self) -> MutexGuard<'_, Estimate> {
        self.estimate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog").field("deliveries", &self.estimate().deliveries).finish_non_exhaustive()
    }
}

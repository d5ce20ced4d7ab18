//! The limits on how many deliveries an inbox stores.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use super::{
    config::Config,
    estimate::{Estimate, Quantity},
};
use crate::{deadline::store_call, dedupe::StoreError, telemetry};

/// How long the store may take to count everything in the background.
const COUNTING: Duration = Duration::from_secs(10);

/// How many kept deliveries to evict with one call, at most.
const LARGEST_BATCH: u64 = 1000;

/// The pending deliveries, and all deliveries.
#[derive(Debug, Default)]
pub(super) struct Capacity {
    pending: Arc<Estimate<Pending>>,
    stored: Arc<Estimate<Stored>>,
    /// One acceptor evicts, and the others wait for it. Holds the time of the last call that found nothing to evict.
    evicting: AsyncMutex<Option<Instant>>,
}

/// Whether one more delivery may be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reservation {
    Made,
    BacklogFull,
    InboxFull,
}

impl Capacity {
    /// Counts one more delivery as accepted, if the limits allow it. Evicts kept deliveries if they have to give way.
    pub(super) async fn reserve(&self, config: &Arc<Config>) -> Result<Reservation, StoreError> {
        if !self.pending.reserve(config).await? {
            return Ok(Reservation::BacklogFull);
        }
        if self.stored.reserve(config).await? || self.evict(config).await? {
            return Ok(Reservation::Made);
        }
        self.pending.cancel();
        Ok(Reservation::InboxFull)
    }

    /// Takes a reservation back, because the delivery was known already.
    pub(super) fn cancel(&self) {
        self.pending.cancel();
        self.stored.cancel();
    }

    /// Evicts kept deliveries until one more may be accepted. Returns `false` if no more are left.
    async fn evict(&self, config: &Arc<Config>) -> Result<bool, StoreError> {
        let mut exhausted = self.evicting.lock().await;
        // Another acceptor may have evicted some meanwhile.
        if self.stored.try_reserve(config) {
            return Ok(true);
        }
        if !self.stored.is_exact() {
            // The estimate may be too high, and no kept delivery must give way without need.
            self.stored.count_again(config).await?;
        }
        loop {
            if self.stored.try_reserve(config) {
                return Ok(true);
            }
            if exhausted.is_some_and(|at| at.elapsed() < Stored::FRESH) {
                return Ok(false);
            }
            let evicted = config.store.evict_done(batch(config)).await;
            // A call that failed may have evicted some.
            self.stored.count_again(config).await?;
            match evicted {
                Ok(0) => *exhausted = Some(Instant::now()),
                Ok(evicted) => telemetry::kept_evicted(evicted, config.max_stored),
                Err(error) => {
                    telemetry::acceptor_store_failed("evict", &error, &config.policy.log_limits);
                    return if self.stored.try_reserve(config) { Ok(true) } else { Err(error) };
                }
            }
        }
    }
}

/// Returns how many kept deliveries to evict with one call: a hundredth of what may be stored, so that the deliveries
/// are seldom counted and few give way too early.
fn batch(config: &Config) -> u32 {
    u32::try_from((config.max_stored / 100).clamp(1, LARGEST_BATCH)).unwrap_or(u32::MAX)
}

/// The READY and LEASED deliveries.
#[derive(Default)]
struct Pending;

impl Quantity for Pending {
    const STALE: Duration = Duration::from_secs(1);
    const FRESH: Duration = Duration::from_millis(100);
    const STARTS_WITH_A_COUNT: bool = true;

    fn limit(config: &Config) -> u64 {
        config.max_backlog
    }

    async fn count(&self, config: &Arc<Config>) -> Result<u64, StoreError> {
        store_call(config.accept_deadline, config.store.backlog(config.max_backlog)).await
    }
}

/// The deliveries in all states.
#[derive(Default)]
struct Stored {
    /// Whether the last count was high.
    was_high: Arc<AtomicBool>,
}

impl Quantity for Stored {
    const STALE: Duration = Duration::from_secs(10);
    const FRESH: Duration = Duration::from_secs(1);
    // It may take long while nothing is cached, and there is mostly enough capacity.
    const STARTS_WITH_A_COUNT: bool = false;

    fn limit(config: &Config) -> u64 {
        config.max_stored
    }

    async fn count(&self, config: &Arc<Config>) -> Result<u64, StoreError> {
        let stored = store_call(COUNTING, config.store.stored(config.max_stored)).await?;
        telemetry::inbox_stored(stored, config.max_stored);
        self.warn_if_high(stored, config);
        Ok(stored)
    }
}

impl Stored {
    /// Logs once that 80 % of the limit are reached, until a count is lower.
    fn warn_if_high(&self, stored: u64, config: &Arc<Config>) {
        let is_high = stored.saturating_mul(10) >= config.max_stored.saturating_mul(8);
        if self.was_high.swap(is_high, Ordering::AcqRel) || !is_high {
            return;
        }
        // Counting by state takes longer, and no acceptor waits for it.
        let (was_high, config) = (Arc::clone(&self.was_high), Arc::clone(config));
        drop(tokio::spawn(async move {
            match store_call(COUNTING, config.store.counts()).await {
                Ok(counts) => telemetry::inbox_fills_up(&counts, config.max_stored),
                Err(error) => {
                    telemetry::acceptor_store_failed("count", &error, &config.policy.log_limits);
                    // The next count tries again.
                    was_high.store(false, Ordering::Release);
                }
            }
        }));
    }
}

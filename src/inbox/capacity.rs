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
    config::InboxConfig,
    estimate::{Estimate, LimitedCount},
};
use crate::{deadline::store_call, dedupe::StoreError, telemetry};

/// The time limit for a call that counts all deliveries.
const COUNT_DEADLINE: Duration = Duration::from_secs(10);

/// The maximum number of kept deliveries to evict with one call.
const LARGEST_BATCH: u64 = 1000;

/// Estimates of the backlog and of all stored deliveries, which enforce their limits.
#[derive(Debug, Default)]
pub(super) struct Capacity {
    pending: Arc<Estimate<Pending>>,
    stored: Arc<Estimate<Stored>>,
    /// Held by the acceptor that evicts, while the others wait. Contains the time of the last call that found no
    /// delivery to evict.
    evicting: AsyncMutex<Option<Instant>>,
}

/// The answer to a request to accept one more delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reservation {
    Made,
    BacklogFull,
    InboxFull,
}

impl Capacity {
    /// Counts one more delivery as accepted, if the limits allow it. Evicts kept deliveries if the inbox is full.
    pub(super) async fn reserve(&self, config: &Arc<InboxConfig>) -> Result<Reservation, StoreError> {
        if !self.pending.reserve(config).await? {
            return Ok(Reservation::BacklogFull);
        }
        if self.stored.reserve(config).await? || self.evict(config).await? {
            return Ok(Reservation::Made);
        }
        self.pending.cancel();
        Ok(Reservation::InboxFull)
    }

    /// Cancels a reservation for a delivery that was not stored.
    pub(super) fn cancel(&self) {
        self.pending.cancel();
        self.stored.cancel();
    }

    /// Evicts kept deliveries until one more may be accepted. Returns `false` if no more are left.
    async fn evict(&self, config: &Arc<InboxConfig>) -> Result<bool, StoreError> {
        let mut exhausted = self.evicting.lock().await;
        // Another acceptor may have evicted some meanwhile.
        if self.stored.try_reserve(config) {
            return Ok(true);
        }
        if !self.stored.is_exact() {
            // The estimate may be too high. Count first, so that no kept delivery is deleted needlessly.
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
            // Even a failed call may have evicted deliveries.
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

/// Returns the number of kept deliveries to evict with one call: a hundredth of the limit, so that counts are rare and
/// few deliveries are deleted early.
fn batch(config: &InboxConfig) -> u32 {
    u32::try_from((config.max_stored / 100).clamp(1, LARGEST_BATCH)).unwrap_or(u32::MAX)
}

/// The READY and LEASED deliveries.
#[derive(Default)]
struct Pending;

impl LimitedCount for Pending {
    const STALE: Duration = Duration::from_secs(1);
    const FRESH: Duration = Duration::from_millis(100);
    const STARTS_WITH_A_COUNT: bool = true;

    fn limit(config: &InboxConfig) -> u64 {
        config.max_backlog
    }

    async fn count(&self, config: &Arc<InboxConfig>) -> Result<u64, StoreError> {
        store_call(config.accept_deadline, config.store.backlog(config.max_backlog)).await
    }
}

/// The deliveries in all states.
#[derive(Default)]
struct Stored {
    /// Whether the last count was at least 80 % of the limit.
    was_high: Arc<AtomicBool>,
}

impl LimitedCount for Stored {
    const STALE: Duration = Duration::from_secs(10);
    const FRESH: Duration = Duration::from_secs(1);
    // The first count may be slow with cold caches, and the inbox usually has capacity.
    const STARTS_WITH_A_COUNT: bool = false;

    fn limit(config: &InboxConfig) -> u64 {
        config.max_stored
    }

    async fn count(&self, config: &Arc<InboxConfig>) -> Result<u64, StoreError> {
        let stored = store_call(COUNT_DEADLINE, config.store.stored(config.max_stored)).await?;
        telemetry::inbox_stored(stored, config.max_stored);
        self.warn_if_high(stored, config);
        Ok(stored)
    }
}

impl Stored {
    /// Logs a warning when a count reaches 80 % of the limit, and again only after a lower count.
    fn warn_if_high(&self, stored: u64, config: &Arc<InboxConfig>) {
        let is_high = stored.saturating_mul(10) >= config.max_stored.saturating_mul(8);
        if self.was_high.swap(is_high, Ordering::AcqRel) || !is_high {
            return;
        }
        // Counting by state is slow, so no acceptor waits for it.
        let (was_high, config) = (Arc::clone(&self.was_high), Arc::clone(config));
        drop(tokio::spawn(async move {
            match store_call(COUNT_DEADLINE, config.store.counts()).await {
                Ok(counts) => telemetry::inbox_fills_up(&counts, config.max_stored),
                Err(error) => {
                    telemetry::acceptor_store_failed("count", &error, &config.policy.log_limits);
                    // Try again after the next count.
                    was_high.store(false, Ordering::Release);
                }
            }
        }));
    }
}

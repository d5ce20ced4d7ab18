//! Estimated numbers of deliveries.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use super::config::Config;
use crate::{dedupe::StoreError, telemetry};

/// A number of deliveries that has a limit.
pub(super) trait Quantity: Send + Sync + 'static {
    /// How old a count may be before it is made again in the background.
    const STALE: Duration;

    /// How old a count may be by which a delivery is rejected.
    const FRESH: Duration;

    /// Whether nothing is accepted before the first count. Otherwise that count is made in the background too.
    const STARTS_WITH_A_COUNT: bool;

    fn limit(config: &Config) -> u64;

    /// Counts the deliveries, up to the limit. The call ends by itself: one that never answers would keep everybody
    /// else from counting.
    fn count(&self, config: &Arc<Config>) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// The last count, and the number of deliveries accepted since: the store does not count for each delivery.
#[derive(Default)]
pub(super) struct Estimate<Q> {
    quantity: Q,
    last: Mutex<Last>,
    /// One acceptor counts, and the others wait for it.
    counting: AsyncMutex<()>,
    recounting: AtomicBool,
}

#[derive(Default, Clone, Copy)]
struct Last {
    counted: u64,
    accepted_since: u64,
    at: Option<Instant>,
}

impl Last {
    fn is_older_than(&self, age: Duration) -> bool {
        self.at.is_none_or(|at| at.elapsed() >= age)
    }

    fn deliveries(&self) -> u64 {
        self.counted.saturating_add(self.accepted_since)
    }
}

impl<Q: Quantity> Estimate<Q> {
    /// Returns whether one more delivery may be accepted, and then counts it as accepted.
    pub(super) async fn reserve(self: &Arc<Self>, config: &Arc<Config>) -> Result<bool, StoreError> {
        let last = *self.last();
        let is_full = last.deliveries() >= Q::limit(config);
        if is_full && last.is_older_than(Q::FRESH) || Q::STARTS_WITH_A_COUNT && last.at.is_none() {
            self.count(config).await?;
        } else if last.is_older_than(Q::STALE) {
            self.count_in_background(config);
        }
        Ok(self.try_reserve(config))
    }

    /// Does the same by the estimate alone.
    pub(super) fn try_reserve(&self, config: &Config) -> bool {
        let mut last = self.last();
        let is_free = last.deliveries() < Q::limit(config);
        last.accepted_since += u64::from(is_free);
        is_free
    }

    /// Corrects the estimate for a delivery that was not added.
    pub(super) fn cancel(&self) {
        let mut last = self.last();
        last.accepted_since = last.accepted_since.saturating_sub(1);
    }

    /// Returns whether the estimate is the last count.
    pub(super) fn is_exact(&self) -> bool {
        self.last().accepted_since == 0
    }

    /// Counts the deliveries again, however fresh the last count is.
    pub(super) async fn count_again(&self, config: &Arc<Config>) -> Result<(), StoreError> {
        let _counting = self.counting.lock().await;
        self.count_now(config).await
    }

    async fn count(&self, config: &Arc<Config>) -> Result<(), StoreError> {
        let _counting = self.counting.lock().await;
        if self.last().is_older_than(Q::FRESH) { self.count_now(config).await } else { Ok(()) }
    }

    fn count_in_background(self: &Arc<Self>, config: &Arc<Config>) {
        if self.recounting.swap(true, Ordering::AcqRel) {
            return;
        }
        let (estimate, config) = (Arc::clone(self), Arc::clone(config));
        drop(tokio::spawn(async move {
            if let Err(error) = estimate.count(&config).await {
                telemetry::acceptor_store_failed("count", &error, &config.policy.log_limits);
            }
            estimate.recounting.store(false, Ordering::Release);
        }));
    }

    async fn count_now(&self, config: &Arc<Config>) -> Result<(), StoreError> {
        let counted = self.quantity.count(config).await?;
        *self.last() = Last { counted, accepted_since: 0, at: Some(Instant::now()) };
        Ok(())
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: Quantity> fmt::Debug for Estimate<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Estimate").field("deliveries", &self.last().deliveries()).finish_non_exhaustive()
    }
}

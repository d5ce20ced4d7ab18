//! Estimates of how many deliveries are stored, for limits.

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

use super::config::InboxConfig;
use crate::{dedupe::StoreError, telemetry};

/// A number of deliveries that is limited and counted by the store.
pub(super) trait LimitedCount: Send + Sync + 'static {
    /// The age of a count after which a new count is made in the background.
    const STALE: Duration;

    /// The age up to which a count suffices to reject a delivery.
    const FRESH: Duration;

    /// Whether the first delivery waits for a count. If not, the first count is made in the background too.
    const STARTS_WITH_A_COUNT: bool;

    fn limit(config: &InboxConfig) -> u64;

    /// Counts the deliveries, but no further than the limit. The call must have a deadline, because all others that
    /// count wait for it.
    fn count(&self, config: &Arc<InboxConfig>) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// An estimate from the last count and the number of deliveries accepted since. Counting for each delivery would be too
/// expensive.
#[derive(Default)]
pub(super) struct Estimate<C> {
    limited: C,
    last: Mutex<LastCount>,
    /// Held by the acceptor that counts, while the others wait.
    counting: AsyncMutex<()>,
    recounting: AtomicBool,
}

#[derive(Default, Clone, Copy)]
struct LastCount {
    counted: u64,
    accepted_since: u64,
    at: Option<Instant>,
}

impl LastCount {
    fn is_older_than(&self, age: Duration) -> bool {
        self.at.is_none_or(|at| at.elapsed() >= age)
    }

    fn deliveries(&self) -> u64 {
        self.counted.saturating_add(self.accepted_since)
    }
}

impl<C: LimitedCount> Estimate<C> {
    /// Returns whether one more delivery may be accepted, and then counts it as accepted.
    pub(super) async fn reserve(self: &Arc<Self>, config: &Arc<InboxConfig>) -> Result<bool, StoreError> {
        let last = *self.last();
        let is_full = last.deliveries() >= C::limit(config);
        if is_full && last.is_older_than(C::FRESH) || C::STARTS_WITH_A_COUNT && last.at.is_none() {
            self.count(config).await?;
        } else if last.is_older_than(C::STALE) {
            self.count_in_background(config);
        }
        Ok(self.try_reserve(config))
    }

    /// Reserves a place by the current estimate, without counting.
    pub(super) fn try_reserve(&self, config: &InboxConfig) -> bool {
        let mut last = self.last();
        let is_free = last.deliveries() < C::limit(config);
        last.accepted_since += u64::from(is_free);
        is_free
    }

    /// Cancels the reservation of a delivery that was not stored.
    pub(super) fn cancel(&self) {
        let mut last = self.last();
        last.accepted_since = last.accepted_since.saturating_sub(1);
    }

    /// Returns whether no delivery was accepted since the last count.
    pub(super) fn is_exact(&self) -> bool {
        self.last().accepted_since == 0
    }

    /// Counts the deliveries even if the last count is fresh.
    pub(super) async fn count_again(&self, config: &Arc<InboxConfig>) -> Result<(), StoreError> {
        let _counting = self.counting.lock().await;
        self.count_now(config).await
    }

    async fn count(&self, config: &Arc<InboxConfig>) -> Result<(), StoreError> {
        let _counting = self.counting.lock().await;
        if self.last().is_older_than(C::FRESH) { self.count_now(config).await } else { Ok(()) }
    }

    fn count_in_background(self: &Arc<Self>, config: &Arc<InboxConfig>) {
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

    async fn count_now(&self, config: &Arc<InboxConfig>) -> Result<(), StoreError> {
        let counted = self.limited.count(config).await?;
        *self.last() = LastCount { counted, accepted_since: 0, at: Some(Instant::now()) };
        Ok(())
    }

    fn last(&self) -> MutexGuard<'_, LastCount> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: LimitedCount> fmt::Debug for Estimate<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Estimate").field("deliveries", &self.last().deliveries()).finish_non_exhaustive()
    }
}

//! The implementation of `InboxStore` for `PostgresStore`.

use std::time::Duration;

use tower_klikit::{
    dedupe::StoreError,
    inbox::{Acceptance, Counts, InboxStore, Lease, LeaseBatch, LeaseRequest, NewDelivery, SettleOutcome, Settlement},
};

use crate::{
    store::PostgresStore,
    values::{BoxError, count, elapsed, seconds},
};

impl InboxStore for PostgresStore {
    async fn accept(&self, delivery: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
        self.require_inbox()?;
        // All statements together take at most one deadline.
        self.within(1, self.store(delivery, retention)).await
    }

    async fn lease(&self, request: &LeaseRequest<'_>) -> Result<LeaseBatch, StoreError> {
        self.require_inbox()?;
        self.lease_all(request).await
    }

    async fn start(&self, leases: &[Lease], worker: &str) -> Result<Vec<bool>, StoreError> {
        self.require_inbox()?;
        self.start_all(leases, worker).await
    }

    async fn extend(&self, leases: &[Lease], duration: Duration) -> Result<Vec<bool>, StoreError> {
        self.require_inbox()?;
        self.extend_leases(leases, duration).await
    }

    async fn settle(&self, settlements: &[(Lease, Settlement)]) -> Result<Vec<SettleOutcome>, StoreError> {
        self.require_inbox()?;
        self.settle_all(settlements).await
    }

    async fn backlog(&self, limit: u64) -> Result<u64, StoreError> {
        self.require_inbox()?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        count(&self.run(&self.shared.inbox.backlog, &[&limit]).await?)
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.require_inbox()?;
        let answer = self.run_long(&self.shared.inbox.counts, &[]).await?;
        let row = answer.rows.first().ok_or_else(|| StoreError::new("counts without a row"))?;
        let number = |column| u64::try_from(row.try_get::<_, i64>(column)?).map_err(BoxError::from);
        let read_counts = || {
            let mut counts = Counts::default();
            counts.ready = number(0)?;
            counts.leased = number(1)?;
            counts.dead = number(2)?;
            counts.done = number(3)?;
            let oldest = row.try_get::<_, Option<f64>>(4)?;
            counts.oldest = oldest.map(|seconds| elapsed(Some(seconds)));
            Ok(counts)
        };
        read_counts().map_err(|error: BoxError| StoreError::new(error))
    }

    async fn purge_done(&self, limit: u32) -> Result<u64, StoreError> {
        self.require_inbox()?;
        count(&self.run_long(&self.shared.inbox.purge_done, &[&i64::from(limit)]).await?)
    }

    async fn stored(&self, limit: u64) -> Result<u64, StoreError> {
        self.require_inbox()?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        count(&self.run_long(&self.shared.inbox.stored, &[&limit]).await?)
    }

    async fn evict_done(&self, limit: u32) -> Result<u64, StoreError> {
        self.require_inbox()?;
        count(&self.run_long(&self.shared.inbox.evict_done, &[&i64::from(limit)]).await?)
    }

    async fn purge_dead(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.require_inbox()?;
        count(&self.run_long(&self.shared.inbox.purge_dead, &[&i64::from(limit), &seconds(age)]).await?)
    }

    /// Returns 200. So many deliveries keep fast handlers busy while the next call to `lease` takes some milliseconds.
    fn prefetch(&self) -> usize {
        200
    }
}

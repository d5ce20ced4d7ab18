//! Calls that count attempts and extend leases.

use std::{sync::Arc, time::Duration};

use tower_klikit::{
    dedupe::StoreError,
    inbox::{DeliveryState, Lease},
};

use super::{
    batches::{InBatch, Start},
    by_lease::{LeaseParams, OneLeaseParams, Values, changed_and_before, seen},
};
use crate::{
    connection::{Failure, Params, TRIES},
    store::{PostgresStore, Shared},
    values::storable,
};

impl PostgresStore {
    /// Counts attempts in one transaction, together with those of other calls. Deliveries that other transactions have locked
    /// follow one by one.
    pub(super) async fn start_all(&self, leases: &[Lease], worker: &str) -> Result<Vec<bool>, StoreError> {
        let worker: Arc<str> = storable(worker).into();
        let starts: Vec<_> = leases.iter().map(|lease| Start { lease: *lease, worker: Arc::clone(&worker) }).collect();
        let outcomes = match &starts[..] {
            [] => return Ok(Vec::new()),
            [start] => vec![self.in_time(1, self.start_in_batch(start.clone())).await?],
            several => self.in_time(1, start_together(&self.shared, several)).await?,
        };
        let mut started = Vec::with_capacity(leases.len());
        for (outcome, start) in outcomes.into_iter().zip(&starts) {
            started.push(match outcome.map_err(StoreError::new)? {
                Some(started) => started,
                None => self.within(1, self.start_one(start)).await?,
            });
        }
        Ok(started)
    }

    async fn start_in_batch(&self, start: Start) -> InBatch<bool> {
        let shared = Arc::clone(&self.shared);
        let together = move |starts: Vec<_>| {
            let shared = Arc::clone(&shared);
            async move { start_together(&shared, &starts).await }
        };
        self.shared.batches.starts.run(start, together).await.unwrap_or(Ok(None))
    }

    async fn start_one(&self, start: &Start) -> Result<bool, Failure> {
        let (shared, lease) = (&*self.shared, &start.lease);
        let asked = OneLeaseParams::new(lease, start.values());
        let params = asked.params();
        for _ in 0..TRIES {
            if shared.connections.run(&shared.inbox.start.one, &params).await?.changed > 0 {
                return Ok(true);
            }
            let read: Params<'_> = &[&lease.id().get()];
            let current = shared.connections.run(&shared.inbox.read_token_and_state, read).await?;
            let current = current.rows.first().map(|row| seen(row, 0)).transpose().map_err(Failure::Statement)?;
            if current.flatten() != Some((lease.token(), Some(DeliveryState::Leased))) {
                return Ok(false);
            }
        }
        Err(Failure::Contended)
    }

    /// Extends leases with one statement, which waits for no locks. If another transaction has locked a delivery, its lease
    /// counts as extended: no other worker can lease the delivery meanwhile, and the transaction may be the handler's own.
    pub(super) async fn extend_leases(&self, leases: &[Lease], duration: Duration) -> Result<Vec<bool>, StoreError> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let shared = &*self.shared;
        let asked = LeaseParams::extension(leases, duration);
        let params = asked.params();
        let statements = [(&shared.inbox.extend, Params::from(&params))];
        let extending = shared.connections.run_within(&shared.inbox.begin_many, &statements);
        let answers = self.within(1, extending).await?;
        let rows = answers.iter().flat_map(|answer| &answer.rows);
        let extended = leases.iter().zip(rows).map(|(lease, row)| {
            let (changed, before) = changed_and_before(row)?;
            Ok(changed || before == Some((lease.token(), Some(DeliveryState::Leased))))
        });
        extended.collect::<Result<_, tokio_postgres::Error>>().map_err(StoreError::new)
    }
}

impl Start {
    fn values(&self) -> Values {
        Values { worker: Some((*self.worker).into()), ..Values::default() }
    }
}

/// Counts the attempts of deliveries that no other transaction has locked. Returns `None` for the others.
async fn start_together(shared: &Shared, starts: &[Start]) -> Vec<InBatch<bool>> {
    let mut asked = LeaseParams::default();
    for start in starts {
        asked.push(&start.lease, start.values());
    }
    let params = asked.params();
    let statements = [(&shared.inbox.start.many, Params::from(&params))];
    let started = async {
        let answers = shared.connections.run_together(&shared.inbox.begin_starting, &statements).await?;
        let rows = answers.iter().flat_map(|answer| &answer.rows);
        let started = starts.iter().zip(rows).map(|(start, row)| {
            let (changed, before) = changed_and_before(row)?;
            // The statement leaves out deliveries that other transactions have locked.
            let may_be_locked = before == Some((start.lease.token(), Some(DeliveryState::Leased)));
            Ok(if changed || !may_be_locked { Some(changed) } else { None })
        });
        started.collect::<Result<Vec<_>, tokio_postgres::Error>>().map_err(Failure::Statement)
    };
    match started.await {
        Ok(started) => started.into_iter().map(Ok).collect(),
        Err(failure) if failure.is_from_server() => vec![Ok(None); starts.len()],
        Err(failure) => vec![Err(failure.into()); starts.len()],
    }
}

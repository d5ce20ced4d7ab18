//! Leasing the selected deliveries, and extending leases.
//!
//! Deliveries are selected on the connection that reads, and leased on the one that writes. The selection is of an older state, so
//! each delivery is checked again before it is leased. Its token tells whether it is still the delivery whose head and body were
//! read: each lease, and each revival, gives it another.

use std::time::Duration;

use rusqlite::{OptionalExtension, Row, named_params, types::ToSql};

use super::{
    deliveries::{Deliveries, ordering_keys},
    ordering_queue::OrderingQueues,
    select::{Candidate, Expired, Selection},
};
use crate::inbox::{DeadLettered, DeliveryId, LEASE_EXPIRED, Lease, LeaseBatch, Leased};

/// What became of a selection.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) batch: LeaseBatch,
    /// Whether another process was faster with one of the deliveries.
    pub(super) missed: bool,
}

impl Deliveries<'_> {
    /// Leases what was selected, as far as it is still free.
    pub(super) fn lease(
        &self,
        selection: &Selection,
        duration: Duration,
        max_attempts: u32,
    ) -> rusqlite::Result<Taken> {
        self.extend_expired(&selection.held, duration)?;
        let mut taken = Taken::default();
        for expired in &selection.expired {
            taken.batch.dead_lettered.extend(self.dead_letter_expired(expired, max_attempts)?);
        }
        let mut queues = OrderingQueues::new(&[]);
        let mut lease = self.connection.prepare_cached(&self.sql.lease)?;
        for candidate in &selection.candidates {
            let Candidate { id, token, ordering, counted, .. } = candidate;
            let attempt = match queues.is_head(self, *id, ordering.as_deref())? {
                false => None,
                true => {
                    let values = named_params! {
                        ":id": id,
                        ":token": token,
                        ":now": self.timestamp.now(),
                        ":until": self.timestamp.after(duration),
                        ":counted": counted,
                    };
                    lease.query_row(values, |row| row.get(0)).optional()?
                }
            };
            match attempt {
                Some(attempt) => taken.batch.leased.push(candidate.leased(attempt)),
                None => taken.missed = true,
            }
        }
        Ok(taken)
    }

    /// Extends the leases that the process holds and that have expired, unless another process was faster.
    fn extend_expired(&self, held: &[Lease], duration: Duration) -> rusqlite::Result<()> {
        for lease in held {
            self.connection.prepare_cached(&self.sql.extend_expired)?.execute(named_params! {
                ":id": lease.id().get(),
                ":token": lease.token(),
                ":now": self.timestamp.now(),
                ":until": self.timestamp.after(duration),
            })?;
        }
        Ok(())
    }

    fn dead_letter_expired(&self, expired: &Expired, max_attempts: u32) -> rusqlite::Result<Option<DeadLettered>> {
        let values = named_params! {
            ":id": expired.id,
            ":token": expired.token,
            ":now": self.timestamp.now(),
            ":max_attempts": max_attempts,
            ":reason": LEASE_EXPIRED,
        };
        let dead_lettered = self.leave_queues(&self.sql.dead_letter_expired, expired.id, values)?;
        Ok(dead_lettered.then(|| DeadLettered {
            id: DeliveryId::new(expired.id),
            attempts: expired.attempts,
            head: expired.head.clone(),
            reason: LEASE_EXPIRED.into(),
        }))
    }

    /// Runs a statement that ends a delivery and returns its ordering keys, and takes the delivery out of its queues. Returns whether
    /// the statement changed anything.
    fn leave_queues(&self, sql: &str, id: i64, values: &[(&str, &dyn ToSql)]) -> rusqlite::Result<bool> {
        let ordering = |row: &Row<'_>| row.get::<_, Option<Vec<u8>>>(0);
        let ended = self.connection.prepare_cached(sql)?.query_row(values, ordering).optional()?;
        let Some(ordering) = ended else { return Ok(false) };
        self.dequeue(id, ordering.as_deref())?;
        Ok(true)
    }

    /// Returns whether the delivery is leased with this token.
    pub(super) fn extend(&self, lease: &Lease, duration: Duration) -> rusqlite::Result<bool> {
        let changed = self.connection.prepare_cached(&self.sql.extend)?.execute(named_params! {
            ":id": lease.id().get(),
            ":token": lease.token(),
            ":until": self.timestamp.after(duration),
        })?;
        Ok(changed > 0)
    }
}

impl Candidate {
    fn leased(&self, attempt: u32) -> Leased {
        let lease = Lease::new(DeliveryId::new(self.id), self.token + 1, attempt);
        // Cloned, since the transaction may run again.
        let leased = Leased::new(lease, self.head.clone(), self.body.clone());
        let keys = self.ordering.as_deref().map(ordering_keys);
        let leased = leased.with_ordering_keys(keys.into_iter().flatten().collect());
        if self.after_expired_lease { leased.after_expired_lease() } else { leased }
    }
}

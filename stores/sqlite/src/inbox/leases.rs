//! Leasing the selected deliveries, counting their attempts, and extending leases.
//!
//! Deliveries are selected on the connection that reads, and leased on the one that writes. The selection is of an
//! older state, so each delivery is checked again before it is leased. Its token tells whether it is still the delivery
//! whose head and body were read: each lease, and each revival, gives it another.

use std::time::Duration;

use rusqlite::{OptionalExtension, Row, named_params, types::ToSql};
use tower_klikit::{
    dedupe::StoreError,
    inbox::{DeadLettered, DeliveryId, LEASE_EXPIRED, Lease, LeaseBatch, Leased, Unreadable},
};

use super::{
    deliveries::Deliveries,
    ordering_keys,
    ordering_queue::OrderingQueues,
    rows::UnreadableRow,
    select::{Attempt, Candidate, ExpiredLease, Selection},
};
use crate::error::SqliteError;

/// The outcome of leasing a selection.
#[derive(Default)]
pub(crate) struct LeaseOutcome {
    pub(crate) batch: LeaseBatch,
    /// Whether another process was faster with one of the deliveries.
    pub(crate) missed: bool,
    /// Whether a blocked delivery may be free now.
    pub(crate) unblocked: bool,
}

impl LeaseOutcome {
    /// Reports a selection with nothing to lease or to change.
    pub(crate) fn unreadable(selection: &Selection) -> Self {
        let mut taken = Self::default();
        taken.batch.unreadable.extend(selection.unreadable.iter().map(report));
        taken
    }
}

impl Deliveries<'_> {
    /// Leases the selected deliveries that are still free.
    pub(crate) fn lease(
        &self,
        selection: &Selection,
        duration: Duration,
        max_attempts: u32,
    ) -> rusqlite::Result<LeaseOutcome> {
        self.extend_expired(&selection.held, duration)?;
        let mut taken = LeaseOutcome::default();
        for repair in &selection.repairs {
            taken.unblocked |= self.repair(repair)?;
        }
        for expired in &selection.expired {
            taken.batch.dead_lettered.extend(self.dead_letter_expired(expired, max_attempts)?);
        }
        for unreadable in &selection.unreadable {
            self.dead_letter_unreadable(unreadable, &mut taken.batch)?;
        }
        taken.unblocked |= !taken.batch.dead_lettered.is_empty();
        let mut queues = OrderingQueues::new(&[]);
        let mut lease = self.connection.prepare_cached(&self.sql.lease)?;
        for candidate in &selection.candidates {
            let Candidate { id, token, ordering_keys, attempt, .. } = candidate;
            let attempts = match queues.is_head(self, *id, ordering_keys)? {
                false => None,
                true => {
                    let values = named_params! {
                        ":id": id,
                        ":token": token,
                        ":now": self.timestamp.now(),
                        ":until": self.timestamp.after(duration),
                        ":counted": *attempt == Attempt::Counted,
                    };
                    // A value that is not a number must not fail the other leases.
                    let attempts = |row: &Row<'_>| Ok(row.get_ref(0)?.as_i64().unwrap_or(i64::MAX));
                    lease.query_row(values, attempts).optional()?
                }
            };
            match attempts {
                Some(attempts) => {
                    taken.batch.leased.push(candidate.leased(u32::try_from(attempts).unwrap_or(u32::MAX)));
                }
                None => taken.missed = true,
            }
        }
        Ok(taken)
    }

    /// Dead-letters a delivery if it cannot be read on this connection either. If it cannot be dead-lettered, reports
    /// that.
    fn dead_letter_unreadable(&self, unreadable: &UnreadableRow, batch: &mut LeaseBatch) -> rusqlite::Result<()> {
        if !unreadable.has_state {
            batch.unreadable.push(report(unreadable));
            return Ok(());
        }
        let Err(unreadable) = self.read(unreadable.id)? else { return Ok(()) };
        let reason = unreadable.reason();
        let dead_lettered = self.isolation.isolate(|| {
            let mut dead_letter = self.connection.prepare_cached(&self.sql.dead_letter_unreadable)?;
            let values = named_params! { ":id": unreadable.id, ":now": self.timestamp.now(), ":reason": reason };
            Ok(dead_letter.execute(values)? > 0)
        });
        match dead_lettered? {
            Ok(true) => {
                self.dequeue_readable(unreadable.id)?;
                let UnreadableRow { id, attempts, head, .. } = unreadable;
                batch.dead_lettered.push(DeadLettered { id: DeliveryId::new(id), attempts, head, reason });
            }
            Ok(false) => {}
            Err(_) => batch.unreadable.push(report(&unreadable)),
        }
        Ok(())
    }

    /// Takes a delivery out of its queues, as far as they can be read. The rest is repaired when it is found to block
    /// another.
    fn dequeue_readable(&self, id: i64) -> rusqlite::Result<()> {
        let mut state = self.connection.prepare_cached(&self.sql.state)?;
        let keys = state.query_row([id], |row| Ok(ordering_keys::readable(row.get_ref(2)?)));
        self.dequeue(id, &keys.optional()?.unwrap_or_default())
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

    fn dead_letter_expired(&self, expired: &ExpiredLease, max_attempts: u32) -> rusqlite::Result<Option<DeadLettered>> {
        let values = named_params! {
            ":id": expired.id,
            ":token": expired.token,
            ":now": self.timestamp.now(),
            ":max_attempts": max_attempts,
            ":reason": LEASE_EXPIRED,
        };
        let dead_lettered = self.end(&self.sql.dead_letter_expired, expired.id, values)?;
        Ok(dead_lettered.then(|| DeadLettered {
            id: DeliveryId::new(expired.id),
            attempts: expired.attempts,
            head: expired.head.clone(),
            reason: LEASE_EXPIRED.into(),
        }))
    }

    /// Runs a statement that ends a delivery and returns its ordering keys, and takes the delivery out of its queues.
    /// Returns whether the statement changed anything.
    fn end(&self, sql: &str, id: i64, values: &[(&str, &dyn ToSql)]) -> rusqlite::Result<bool> {
        let keys = |row: &Row<'_>| Ok(ordering_keys::readable(row.get_ref(0)?));
        let ended = self.connection.prepare_cached(sql)?.query_row(values, keys).optional()?;
        let Some(keys) = ended else { return Ok(false) };
        self.dequeue(id, &keys)?;
        Ok(true)
    }

    /// Counts the attempts of leases. If some cannot be read, the others are counted, and the inner result is the
    /// error.
    pub(crate) fn start_all(&self, leases: &[Lease]) -> rusqlite::Result<Result<Vec<bool>, SqliteError>> {
        self.isolation.each(leases, |lease| self.start(lease))
    }

    /// Returns whether the delivery is leased with this token.
    fn start(&self, lease: &Lease) -> rusqlite::Result<bool> {
        let changed = self.connection.prepare_cached(&self.sql.start)?.execute(named_params! {
            ":id": lease.id().get(),
            ":token": lease.token(),
            ":attempt": lease.attempt(),
        })?;
        Ok(changed > 0)
    }

    /// Extends leases. If some cannot be read, the others are extended, and the inner result is the error.
    pub(crate) fn extend_all(
        &self,
        leases: &[Lease],
        duration: Duration,
    ) -> rusqlite::Result<Result<Vec<bool>, SqliteError>> {
        self.isolation.each(leases, |lease| self.extend(lease, duration))
    }

    /// Returns whether the delivery is leased with this token.
    fn extend(&self, lease: &Lease, duration: Duration) -> rusqlite::Result<bool> {
        let changed = self.connection.prepare_cached(&self.sql.extend)?.execute(named_params! {
            ":id": lease.id().get(),
            ":token": lease.token(),
            ":until": self.timestamp.after(duration),
        })?;
        Ok(changed > 0)
    }
}

impl Candidate {
    /// `attempts` is the number of attempts that the store has counted.
    fn leased(&self, attempts: u32) -> Leased {
        let attempt = attempts.saturating_add(u32::from(self.attempt == Attempt::CountedAtStart));
        let lease = Lease::new(DeliveryId::new(self.id), self.token + 1, attempt);
        // Cloned, since the transaction may run again.
        let leased = Leased::new(lease, self.head.clone(), self.body.clone());
        let leased = leased.with_ordering_keys(self.ordering_keys.clone());
        let leased = if self.after_expired_lease { leased.after_expired_lease() } else { leased };
        if self.attempt == Attempt::Counted { leased.with_attempt_counted() } else { leased }
    }
}

/// Reports a delivery that can be neither read nor dead-lettered.
fn report(unreadable: &UnreadableRow) -> Unreadable {
    let error = SqliteError::from(unreadable.fault.clone());
    Unreadable { id: DeliveryId::new(unreadable.id), error: StoreError::new(error) }
}

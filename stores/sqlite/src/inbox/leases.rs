//! The calls that lease selected deliveries, start their attempts, and extend leases.
//!
//! Deliveries are selected on the reader's connection and leased on the writer's. The selection may be outdated, so
//! each delivery is checked again before it is leased. Each lease and each revival changes the delivery's token, so an
//! unchanged token proves that the head and the body that were read are current.

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
    selection::{Attempt, Candidate, ExpiredLease, Selection},
};
use crate::error::SqliteError;

/// The terms of leases.
pub(crate) struct LeaseTerms {
    pub(crate) duration: Duration,
    pub(crate) max_attempts: u32,
    /// The name of the worker.
    pub(crate) worker: String,
}

/// The outcome of leasing a selection.
#[derive(Default)]
pub(crate) struct LeaseOutcome {
    pub(crate) batch: LeaseBatch,
    /// Whether another process has leased or paused one of the selected deliveries in the meantime.
    pub(crate) missed: bool,
    /// Whether a delivery that was blocked may be free now.
    pub(crate) unblocked: bool,
}

impl LeaseOutcome {
    /// Returns the outcome of a selection that has nothing to lease or to change.
    pub(crate) fn unreadable(selection: &Selection) -> Self {
        let mut taken = Self::default();
        taken.batch.unreadable.extend(selection.unreadable.iter().map(report));
        taken
    }
}

impl Deliveries<'_> {
    /// Leases the selected deliveries that are still free.
    pub(crate) fn lease(&self, selection: &Selection, terms: &LeaseTerms) -> rusqlite::Result<LeaseOutcome> {
        let LeaseTerms { duration, max_attempts, .. } = *terms;
        self.extend_expired(&selection.held, duration)?;
        let mut taken = LeaseOutcome::default();
        for repair in &selection.repairs {
            taken.unblocked |= self.repair(repair)?;
        }
        // Another process may have paused a selected delivery in the meantime.
        let pauses = self.pauses_in_force()?;
        for expired in &selection.expired {
            if self.is_paused(&pauses, expired.id)? {
                taken.missed = true;
                continue;
            }
            taken.batch.dead_lettered.extend(self.dead_letter_expired(expired, max_attempts)?);
        }
        for unreadable in &selection.unreadable {
            self.dead_letter_unreadable(unreadable, &mut taken.batch)?;
        }
        taken.unblocked |= !taken.batch.dead_lettered.is_empty();
        let mut queues = OrderingQueues::new(&[]);
        for candidate in &selection.candidates {
            let is_free = queues.is_head(self, candidate.id, &candidate.ordering_keys)?
                && !self.is_paused(&pauses, candidate.id)?;
            let attempts = if is_free { self.lease_candidate(candidate, terms)? } else { None };
            match attempts {
                Some(attempts) => {
                    taken.batch.leased.push(candidate.leased(u32::try_from(attempts).unwrap_or(u32::MAX)));
                }
                None => taken.missed = true,
            }
        }
        Ok(taken)
    }

    /// Leases a selected delivery. Returns its number of attempts, or `None` if it has changed since.
    fn lease_candidate(&self, candidate: &Candidate, terms: &LeaseTerms) -> rusqlite::Result<Option<i64>> {
        let Candidate { id, token, attempt, .. } = candidate;
        let (now, until) = (self.timestamp.now(), self.timestamp.after(terms.duration));
        let attempts = |row: &Row<'_>| Ok(row.get_ref(0)?.as_i64().unwrap_or(i64::MAX));
        if *attempt == Attempt::Continued {
            let values = named_params! { ":id": id, ":token": token, ":now": now, ":until": until };
            let mut take_over = self.connection.prepare_cached(&self.sql.lease.take_over)?;
            return take_over.query_row(values, attempts).optional();
        }
        if candidate.may_be_open {
            self.record_superseded(*id, *token)?;
        }
        let is_counted = *attempt == Attempt::Counted;
        let mut lease = self.connection.prepare_cached(&self.sql.lease.lease)?;
        self.record_start(is_counted, |started_at| {
            let values = named_params! {
                ":id": id,
                ":token": token,
                ":now": now,
                ":until": until,
                ":counted": is_counted,
                ":started_at": started_at,
                ":worker": terms.worker,
            };
            lease.query_row(values, attempts).optional()
        })
    }

    /// Runs a step with the time at which an attempt starts, or without one if no attempt `starts`.
    ///
    /// The time makes the row longer, which fails if SQLite has to move rows to a damaged page. The step then runs
    /// again without the time: the delivery is handled, although the attempt has no record.
    fn record_start<T>(
        &self,
        starts: bool,
        mut run: impl FnMut(Option<i64>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if starts && let Ok(result) = self.isolation.isolate(|| run(Some(self.timestamp.system())))? {
            return Ok(result);
        }
        run(None)
    }

    /// Dead-letters a delivery if it is unreadable on this connection too. If that fails, adds it to the batch's
    /// unreadable deliveries.
    fn dead_letter_unreadable(&self, unreadable: &UnreadableRow, batch: &mut LeaseBatch) -> rusqlite::Result<()> {
        if !unreadable.has_state {
            batch.unreadable.push(report(unreadable));
            return Ok(());
        }
        let Err(unreadable) = self.read(unreadable.id)? else { return Ok(()) };
        let reason = unreadable.reason();
        let dead_lettered = self.isolation.isolate(|| {
            let mut dead_letter = self.connection.prepare_cached(&self.sql.lease.dead_letter_unreadable)?;
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

    /// Removes a delivery from its queues. If its ordering keys are unreadable, its queue entries stay until they are
    /// found to block another delivery.
    fn dequeue_readable(&self, id: i64) -> rusqlite::Result<()> {
        let mut read = self.connection.prepare_cached(&self.sql.rows.read_state_and_keys)?;
        let keys = read.query_row([id], |row| Ok(ordering_keys::readable(row.get_ref(1)?)));
        self.dequeue(id, &keys.optional()?.unwrap_or_default())
    }

    /// Extends expired leases that the process holds, unless another process has leased the deliveries in the meantime.
    fn extend_expired(&self, held: &[Lease], duration: Duration) -> rusqlite::Result<()> {
        for lease in held {
            self.connection.prepare_cached(&self.sql.lease.extend_expired)?.execute(named_params! {
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
        let dead_lettered = self.finish(&self.sql.lease.dead_letter_expired, expired.id, values)?;
        if dead_lettered {
            self.record_unknown(expired.id)?;
        }
        Ok(dead_lettered.then(|| DeadLettered {
            id: DeliveryId::new(expired.id),
            attempts: expired.attempts,
            head: expired.head.clone(),
            reason: LEASE_EXPIRED.into(),
        }))
    }

    /// Runs a statement that finishes a delivery and returns its ordering keys, and removes the delivery from its
    /// queues. Returns whether the statement changed anything.
    fn finish(&self, sql: &str, id: i64, values: &[(&str, &dyn ToSql)]) -> rusqlite::Result<bool> {
        let keys = |row: &Row<'_>| Ok(ordering_keys::readable(row.get_ref(0)?));
        let ended = self.connection.prepare_cached(sql)?.query_row(values, keys).optional()?;
        let Some(keys) = ended else { return Ok(false) };
        self.dequeue(id, &keys)?;
        Ok(true)
    }

    /// Starts the attempts of leases. If some are unreadable, starts the others and returns an inner error.
    pub(crate) fn start_all(&self, leases: &[Lease], worker: &str) -> rusqlite::Result<Result<Vec<bool>, SqliteError>> {
        self.isolation.each(leases, |lease| self.start(lease, worker))
    }

    /// Starts the attempt of a lease. Returns whether the lease is current.
    fn start(&self, lease: &Lease, worker: &str) -> rusqlite::Result<bool> {
        let mut start = self.connection.prepare_cached(&self.sql.lease.start)?;
        let changed = self.record_start(true, |started_at| {
            start.execute(named_params! {
                ":id": lease.id().get(),
                ":token": lease.token(),
                ":attempt": lease.attempt(),
                ":started_at": started_at,
                ":worker": worker,
            })
        })?;
        Ok(changed > 0)
    }

    /// Extends leases. If some are unreadable, extends the others and returns an inner error.
    pub(crate) fn extend_all(
        &self,
        leases: &[Lease],
        duration: Duration,
    ) -> rusqlite::Result<Result<Vec<bool>, SqliteError>> {
        self.isolation.each(leases, |lease| self.extend(lease, duration))
    }

    /// Extends a lease. Returns whether the lease is current.
    fn extend(&self, lease: &Lease, duration: Duration) -> rusqlite::Result<bool> {
        let changed = self.connection.prepare_cached(&self.sql.lease.extend)?.execute(named_params! {
            ":id": lease.id().get(),
            ":token": lease.token(),
            ":until": self.timestamp.after(duration),
        })?;
        Ok(changed > 0)
    }
}

impl Candidate {
    /// Returns the leased delivery. `attempts` is the number of attempts that the store has counted.
    fn leased(&self, attempts: u32) -> Leased {
        let attempt = attempts.saturating_add(u32::from(self.attempt == Attempt::CountedAtStart));
        let lease = Lease::new(DeliveryId::new(self.id), self.token + 1, attempt);
        // Clone the parts, since the transaction may run again.
        let leased = Leased::new(lease, self.head.clone(), self.body.clone());
        let leased = leased.with_ordering_keys(self.ordering_keys.clone()).with_age(self.age);
        let leased = if self.after_expiry { leased.after_expiry() } else { leased };
        let leased = if self.after_expired_lease { leased.after_expired_lease() } else { leased };
        if self.attempt == Attempt::Counted { leased.with_attempt_counted() } else { leased }
    }
}

/// Returns the report of a delivery that can be neither read nor dead-lettered.
fn report(unreadable: &UnreadableRow) -> Unreadable {
    let error = SqliteError::from(unreadable.fault.clone());
    Unreadable { id: DeliveryId::new(unreadable.id), error: StoreError::new(error) }
}

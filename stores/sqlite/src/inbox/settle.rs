//! Recording how attempts ended.

use rusqlite::{OptionalExtension, Row, ToSql, params};
use tower_klikit::inbox::{DeliveryState, Lease, OrderingKey, SettleOutcome, Settlement};

use super::{deliveries::Deliveries, ordering_keys, state::state_of};
use crate::error::SqliteError;

/// A delivery whose attempt has ended.
struct Ended {
    id: i64,
    state: DeliveryState,
    /// `None` if it is not what leasing wrote.
    token: Option<i64>,
    /// The ordering keys, as far as they can be read.
    ordering_keys: Vec<OrderingKey>,
}

impl Deliveries<'_> {
    /// Settles deliveries. If some cannot be read, the others are settled, and the inner result is the error.
    pub(crate) fn settle_all(
        &self,
        settlements: &[(Lease, Settlement)],
    ) -> rusqlite::Result<Result<Vec<SettleOutcome>, SqliteError>> {
        self.isolation.each(settlements, |(lease, settlement)| self.settle(lease, settlement))
    }

    fn settle(&self, lease: &Lease, settlement: &Settlement) -> rusqlite::Result<SettleOutcome> {
        let id = lease.id().get();
        let ended = |row: &Row<'_>| {
            let (state, token) = (state_of(row.get_ref(0)?), row.get_ref(1)?.as_i64().ok());
            Ok(Ended { id, state, token, ordering_keys: ordering_keys::readable(row.get_ref(2)?) })
        };
        let ended = self.connection.prepare_cached(&self.sql.state)?.query_row([id], ended).optional()?;
        let Some(ended) = ended else { return Ok(SettleOutcome::Gone) };
        if ended.token != Some(lease.token()) {
            return Ok(SettleOutcome::Superseded);
        }
        if ended.state != DeliveryState::Done {
            self.apply(&ended, lease, settlement)?;
        }
        Ok(SettleOutcome::Settled)
    }

    fn apply(&self, ended: &Ended, lease: &Lease, settlement: &Settlement) -> rusqlite::Result<()> {
        let id = ended.id;
        let execute = |sql: &str, values: &[&dyn ToSql]| self.connection.prepare_cached(sql)?.execute(values).map(drop);
        match settlement {
            Settlement::Done { keep } if keep.is_zero() => {
                self.leave_queues(ended)?;
                match self.isolation.isolate(|| execute(&self.sql.delete, params![id]))? {
                    Ok(()) => self.delete_body(id),
                    // Next to a damaged page it cannot be deleted, but it must not be handled again.
                    Err(_) => execute(&self.sql.keep, params![id, self.timestamp.now()]),
                }
            }
            Settlement::Done { keep } => {
                self.leave_queues(ended)?;
                execute(&self.sql.keep, params![id, self.timestamp.after(*keep)])
            }
            Settlement::Reschedule { delay, reason, unordered: false } => {
                execute(&self.sql.reschedule, params![id, self.timestamp.after(*delay), reason])
            }
            Settlement::Reschedule { delay, reason, unordered: true } => {
                self.leave_queues(ended)?;
                execute(&self.sql.reschedule_unordered, params![id, self.timestamp.after(*delay), reason])
            }
            Settlement::DeadLetter { reason } => {
                self.leave_queues(ended)?;
                execute(&self.sql.dead_letter, params![id, reason])
            }
            Settlement::Release if ended.state == DeliveryState::Ready => Ok(()),
            Settlement::Release => {
                let attempts = lease.attempt().saturating_sub(1);
                execute(&self.sql.release, params![id, self.timestamp.now(), attempts])
            }
        }
    }

    /// Takes a delivery out of its queues. A dead one is in none.
    fn leave_queues(&self, ended: &Ended) -> rusqlite::Result<()> {
        match ended.state {
            DeliveryState::Dead => Ok(()),
            _ => self.dequeue(ended.id, &ended.ordering_keys),
        }
    }
}

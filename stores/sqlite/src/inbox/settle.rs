//! Recording how attempts ended.

use rusqlite::{OptionalExtension, Row, ToSql, params};
use tower_klikit::inbox::{DeliveryState, Lease, SettleOutcome, Settlement};

use super::{
    deliveries::Deliveries,
    rows::{ordering_of, state_of},
};

/// A delivery whose attempt has ended.
struct Ended {
    id: i64,
    state: DeliveryState,
    /// `None` if it is not what leasing wrote.
    token: Option<i64>,
    /// The ordering keys, as far as they can be read.
    ordering: Option<Vec<u8>>,
}

impl Deliveries<'_> {
    pub(super) fn settle(&self, lease: &Lease, settlement: &Settlement) -> rusqlite::Result<SettleOutcome> {
        let id = lease.id().get();
        let ended = |row: &Row<'_>| {
            let ordering = ordering_of(row.get_ref(2)?).unwrap_or_default().map(<[u8]>::to_vec);
            Ok(Ended { id, state: state_of(row.get_ref(0)?), token: row.get_ref(1)?.as_i64().ok(), ordering })
        };
        let ended = self.connection.prepare_cached(&self.sql.state)?.query_row([id], ended).optional()?;
        let Some(ended) = ended else { return Ok(SettleOutcome::Gone) };
        if ended.token != Some(lease.token()) {
            return Ok(SettleOutcome::Superseded);
        }
        if ended.state != DeliveryState::Done {
            self.apply(&ended, settlement)?;
        }
        Ok(SettleOutcome::Settled)
    }

    fn apply(&self, ended: &Ended, settlement: &Settlement) -> rusqlite::Result<()> {
        let id = ended.id;
        let execute = |sql: &str, values: &[&dyn ToSql]| self.connection.prepare_cached(sql)?.execute(values).map(drop);
        match settlement {
            Settlement::Done { keep } if keep.is_zero() => {
                self.leave_queues(ended)?;
                match self.isolation.isolate(|| execute(&self.sql.delete, params![id]))? {
                    Ok(()) => self.delete_delivery(id),
                    // Next to a damaged page it cannot be deleted, but it must not be handled again.
                    Err(_) => execute(&self.sql.keep, params![id, self.timestamp.now()]),
                }
            }
            Settlement::Done { keep } => {
                self.leave_queues(ended)?;
                execute(&self.sql.keep, params![id, self.timestamp.after(*keep)])
            }
            Settlement::Reschedule { delay, reason } => {
                self.return_to_queues(ended)?;
                execute(&self.sql.reschedule, params![id, self.timestamp.after(*delay), reason])
            }
            Settlement::DeadLetter { reason } => {
                self.leave_queues(ended)?;
                execute(&self.sql.dead_letter, params![id, reason])
            }
            Settlement::Release if ended.state == DeliveryState::Ready => Ok(()),
            Settlement::Release => {
                self.return_to_queues(ended)?;
                execute(&self.sql.release, params![id, self.timestamp.now()])
            }
        }
    }

    /// Takes a delivery out of its queues. A dead one is in none.
    fn leave_queues(&self, ended: &Ended) -> rusqlite::Result<()> {
        match ended.state {
            DeliveryState::Dead => Ok(()),
            _ => self.dequeue(ended.id, ended.ordering.as_deref()),
        }
    }

    fn return_to_queues(&self, ended: &Ended) -> rusqlite::Result<()> {
        match ended.state {
            DeliveryState::Dead => self.enqueue(ended.id, ended.ordering.as_deref()),
            _ => Ok(()),
        }
    }
}

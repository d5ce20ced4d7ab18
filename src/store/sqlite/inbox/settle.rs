//! Recording how attempts ended.

use rusqlite::{OptionalExtension, params};

use super::deliveries::Deliveries;
use crate::inbox::{DeliveryState, Lease, SettleOutcome, Settlement};

/// A delivery whose attempt has ended.
struct Ended {
    state: Option<DeliveryState>,
    token: i64,
    ordering: Option<Vec<u8>>,
}

impl Deliveries<'_> {
    pub(super) fn settle(&self, lease: &Lease, settlement: &Settlement) -> rusqlite::Result<SettleOutcome> {
        let id = lease.id().get();
        let ended = self.connection.prepare_cached(&self.sql.state)?.query_row([id], |row| {
            Ok(Ended { state: DeliveryState::from_code(row.get(0)?), token: row.get(1)?, ordering: row.get(2)? })
        });
        let Some(ended) = ended.optional()? else { return Ok(SettleOutcome::Gone) };
        if ended.token != lease.token() {
            return Ok(SettleOutcome::Superseded);
        }
        if ended.state != Some(DeliveryState::Done) {
            self.apply(id, &ended, settlement)?;
        }
        Ok(SettleOutcome::Settled)
    }

    fn apply(&self, id: i64, ended: &Ended, settlement: &Settlement) -> rusqlite::Result<()> {
        let execute =
            |sql: &str, values: &[&dyn rusqlite::ToSql]| self.connection.prepare_cached(sql)?.execute(values).map(drop);
        let ordering = ended.ordering.as_deref();
        // A dead delivery is in no queue.
        let dequeue = || if ended.state == Some(DeliveryState::Dead) { Ok(()) } else { self.dequeue(id, ordering) };
        let requeue = || if ended.state == Some(DeliveryState::Dead) { self.enqueue(id, ordering) } else { Ok(()) };
        match settlement {
            Settlement::Done { keep } if keep.is_zero() => {
                dequeue()?;
                execute(&self.sql.delete, params![id])?;
                self.delete_delivery(id)
            }
            Settlement::Done { keep } => {
                dequeue()?;
                execute(&self.sql.keep, params![id, self.timestamp.after(*keep)])
            }
            Settlement::Reschedule { delay, reason } => {
                requeue()?;
                execute(&self.sql.reschedule, params![id, self.timestamp.after(*delay), reason])
            }
            Settlement::DeadLetter { reason } => {
                dequeue()?;
                execute(&self.sql.dead_letter, params![id, reason])
            }
            Settlement::Release if ended.state == Some(DeliveryState::Ready) => Ok(()),
            Settlement::Release => {
                requeue()?;
                execute(&self.sql.release, params![id, self.timestamp.now()])
            }
        }
    }
}

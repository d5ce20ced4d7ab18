//! The calls that settle deliveries or dead-letter them.

use rusqlite::{OptionalExtension, Row, ToSql, params};
use tower_klikit::inbox::{DeliveryId, DeliveryState, Lease, OrderingKey, SettleOutcome, Settlement};

use super::{deliveries::Deliveries, ordering_keys, state::state_of};
use crate::error::SqliteError;

/// A delivery that is being settled or dead-lettered.
struct SettleTarget {
    id: i64,
    state: DeliveryState,
    /// `None` if the stored token is unreadable.
    token: Option<i64>,
    /// Empty if the stored keys are unreadable.
    ordering_keys: Vec<OrderingKey>,
    /// `None` if there is no reason or it is unreadable.
    reason: Option<String>,
}

impl Deliveries<'_> {
    /// Settles deliveries. If some are unreadable, settles the others and returns an inner error.
    pub(crate) fn settle_all(
        &self,
        settlements: &[(Lease, Settlement)],
    ) -> rusqlite::Result<Result<Vec<SettleOutcome>, SqliteError>> {
        self.isolation.each(settlements, |(lease, settlement)| self.settle(lease, settlement))
    }

    /// Dead-letters the deliveries that are ready or leased, and in one of these states. Returns for each whether it
    /// was dead-lettered. If some are unreadable, dead-letters the others and returns an inner error.
    pub(crate) fn dead_letter_all(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
        reason: &str,
    ) -> rusqlite::Result<Result<Vec<bool>, SqliteError>> {
        self.isolation.each(ids, |id| {
            let Some(target) = self.target(id.get())? else { return Ok(false) };
            if !target.state.is_unfinished() || !states.contains(&target.state) {
                return Ok(false);
            }
            self.dead_letter(&target, reason)?;
            Ok(true)
        })
    }

    fn target(&self, id: i64) -> rusqlite::Result<Option<SettleTarget>> {
        let target = |row: &Row<'_>| {
            let (state, token) = (state_of(row.get_ref(0)?), row.get_ref(1)?.as_i64().ok());
            let ordering_keys = ordering_keys::readable(row.get_ref(2)?);
            let reason = row.get_ref(3)?.as_str().ok().map(str::to_owned);
            Ok(SettleTarget { id, state, token, ordering_keys, reason })
        };
        self.connection.prepare_cached(&self.sql.settle.read_for_settling)?.query_row([id], target).optional()
    }

    fn settle(&self, lease: &Lease, settlement: &Settlement) -> rusqlite::Result<SettleOutcome> {
        let Some(target) = self.target(lease.id().get())? else { return Ok(SettleOutcome::Gone) };
        if target.token != Some(lease.token()) {
            return Ok(SettleOutcome::Superseded);
        }
        match target.state {
            DeliveryState::Done => {}
            DeliveryState::Dead if settlement.leaves_dead(target.reason.as_deref()) => {}
            _ => self.apply(&target, lease, settlement)?,
        }
        Ok(SettleOutcome::Settled)
    }

    fn apply(&self, target: &SettleTarget, lease: &Lease, settlement: &Settlement) -> rusqlite::Result<()> {
        let id = target.id;
        let execute = |sql: &str, values: &[&dyn ToSql]| self.connection.prepare_cached(sql)?.execute(values).map(drop);
        match settlement {
            Settlement::Done { keep } if keep.is_zero() => {
                self.leave_queues(target)?;
                match self.isolation.isolate(|| execute(&self.sql.rows.delete, params![id]))? {
                    Ok(()) => self.delete_body(id),
                    // SQLite may be unable to delete the row next to a damaged page. Mark it as done, so that the
                    // delivery is not handled again.
                    Err(_) => execute(&self.sql.settle.mark_done, params![id, self.timestamp.now()]),
                }
            }
            Settlement::Done { keep } => {
                self.leave_queues(target)?;
                execute(&self.sql.settle.mark_done, params![id, self.timestamp.after(*keep)])
            }
            Settlement::Reschedule { delay, reason, unordered: false } => {
                execute(&self.sql.settle.reschedule, params![id, self.timestamp.after(*delay), reason])
            }
            Settlement::Reschedule { delay, reason, unordered: true } => {
                self.leave_queues(target)?;
                execute(&self.sql.settle.reschedule_unordered, params![id, self.timestamp.after(*delay), reason])
            }
            Settlement::DeadLetter { reason } => self.dead_letter(target, reason),
            Settlement::Release if target.state == DeliveryState::Ready => Ok(()),
            Settlement::Release => {
                let attempts = lease.attempt().saturating_sub(1);
                execute(&self.sql.settle.release, params![id, self.timestamp.now(), attempts])
            }
        }
    }

    fn dead_letter(&self, target: &SettleTarget, reason: &str) -> rusqlite::Result<()> {
        self.leave_queues(target)?;
        self.connection.prepare_cached(&self.sql.settle.dead_letter)?.execute(params![target.id, reason]).map(drop)
    }

    /// Removes a delivery from its queues. A dead delivery is in no queue.
    fn leave_queues(&self, target: &SettleTarget) -> rusqlite::Result<()> {
        match target.state {
            DeliveryState::Dead => Ok(()),
            _ => self.dequeue(target.id, &target.ordering_keys),
        }
    }
}

//! The calls that settle, dead-letter and requeue deliveries.

use rusqlite::{OptionalExtension, Row, ToSql, params};
use tower_klikit::inbox::{DeliveryId, DeliveryState, EXPIRED, Lease, OrderingKey, SettleOutcome, Settlement};

use super::{deliveries::Deliveries, ordering_keys, state::state_of};
use crate::error::SqliteError;

/// A delivery that is being settled or dead-lettered.
pub(super) struct SettleTarget {
    pub(super) id: i64,
    state: DeliveryState,
    /// `None` if the stored token is unreadable.
    token: Option<i64>,
    /// Empty if the stored keys are unreadable.
    ordering_keys: Vec<OrderingKey>,
    /// `None` if there is no reason or it is unreadable.
    reason: Option<String>,
    /// The token of the lease with which the open attempt started.
    pub(super) started_token: Option<i64>,
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

    /// Makes the dead and done deliveries ready that are in one of these states and have a body, in their old place in
    /// their queues. Returns for each whether it is ready now. If some are unreadable, changes the others and returns
    /// an inner error.
    pub(crate) fn requeue_all(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
    ) -> rusqlite::Result<Result<Vec<bool>, SqliteError>> {
        self.isolation.each(ids, |id| {
            let Some(target) = self.target(id.get())? else { return Ok(false) };
            if !states.contains(&target.state) {
                return Ok(false);
            }
            let mut requeue = self.connection.prepare_cached(&self.sql.admin.requeue)?;
            Ok(requeue.execute(params![id.get(), self.timestamp.now()])? > 0)
        })
    }

    fn target(&self, id: i64) -> rusqlite::Result<Option<SettleTarget>> {
        let target = |row: &Row<'_>| {
            let (state, token) = (state_of(row.get_ref(0)?), row.get_ref(1)?.as_i64().ok());
            let ordering_keys = ordering_keys::readable(row.get_ref(2)?);
            let reason = row.get_ref(3)?.as_str().ok().map(str::to_owned);
            let started_token = row.get_ref(4)?.as_i64().ok();
            Ok(SettleTarget { id, state, token, ordering_keys, reason, started_token })
        };
        self.connection.prepare_cached(&self.sql.settle.read_for_settling)?.query_row([id], target).optional()
    }

    fn settle(&self, lease: &Lease, settlement: &Settlement) -> rusqlite::Result<SettleOutcome> {
        let Some(target) = self.target(lease.id().get())? else { return Ok(SettleOutcome::Gone) };
        if target.token != Some(lease.token()) {
            return Ok(SettleOutcome::Superseded);
        }
        let is_left = target.state == DeliveryState::Dead && settlement.leaves_dead(target.reason.as_deref());
        match settlement {
            _ if target.state == DeliveryState::Done => {}
            Settlement::Done { keep, history, .. } if keep.is_zero() && history.is_zero() => {
                self.finish_now(&target)?
            }
            _ => {
                self.record_end(&target, lease, settlement)?;
                if !is_left {
                    self.apply(&target, lease, settlement)?;
                }
            }
        }
        Ok(SettleOutcome::Settled)
    }

    /// Deletes a handled delivery.
    fn finish_now(&self, target: &SettleTarget) -> rusqlite::Result<()> {
        let id = target.id;
        self.leave_queues(target)?;
        if self.isolation.isolate(|| self.execute(&self.sql.rows.delete, params![id]))?.is_err() {
            // SQLite may be unable to delete the row next to a damaged page. Mark it as done, so that the delivery is
            // not handled again.
            return self.execute(&self.sql.settle.mark_done, params![id, self.timestamp.now(), None::<i64>]);
        }
        // The first lease has the token 1. While it lasts, no other attempt can have a record.
        if target.token != Some(1) || target.state != DeliveryState::Leased {
            self.delete_records(id)?;
        }
        self.delete_body(id)
    }

    fn apply(&self, target: &SettleTarget, lease: &Lease, settlement: &Settlement) -> rusqlite::Result<()> {
        let id = target.id;
        let attempts_before = lease.attempt().saturating_sub(1);
        let execute = |sql: &str, values: &[&dyn ToSql]| self.execute(sql, values);
        match settlement {
            Settlement::Done { keep, history, .. } => {
                self.leave_queues(target)?;
                let history_until = self.timestamp.after(*history);
                if keep.is_zero() {
                    self.drop_body(id)?;
                    return execute(&self.sql.settle.mark_done, params![id, history_until, None::<i64>]);
                }
                let until = self.timestamp.after(*keep);
                let history_until = Some(history_until).filter(|history| *history > until);
                execute(&self.sql.settle.mark_done, params![id, until, history_until])
            }
            Settlement::Reschedule { delay, reason, unordered: false, .. } => {
                execute(&self.sql.settle.reschedule, params![id, self.timestamp.after(*delay), reason])
            }
            Settlement::Reschedule { delay, reason, unordered: true, .. } => {
                self.leave_queues(target)?;
                execute(&self.sql.settle.reschedule_unordered, params![id, self.timestamp.after(*delay), reason])
            }
            Settlement::DeadLetter { reason, .. } => self.dead_letter(target, reason),
            Settlement::Expire => {
                self.leave_queues(target)?;
                execute(&self.sql.settle.expire, params![id, EXPIRED, attempts_before])
            }
            Settlement::Release if target.state == DeliveryState::Ready => Ok(()),
            Settlement::Release => {
                execute(&self.sql.settle.release, params![id, self.timestamp.now(), attempts_before])
            }
        }
    }

    fn dead_letter(&self, target: &SettleTarget, reason: &str) -> rusqlite::Result<()> {
        self.leave_queues(target)?;
        self.execute(&self.sql.settle.dead_letter, params![target.id, reason])
    }

    fn execute(&self, sql: &str, values: &[&dyn ToSql]) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute(values).map(drop)
    }

    /// Removes a delivery from its queues. A dead delivery is in no queue.
    fn leave_queues(&self, target: &SettleTarget) -> rusqlite::Result<()> {
        match target.state {
            DeliveryState::Dead => Ok(()),
            _ => self.dequeue(target.id, &target.ordering_keys),
        }
    }
}

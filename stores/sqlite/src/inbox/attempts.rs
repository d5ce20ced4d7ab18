//! The records of attempts.

use rusqlite::{Params, Row, named_params, params, types::ValueRef};
use tower_klikit::inbox::{AttemptRecord, Lease, OUTCOME_UNKNOWN, Settlement};

use super::{deliveries::Deliveries, settle::SettleTarget};
use crate::{timestamp::time, values::text};

/// The number of records to read: one more than are shown, because the open attempt may have a record.
const READ: usize = AttemptRecord::SHOWN + 1;

/// The open attempt of a delivery, and the token of the lease with which it started.
pub(super) struct OpenAttempt {
    token: i64,
    record: AttemptRecord,
}

impl OpenAttempt {
    /// Creates an open attempt from the columns `started_at`, `started_token` and `worker`.
    pub(super) fn new(
        attempts: u32,
        started_at: ValueRef<'_>,
        token: ValueRef<'_>,
        worker: ValueRef<'_>,
    ) -> Option<Self> {
        let record = AttemptRecord {
            number: attempts.max(1),
            worker: text(worker, "worker").unwrap_or_default().into(),
            started_at: time(started_at.as_i64().ok()?),
            ended_at: None,
            status: None,
            reason: None,
        };
        Some(Self { token: token.as_i64().ok()?, record })
    }
}

impl Deliveries<'_> {
    /// Ends the open attempt of a delivery that is being settled.
    pub(super) fn record_end(
        &self,
        target: &SettleTarget,
        lease: &Lease,
        settlement: &Settlement,
    ) -> rusqlite::Result<()> {
        let Some(token) = target.started_token else { return Ok(()) };
        let (status, reason) = match settlement {
            Settlement::Done { status, .. } => (status, None),
            Settlement::Reschedule { status, reason, .. } | Settlement::DeadLetter { status, reason } => {
                (status, Some(reason))
            }
            Settlement::Expire | Settlement::Release => {
                self.change_records(&self.sql.attempt.delete_record, params![target.id, token])?;
                return self.close_attempt(target.id);
            }
        };
        let values = named_params! {
            ":id": target.id,
            ":attempt": lease.attempt().max(1),
            ":ended_at": self.timestamp.system(),
            ":status": status,
            ":reason": reason,
        };
        self.change_records(&self.sql.attempt.record_end, values)?;
        self.close_attempt(target.id)
    }

    fn close_attempt(&self, id: i64) -> rusqlite::Result<()> {
        self.connection.prepare_cached(&self.sql.attempt.close)?.execute([id]).map(drop)
    }

    /// Records the open attempt of a delivery without an outcome. The attempt stays open, because its worker may still
    /// report an outcome.
    pub(super) fn record_unknown(&self, id: i64) -> rusqlite::Result<()> {
        let values = named_params! { ":id": id, ":reason": OUTCOME_UNKNOWN };
        self.change_records(&self.sql.attempt.record_unknown, values)
    }

    /// Records the open attempt of a delivery without an outcome, if the delivery can be leased for another attempt.
    pub(super) fn record_superseded(&self, id: i64, token: i64) -> rusqlite::Result<()> {
        let values = named_params! {
            ":id": id, ":token": token, ":now": self.timestamp.now(), ":reason": OUTCOME_UNKNOWN,
        };
        self.change_records(&self.sql.attempt.record_superseded, values)
    }

    pub(super) fn delete_records(&self, id: i64) -> rusqlite::Result<()> {
        self.change_records(&self.sql.attempt.delete_records, params![id])
    }

    /// Runs a statement that changes records. Those on a damaged page stay as they are.
    fn change_records(&self, sql: &str, values: impl Params) -> rusqlite::Result<()> {
        let mut change = self.connection.prepare_cached(sql)?;
        self.isolation.isolate(|| change.execute(values)).map(drop)
    }

    /// Returns the records of a delivery's last attempts, oldest first. Returns none if they are on a damaged page.
    pub(super) fn history(&self, id: i64, open: Option<OpenAttempt>) -> rusqlite::Result<Vec<AttemptRecord>> {
        let mut list = self.connection.prepare_cached(&self.sql.attempt.list)?;
        let limit = i64::try_from(READ).unwrap_or(i64::MAX);
        let listed = self.isolation.isolate(|| {
            let records =
                list.query_map(params![id, limit], |row| Ok((row.get_ref(6)?.as_i64().ok(), record(row)?)))?;
            records.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let listed = listed.unwrap_or_default();
        let has_no_record = |open: &OpenAttempt| listed.iter().all(|(token, _)| *token != Some(open.token));
        let open = open.filter(has_no_record).map(|open| open.record);
        let mut history: Vec<_> = listed.into_iter().rev().map(|(_, record)| record).chain(open).collect();
        Ok(history.split_off(history.len().saturating_sub(AttemptRecord::SHOWN)))
    }
}

/// Reads a record. Leaves out the parts that cannot be read.
fn record(row: &Row<'_>) -> rusqlite::Result<AttemptRecord> {
    let number = |column: usize| row.get_ref(column).map(|value| value.as_i64().ok());
    Ok(AttemptRecord {
        number: number(0)?.and_then(|number| number.try_into().ok()).unwrap_or_default(),
        worker: text(row.get_ref(1)?, "worker").unwrap_or_default().into(),
        started_at: time(number(2)?.unwrap_or_default()),
        ended_at: number(3)?.map(time),
        status: number(4)?.and_then(|status| status.try_into().ok()),
        reason: text(row.get_ref(5)?, "reason").ok().map(Into::into),
    })
}

//! The inbox's tables within a transaction.

use rusqlite::{Connection, params};
use tower_klikit::inbox::OrderingKey;

use super::sql::InboxSql;
use crate::{isolation::Isolation, ledger::Entries, timestamp::Timestamp};

/// The inbox's tables within a transaction.
///
/// Calls write with several statements, so a failed call may leave a partial change, and the transaction must be rolled
/// back. A [`Fault`](crate::fault::Fault) is an exception: it is found before anything is written.
pub(crate) struct Deliveries<'a> {
    pub(super) connection: &'a Connection,
    pub(super) sql: &'a InboxSql,
    pub(super) isolation: Isolation<'a>,
    pub(super) ledger: Entries<'a>,
    pub(super) timestamp: Timestamp,
}

impl<'a> Deliveries<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        sql: &'a InboxSql,
        isolation: Isolation<'a>,
        ledger: Entries<'a>,
        timestamp: Timestamp,
    ) -> Self {
        Self { connection, sql, isolation, ledger, timestamp }
    }

    /// Deletes a delivery's row in the table of bodies. A row on a damaged page stays, but nothing refers to it any
    /// more.
    pub(super) fn delete_body(&self, id: i64) -> rusqlite::Result<()> {
        let mut delete = self.connection.prepare_cached(&self.sql.rows.delete_body)?;
        self.isolation.isolate(|| delete.execute([id])).map(drop)
    }

    /// Deletes a delivery's body, and keeps its head. A body on a damaged page stays.
    pub(super) fn drop_body(&self, id: i64) -> rusqlite::Result<()> {
        let mut drop_body = self.connection.prepare_cached(&self.sql.rows.drop_body)?;
        self.isolation.isolate(|| drop_body.execute([id])).map(drop)
    }

    /// Adds a delivery to the queues of these ordering keys.
    pub(super) fn enqueue(&self, id: i64, keys: &[OrderingKey]) -> rusqlite::Result<()> {
        self.for_each_key(&self.sql.rows.enqueue, id, keys)
    }

    /// Removes a delivery from the queues of these ordering keys.
    pub(super) fn dequeue(&self, id: i64, keys: &[OrderingKey]) -> rusqlite::Result<()> {
        self.for_each_key(&self.sql.rows.dequeue, id, keys)
    }

    fn for_each_key(&self, sql: &str, id: i64, keys: &[OrderingKey]) -> rusqlite::Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut each = self.connection.prepare_cached(sql)?;
        keys.iter().try_for_each(|key| each.execute(params![key.as_str(), id]).map(drop))
    }
}

//! The inbox's tables, within a transaction.

use rusqlite::{Connection, params};
use tower_klikit::inbox::{DeliveryId, OrderingKey};

use super::sql::InboxSql;
use crate::{isolation::Isolation, ledger::Entries, timestamp::Timestamp};

/// The tables, within a transaction.
///
/// Calls write with several statements. One that fails may have done a part of it, and the transaction has to be rolled
/// back, unless the error is a [`Fault`](crate::fault::Fault): those are found before anything is written.
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

    /// Deletes what is stored of a request. On a damaged page it is left behind: nothing refers to it any more.
    pub(super) fn delete_body(&self, id: i64) -> rusqlite::Result<()> {
        let mut delete = self.connection.prepare_cached(&self.sql.delete_body)?;
        self.isolation.isolate(|| delete.execute([id])).map(drop)
    }

    /// Makes a dead delivery ready, in its old place.
    pub(crate) fn retry(&self, id: DeliveryId) -> rusqlite::Result<bool> {
        let retried =
            self.connection.prepare_cached(&self.sql.retry)?.execute(params![id.get(), self.timestamp.now()])?;
        Ok(retried > 0)
    }

    /// Puts a delivery into its queues.
    pub(super) fn enqueue(&self, id: i64, keys: &[OrderingKey]) -> rusqlite::Result<()> {
        self.for_each_key(&self.sql.insert_key, id, keys)
    }

    /// Takes a delivery out of its queues.
    pub(super) fn dequeue(&self, id: i64, keys: &[OrderingKey]) -> rusqlite::Result<()> {
        self.for_each_key(&self.sql.delete_key, id, keys)
    }

    fn for_each_key(&self, sql: &str, id: i64, keys: &[OrderingKey]) -> rusqlite::Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut each = self.connection.prepare_cached(sql)?;
        keys.iter().try_for_each(|key| each.execute(params![key.as_str(), id]).map(drop))
    }
}

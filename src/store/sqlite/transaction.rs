//! What a call works on.

use std::time::SystemTime;

use rusqlite::Connection;

use super::{entries::Entries, inbox::Deliveries, schema::Schema, timestamp::Timestamp};

/// A transaction, the tables in it, and the one time that all of it happens at.
pub(super) struct Transaction<'a> {
    connection: &'a Connection,
    schema: &'a Schema,
    timestamp: Timestamp,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(connection: &'a Connection, schema: &'a Schema, now: SystemTime) -> Self {
        Self { connection, schema, timestamp: Timestamp::new(now) }
    }

    pub(super) fn ledger(&self) -> Entries<'a> {
        Entries::new(self.connection, &self.schema.ledger, self.timestamp)
    }

    pub(super) fn inbox(&self) -> Deliveries<'a> {
        Deliveries::new(self.connection, &self.schema.inbox, self.ledger(), self.timestamp)
    }

    #[cfg(test)]
    pub(super) fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.execute_batch(sql)
    }

    #[cfg(test)]
    pub(super) fn setting(&self, name: &str) -> rusqlite::Result<i64> {
        self.connection.pragma_query_value(None, name, |row| row.get(0))
    }
}

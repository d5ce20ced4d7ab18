//! What a call works on.

use rusqlite::Connection;

use super::{
    clock::Clock, connection::Access, entries::Entries, inbox::Deliveries, schema::Schema, timestamp::Timestamp,
};

/// A transaction, the tables in it, and its time.
pub(super) struct Transaction<'a> {
    connection: &'a Connection,
    schema: &'a Schema,
    timestamp: Timestamp,
}

impl<'a> Transaction<'a> {
    /// Begins to work in a transaction that has just begun.
    pub(super) fn new(
        connection: &'a Connection,
        schema: &'a Schema,
        clock: &Clock,
        access: Access,
    ) -> rusqlite::Result<Self> {
        let found = schema.clock.find(connection)?;
        let timestamp = clock.now(found);
        if access == Access::Write
            && let Some(stored) = clock.to_store(found)
        {
            schema.clock.store(connection, stored)?;
        }
        Ok(Self { connection, schema, timestamp })
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

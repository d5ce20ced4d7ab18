//! What a call works on.

use std::time::SystemTime;

use rusqlite::Connection;

use super::{entries::Entries, inbox::Deliveries, moment::Moment, schema::Schema};

/// A transaction, the tables in it, and the one time that all of it happens at.
pub(super) struct Turn<'a> {
    connection: &'a Connection,
    schema: &'a Schema,
    moment: Moment,
}

impl<'a> Turn<'a> {
    pub(super) fn new(connection: &'a Connection, schema: &'a Schema, now: SystemTime) -> Self {
        Self { connection, schema, moment: Moment::new(now) }
    }

    pub(super) fn ledger(&self) -> Entries<'a> {
        Entries::new(self.connection, &self.schema.ledger, self.moment)
    }

    pub(super) fn inbox(&self) -> Deliveries<'a> {
        Deliveries::new(self.connection, &self.schema.inbox, self.ledger(), self.moment)
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

//! The transaction in which the calls of the ledger and the inbox run.

use rusqlite::Connection;

use super::{
    clock::Clock, connection::Access, inbox::Deliveries, isolation::Isolation, ledger::Entries, statements::Statements,
    timestamp::Timestamp,
};

/// An open transaction and its time. Gives access to the tables of the ledger and the inbox.
pub(super) struct Transaction<'a> {
    connection: &'a Connection,
    statements: &'a Statements,
    isolation: Isolation<'a>,
    timestamp: Timestamp,
}

impl<'a> Transaction<'a> {
    /// Wraps a transaction that has just begun on `connection`. Determines the transaction's time.
    pub(super) fn new(
        connection: &'a Connection,
        statements: &'a Statements,
        clock: &Clock,
        access: Access,
        isolation: Isolation<'a>,
    ) -> rusqlite::Result<Self> {
        // A damaged clock row must not stop the store. If the row is unreadable, the clock uses the offset of the
        // last transaction, or zero if this is the first one. If the row cannot be written, the new offset is kept in
        // memory.
        let found = isolation.isolate(|| statements.clock.find(connection))?.unwrap_or_default();
        let timestamp = clock.now(found);
        if access == Access::Write
            && let Some(newer) = clock.to_store(found)
        {
            let _ = isolation.isolate(|| statements.clock.store(connection, newer))?;
        }
        Ok(Self { connection, statements, isolation, timestamp })
    }

    pub(super) fn ledger(&self) -> Entries<'a> {
        Entries::new(self.connection, &self.statements.ledger, self.isolation, self.timestamp)
    }

    pub(super) fn inbox(&self) -> Deliveries<'a> {
        Deliveries::new(self.connection, &self.statements.inbox, self.isolation, self.ledger(), self.timestamp)
    }

    /// Returns how many rows the connection has changed since it was opened.
    pub(super) fn changes(&self) -> u64 {
        self.connection.total_changes()
    }

    #[cfg(test)]
    pub(super) fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.execute_batch(sql)
    }
}

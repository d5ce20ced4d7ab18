//! The transaction that a call of the ledger or the inbox runs in.

use rusqlite::Connection;

use super::{
    clock::Clock, connection::Access, inbox::Deliveries, isolation::Isolation, ledger::Entries, statements::Statements,
    timestamp::Timestamp,
};

/// An open transaction with its time, which gives access to the ledger's and the inbox's tables.
pub(super) struct Transaction<'a> {
    connection: &'a Connection,
    statements: &'a Statements,
    isolation: Isolation<'a>,
    timestamp: Timestamp,
}

impl<'a> Transaction<'a> {
    /// Wraps a transaction that has just begun, and determines its time.
    pub(super) fn new(
        connection: &'a Connection,
        statements: &'a Statements,
        clock: &Clock,
        access: Access,
        isolation: Isolation<'a>,
    ) -> rusqlite::Result<Self> {
        // A damaged clock row must not stop the store: an unreadable offset counts as zero, and an offset that cannot
        // be written is kept in memory.
        let found = isolation.isolate(|| statements.clock.find(connection))?.unwrap_or_default();
        let timestamp = clock.now(found);
        if access == Access::Write
            && let Some(stored) = clock.to_store(found)
        {
            let _ = isolation.isolate(|| statements.clock.store(connection, stored))?;
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

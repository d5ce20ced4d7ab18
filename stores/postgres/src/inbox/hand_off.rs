//! Handing deliveries to another queue in this database.

use tokio_postgres::types::Type;

use crate::connection::{Connections, Failure};

/// The user's own statement that puts a delivery into a queue.
#[derive(Debug, Clone)]
pub(crate) struct HandOff(String);

impl HandOff {
    /// The types of the body, the head and the key.
    pub(super) const TYPES: [Type; 3] = [Type::BYTEA, Type::TEXT, Type::TEXT];

    pub(crate) fn new(sql: String) -> Self {
        Self(sql)
    }

    pub(super) fn sql(&self) -> &str {
        &self.0
    }

    /// Checks that the server can run the statement. Returns `false` if it is empty: Postgres would run it, and nothing
    /// would be enqueued.
    pub(crate) async fn check(&self, connections: &Connections) -> Result<bool, Failure> {
        if self.0.trim().is_empty() {
            return Ok(false);
        }
        connections.check_users(&self.0, &Self::TYPES).await.map(|()| true)
    }
}

//! The user's statement that hands deliveries to another queue.

use tokio_postgres::types::Type;

use crate::connection::{Connections, Failure};

/// A user's statement that puts a delivery into a queue.
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

    /// Checks that the server can run the statement. Returns `false` if the statement is empty: Postgres would accept it and
    /// enqueue nothing.
    pub(crate) async fn check(&self, connections: &Connections) -> Result<bool, Failure> {
        if self.0.trim().is_empty() {
            return Ok(false);
        }
        connections.check_hand_off(&self.0, &Self::TYPES).await.map(|()| true)
    }
}

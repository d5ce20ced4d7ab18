//! Handing deliveries to another queue in this database.

use deadpool_postgres::Pool;
use tokio_postgres::types::Type;

use crate::connection::{Failure, check_typed};

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

    /// Returns whether the server can run the statement. Rejects an empty one too: Postgres would run it, and nothing
    /// would be enqueued.
    pub(crate) async fn check(&self, pool: &Pool) -> Result<bool, Failure> {
        Ok(!self.0.trim().is_empty() && check_typed(pool, &self.0, &Self::TYPES).await? == Self::TYPES.len())
    }
}

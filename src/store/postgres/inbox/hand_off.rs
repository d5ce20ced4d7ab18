//! Deliveries handed to another queue in this database.

use deadpool_postgres::Pool;
use tokio_postgres::types::Type;

use super::super::connection::{Failure, check_typed};

/// The user's own statement that puts a delivery into a queue.
#[derive(Debug, Clone)]
pub(in super::super) struct HandOff(String);

impl HandOff {
    /// Of the body, the head and the key.
    pub(super) const TYPES: [Type; 3] = [Type::BYTEA, Type::TEXT, Type::TEXT];

    pub(in super::super) fn new(sql: String) -> Self {
        Self(sql)
    }

    pub(super) fn sql(&self) -> &str {
        &self.0
    }

    /// Whether the server can run it. `false` when it wants more than it gets, or is none: Postgres would run that, and
    /// nothing would be put anywhere.
    pub(in super::super) async fn check(&self, pool: &Pool) -> Result<bool, Failure> {
        Ok(!self.0.trim().is_empty() && check_typed(pool, &self.0, &Self::TYPES).await? == Self::TYPES.len())
    }
}

//! Log messages of the store.

use tracing::warn;

/// Warns that the server's settings do not make commits durable.
pub(crate) fn warn_not_durable(reason: &str) {
    warn!("Postgres is configured to lose committed data: {reason}");
}

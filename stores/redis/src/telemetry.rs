//! The store's log messages.

use tracing::warn;

/// Warns that the server's settings allow it to forget deliveries.
pub(crate) fn may_forget(reason: &str) {
    warn!("Redis may forget deliveries: {reason}");
}

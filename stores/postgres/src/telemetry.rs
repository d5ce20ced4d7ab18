//! Log messages of the store.

use tracing::warn;

/// Postgres was found in a state in which it can forget deliveries.
pub(crate) fn may_forget(reason: &str) {
    warn!("Postgres may forget deliveries: {reason}");
}

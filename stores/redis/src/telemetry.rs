//! Log messages of the store.

use tracing::warn;

/// Redis was found in a state in which it can forget deliveries.
pub(crate) fn may_forget(reason: &str) {
    warn!("Redis may forget deliveries: {reason}");
}

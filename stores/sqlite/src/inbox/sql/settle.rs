//! The statements that settle and dead-letter deliveries.

use super::tables::Tables;
use crate::inbox::state::{DEAD, DONE, READY};

/// The statements that settle and dead-letter deliveries.
///
/// Callers run `read_for_settling` first, and decide by the row whether to change it. The other statements check only
/// the id.
pub(in crate::inbox) struct SettleSql {
    pub(in crate::inbox) read_for_settling: String,
    pub(in crate::inbox) mark_done: String,
    pub(in crate::inbox) reschedule: String,
    pub(in crate::inbox) reschedule_unordered: String,
    pub(in crate::inbox) dead_letter: String,
    pub(in crate::inbox) expire: String,
    pub(in crate::inbox) release: String,
}

impl SettleSql {
    pub(super) fn new(tables: &Tables) -> Self {
        let Tables { inbox, .. } = tables;
        Self {
            read_for_settling: format!(
                "
                SELECT state, token, ordering_keys, reason, started_token
                FROM {inbox}
                WHERE id = ?1
                "
            ),

            // Keeps the delivery until `?2`, and without its body until `?3`.
            mark_done: format!(
                "
                UPDATE {inbox} SET
                    state = {DONE},
                    due = ?2,
                    history_until = ?3,
                    reason = NULL
                WHERE id = ?1
                "
            ),

            reschedule: reschedule(inbox, "ordering_keys"),
            reschedule_unordered: reschedule(inbox, "NULL"),

            dead_letter: format!(
                "
                UPDATE {inbox} SET
                    state = {DEAD},
                    reason = ?2
                WHERE id = ?1
                "
            ),

            // Like `dead_letter`. `?3` is the number of attempts before the expired one, as in `release`.
            expire: format!(
                "
                UPDATE {inbox} SET
                    state = {DEAD},
                    reason = ?2,
                    attempts = min(attempts, ?3)
                WHERE id = ?1
                "
            ),

            // `?3` is the number of attempts before the released one, so the released attempt does not count. If it has
            // not been counted yet, the stored number stays the same.
            release: format!(
                "
                UPDATE {inbox} SET
                    state = {READY},
                    due = ?2,
                    attempts = min(attempts, ?3)
                WHERE id = ?1
                "
            ),
        }
    }
}

/// Returns the statement that makes a delivery READY and due at `?2`. `ordering_keys` is the new value of the column:
/// the column's name leaves the keys as they are, and `NULL` removes them.
fn reschedule(inbox: &str, ordering_keys: &str) -> String {
    format!(
        "
        UPDATE {inbox} SET
            state = {READY},
            -- When a DEAD delivery becomes READY and `due` does not change, a trigger makes the delivery due now. If
            -- `due` is `?2` already, add a millisecond, so that it changes.
            due = ?2 + (due = ?2 AND state >= {DEAD}),
            reason = ?3,
            ordering_keys = {ordering_keys}
        WHERE id = ?1
        "
    )
}

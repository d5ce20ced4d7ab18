//! The statements that settle deliveries or dead-letter them.

use super::tables::Tables;
use crate::inbox::state::{DEAD, DONE, READY};

/// The statements that settle deliveries or dead-letter them.
///
/// `read_for_settling` is run first. Its caller checks the token and the state, so the other statements do not.
pub(in crate::inbox) struct SettleSql {
    pub(in crate::inbox) read_for_settling: String,
    pub(in crate::inbox) mark_done: String,
    pub(in crate::inbox) reschedule: String,
    pub(in crate::inbox) reschedule_unordered: String,
    pub(in crate::inbox) dead_letter: String,
    pub(in crate::inbox) release: String,
}

impl SettleSql {
    pub(super) fn new(tables: &Tables) -> Self {
        let Tables { inbox, .. } = tables;
        Self {
            read_for_settling: format!("SELECT state, token, ordering_keys, reason FROM {inbox} WHERE id = ?1"),

            // The delivery is kept until the time `?2`.
            mark_done: format!(
                "
                UPDATE {inbox} SET
                    state = {DONE},
                    due = ?2,
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

            // `?3` is the number of attempts before the lease. The stored number is the same if the attempt of the lease
            // was not counted yet.
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

/// Returns the statement that makes a delivery due at the time `?2`, with these ordering keys: its own, or `NULL`.
fn reschedule(inbox: &str, ordering_keys: &str) -> String {
    format!(
        "
        UPDATE {inbox} SET
            state = {READY},
            -- If a dead delivery already has this time, add a millisecond: the trigger makes a revived delivery due at
            -- once if its time is unchanged.
            due = ?2 + (due = ?2 AND state >= {DEAD}),
            reason = ?3,
            ordering_keys = {ordering_keys}
        WHERE id = ?1
        "
    )
}

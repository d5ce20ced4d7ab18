//! The statements that count, list, show, requeue, delete, forget, purge and evict deliveries.

use super::tables::Tables;
use crate::{
    inbox::state::{DEAD, DONE, LEASED, READY},
    ledger::OF_EVENT,
};

/// The statements that count, list, show, requeue, delete, forget, purge and evict deliveries.
pub(in crate::inbox) struct AdminSql {
    pub(in crate::inbox) count_unfinished: String,
    pub(in crate::inbox) count_finished: String,
    pub(in crate::inbox) count_backlog: String,
    pub(in crate::inbox) count_stored: String,
    pub(in crate::inbox) list_all: String,
    pub(in crate::inbox) list_dead: String,
    pub(in crate::inbox) find_next_bucket: String,
    pub(in crate::inbox) list_of_event_id: String,
    pub(in crate::inbox) list_of_order: String,
    pub(in crate::inbox) list_of_branch: String,
    pub(in crate::inbox) list_done_until: String,
    pub(in crate::inbox) read_last_id: String,
    pub(in crate::inbox) read_entry: String,
    pub(in crate::inbox) requeue: String,
    pub(in crate::inbox) keep_history: String,
    pub(in crate::inbox) read_key_and_accepted_at: String,
    pub(in crate::inbox) read_since: String,
    pub(in crate::inbox) read_for_deleting: String,
    pub(in crate::inbox) list_finished_of_event: String,
    pub(in crate::inbox) list_finished_of_key: String,
    pub(in crate::inbox) count_keys_of_event: String,
    pub(in crate::inbox) count_claimed_in_ledger: String,
    pub(in crate::inbox) count_key_in_ledger: String,
    pub(in crate::inbox) forget_event_in_ledger: String,
    pub(in crate::inbox) forget_claimed_in_ledger: String,
    pub(in crate::inbox) forget_key_in_ledger: String,
}

/// The number of bits of an id that are not in its bucket. The index for searches begins with the bucket.
pub(in crate::inbox) const BUCKET_BITS: u32 = 9;

impl AdminSql {
    #[allow(clippy::too_many_lines, reason = "one statement after the other")]
    pub(super) fn new(tables: &Tables) -> Self {
        let Tables { inbox, body, ledger, .. } = tables;
        // Holds for a ledger row whose delivery is READY or LEASED.
        let has_unfinished_delivery = format!(
            "EXISTS (
                    SELECT 1
                    FROM {inbox} AS i
                    WHERE i.key = {ledger}.key AND i.state < {DEAD}
                )"
        );
        Self {
            // Counts READY and LEASED deliveries, and finds when the oldest of them was accepted.
            count_unfinished: format!(
                "
                SELECT
                    count(*) FILTER (WHERE state <> {LEASED}),
                    count(*) FILTER (WHERE state = {LEASED}),
                    min(since)
                FROM (
                    -- Two scans, because deliveries with and without ordering keys are in different partial indexes.
                    SELECT state, since
                    FROM {inbox}
                    WHERE state < {DEAD} AND ordering_keys IS NULL
                    UNION ALL
                    SELECT state, since
                    FROM {inbox}
                    WHERE state < {DEAD} AND ordering_keys IS NOT NULL
                )
                "
            ),

            // Counts DEAD and DONE deliveries.
            count_finished: format!(
                "
                SELECT
                    (SELECT count(*) FROM {inbox} WHERE state >= {DEAD} AND state <> {DONE}),
                    (SELECT count(*) FROM {inbox} WHERE state = {DONE})
                "
            ),

            // Counts READY and LEASED deliveries, up to `?1`.
            count_backlog: format!(
                "
                SELECT count(*)
                FROM (
                    SELECT 1
                    FROM {inbox}
                    WHERE state < {DEAD} AND ordering_keys IS NULL
                    UNION ALL
                    SELECT 1
                    FROM {inbox}
                    WHERE state < {DEAD} AND ordering_keys IS NOT NULL
                    LIMIT ?1
                )
                "
            ),

            // Counts all deliveries, up to `?1`. Each delivery is in exactly one of four partial indexes, even if its
            // state is unknown to this crate.
            count_stored: format!(
                "
                SELECT count(*)
                FROM (
                    SELECT 1
                    FROM {inbox}
                    WHERE state < {DEAD} AND ordering_keys IS NULL
                    UNION ALL
                    SELECT 1
                    FROM {inbox}
                    WHERE state < {DEAD} AND ordering_keys IS NOT NULL
                    UNION ALL
                    SELECT 1
                    FROM {inbox}
                    WHERE state >= {DEAD} AND state <> {DONE}
                    UNION ALL
                    SELECT 1
                    FROM {inbox}
                    WHERE state = {DONE}
                    LIMIT ?1
                )
                "
            ),

            list_all: format!(
                "
                SELECT id
                FROM {inbox}
                WHERE id > ?1
                ORDER BY id
                LIMIT ?2
                "
            ),

            // Reads only a partial index, which contains all columns of the statement, so a damaged page of the table
            // does not end the list.
            list_dead: format!(
                "
                SELECT id
                FROM {inbox}
                WHERE state >= {DEAD} AND state <> {DONE} AND id > ?1
                ORDER BY id
                LIMIT ?2
                "
            ),

            // Finds the first bucket of ids after `?1` that has deliveries. Returns NULL after the last one.
            find_next_bucket: format!(
                "
                SELECT min(id >> {BUCKET_BITS})
                FROM {inbox}
                WHERE id >> {BUCKET_BITS} > ?1
                "
            ),

            // The condition on the orders tests whether the JSON array contains an element.
            list_of_event_id: list_in_bucket(inbox, "event_id = ?2"),
            list_of_order: list_in_bucket(inbox, "instr(orders, ?2) > 0"),
            list_of_branch: list_in_bucket(inbox, "branch = ?2"),

            // Lists the DONE deliveries that are kept until `?1` or earlier, in the order in which their time ends.
            // Starts after the delivery that is kept until `?2` and has the id `?3`.
            list_done_until: format!(
                "
                SELECT id, due
                FROM {inbox}
                WHERE state = {DONE} AND due <= ?1 AND (due, id) > (?2, ?3)
                ORDER BY due, id
                LIMIT ?4
                "
            ),

            // Reads the last id from SQLite's table of AUTOINCREMENT ids, because the inbox may have damaged pages.
            read_last_id: format!("SELECT seq FROM sqlite_sequence WHERE name = '{inbox}'"),

            read_entry: format!(
                "
                SELECT
                    state, attempts, accepted_at, since, reason, branch, orders, tenant, event_type,
                    started_at, started_token, worker
                FROM {inbox}
                WHERE id = ?1
                "
            ),

            // Makes a DEAD or DONE delivery READY. A text stands for a body that is gone. A trigger returns the
            // delivery to its queues.
            requeue: format!(
                "
                UPDATE {inbox} SET state = {READY}, due = ?2, attempts = 0
                WHERE
                    id = ?1
                    AND state >= {DEAD}
                    AND EXISTS (
                        SELECT 1
                        FROM {body} AS b
                        WHERE b.id = {inbox}.id AND typeof(b.body) <> 'text'
                    )
                "
            ),

            // Keeps a DONE delivery, whose time is over, for as long as its history is kept after the time `?2`.
            keep_history: format!(
                "
                UPDATE {inbox} SET due = history_until
                WHERE id = ?1 AND state = {DONE} AND history_until > ?2 AND typeof(history_until) = 'integer'
                "
            ),

            read_key_and_accepted_at: format!("SELECT key, accepted_at FROM {inbox} WHERE id = ?1"),
            read_since: format!("SELECT since FROM {inbox} WHERE id = ?1"),
            read_for_deleting: format!("SELECT state, key, ordering_keys FROM {inbox} WHERE id = ?1"),

            // Lists the DEAD and DONE deliveries of an event and of its conflicts.
            list_finished_of_event: format!(
                "
                SELECT id, key
                FROM {inbox}
                WHERE {OF_EVENT} AND state >= {DEAD}
                "
            ),
            list_finished_of_key: format!("SELECT id, key FROM {inbox} WHERE key = ?1 AND state >= {DEAD}"),

            // Counts the DEAD and DONE deliveries of an event and of its conflicts, and the ledger rows without a delivery
            // that are unexpired at the time `?2`.
            count_keys_of_event: format!(
                "
                SELECT
                    (
                        SELECT count(*)
                        FROM {inbox}
                        WHERE {OF_EVENT} AND state >= {DEAD}
                    )
                    + (
                        SELECT count(*)
                        FROM {ledger}
                        WHERE
                            {OF_EVENT}
                            AND coalesce(kept_until, until) > ?2
                            AND NOT EXISTS (
                                SELECT 1
                                FROM {inbox} AS i
                                WHERE i.key = {ledger}.key
                            )
                    )
                "
            ),

            // Counts ledger rows with keys after `?1` and up to `?2` that were claimed from `?3` until before `?4`, by the
            // system clock, and are unexpired at the time `?5`. Leaves out the rows of READY and LEASED deliveries.
            count_claimed_in_ledger: format!(
                "
                SELECT count(*)
                FROM {ledger}
                WHERE
                    key > ?1 AND key <= ?2
                    AND claimed_at >= ?3 AND claimed_at < ?4
                    AND coalesce(kept_until, until) > ?5
                    AND NOT {has_unfinished_delivery}
                "
            ),

            // Counts the ledger row with the key `?1`, which has no READY or LEASED delivery, in the same way.
            count_key_in_ledger: format!(
                "
                SELECT count(*)
                FROM {ledger}
                WHERE key = ?1 AND claimed_at >= ?2 AND claimed_at < ?3 AND coalesce(kept_until, until) > ?4
                "
            ),

            // Deletes the ledger rows of an event and of its conflicts, except the rows of READY and LEASED deliveries.
            // Returns the key of each deleted row, and whether the row was unexpired at the time `?2`.
            forget_event_in_ledger: format!(
                "
                DELETE FROM {ledger}
                WHERE {OF_EVENT} AND NOT {has_unfinished_delivery}
                RETURNING key, coalesce(kept_until, until) > ?2
                "
            ),

            // Deletes ledger rows with keys after `?1` and up to `?2` that were claimed from `?3` until before `?4`, by
            // the system clock. Keeps the rows of READY and LEASED deliveries. Returns the key of each deleted row, and
            // whether the row was unexpired at the time `?5`.
            forget_claimed_in_ledger: format!(
                "
                DELETE FROM {ledger}
                WHERE
                    key > ?1 AND key <= ?2
                    AND claimed_at >= ?3 AND claimed_at < ?4
                    AND NOT {has_unfinished_delivery}
                RETURNING key, coalesce(kept_until, until) > ?5
                "
            ),

            forget_key_in_ledger: format!("DELETE FROM {ledger} WHERE key = ?1"),
        }
    }
}

/// Returns the statement that lists the deliveries of the bucket `?1` for which `condition` holds and whose id is
/// larger than `?3`, in any order. It reads only the index for searches.
fn list_in_bucket(inbox: &str, condition: &str) -> String {
    format!(
        "
        SELECT id
        FROM {inbox}
        WHERE id >> {BUCKET_BITS} = ?1 AND {condition} AND id > ?3
        "
    )
}

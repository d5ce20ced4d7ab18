//! The statements that select and lease deliveries, and those that work with leases.

use super::tables::Tables;
use crate::inbox::state::{DEAD, LEASED};

/// The maximum number of deliveries that [`LeaseSql::list_due_ordered`] returns.
pub(in crate::inbox) const SCANNED: usize = 500;

/// The statements that select and lease deliveries, and those that work with leases.
pub(in crate::inbox) struct LeaseSql {
    pub(in crate::inbox) list_due_unordered: String,
    pub(in crate::inbox) list_due_ordered: String,
    pub(in crate::inbox) list_misdated: String,
    pub(in crate::inbox) find_due: String,
    pub(in crate::inbox) read_for_leasing: String,
    pub(in crate::inbox) read_keys_of_expired: String,
    pub(in crate::inbox) find_head_of_queue: String,
    pub(in crate::inbox) find_next_queue: String,
    pub(in crate::inbox) list_leased_keys: String,
    pub(in crate::inbox) extend_expired: String,
    pub(in crate::inbox) lease: String,
    pub(in crate::inbox) dead_letter_expired: String,
    pub(in crate::inbox) dead_letter_unreadable: String,
    pub(in crate::inbox) delete_stray_entries: String,
    pub(in crate::inbox) record_attempt: String,
    pub(in crate::inbox) extend: String,
}

impl LeaseSql {
    #[allow(clippy::too_many_lines, reason = "one statement after the other")]
    pub(super) fn new(tables: &Tables) -> Self {
        let Tables { inbox, body, queue, .. } = tables;
        Self {
            // The statements that select deliveries, on the reader's connection. READY deliveries are due at their
            // next attempt, and LEASED deliveries when their lease ends.

            // Each READY or LEASED delivery is in one of two partial indexes, which contain all columns that these two
            // statements read.
            list_due_unordered: format!(
                "
                SELECT due, id, state, ordering_keys
                FROM {inbox}
                WHERE state < {DEAD} AND ordering_keys IS NULL AND due <= ?1
                ORDER BY due, id
                "
            ),
            list_due_ordered: format!(
                "
                SELECT due, id, state, ordering_keys
                FROM {inbox}
                WHERE state < {DEAD} AND ordering_keys IS NOT NULL AND due <= ?1
                ORDER BY due, id
                LIMIT {SCANNED}
                "
            ),

            // Lists the deliveries whose time exceeds all integers, so that they would never be due. Such a time is a
            // text, a blob or a very large real: in SQLite's order, text and blobs come after all numbers.
            list_misdated: format!(
                "
                -- Two searches, one in each partial index.
                SELECT id, due
                FROM {inbox}
                WHERE state < {DEAD} AND ordering_keys IS NULL AND due > {MAX}
                UNION ALL
                SELECT id, due
                FROM {inbox}
                WHERE state < {DEAD} AND ordering_keys IS NOT NULL AND due > {MAX}
                ",
                MAX = i64::MAX,
            ),

            // Finds a delivery if it is READY or LEASED, and due. Returns the columns of `list_due_ordered`.
            find_due: format!(
                "
                SELECT due, id, state, ordering_keys
                FROM {inbox}
                WHERE id = ?1 AND state < {DEAD} AND due <= ?2
                "
            ),

            // Reads all that leasing depends on. The id is NULL if the delivery has no row in the table of bodies.
            read_for_leasing: format!(
                "
                SELECT i.token, i.attempts, i.due, i.ordering_keys, b.id, b.head, b.body
                FROM {inbox} AS i
                LEFT JOIN {body} AS b ON b.id = i.id
                WHERE i.id = ?1
                "
            ),

            // Returns no row if this is not the delivery's current lease, or if it has not expired.
            read_keys_of_expired: format!(
                "
                SELECT ordering_keys
                FROM {inbox}
                WHERE id = :id AND token = :token AND state = {LEASED} AND due <= :now
                "
            ),

            find_head_of_queue: format!(
                "
                SELECT id
                FROM {queue}
                WHERE ordering_key = ?1
                ORDER BY id
                LIMIT 1
                "
            ),

            // Finds the first queue after this ordering key, and its head. The key is passed as a blob, since it may
            // not be UTF-8. The condition `< x''` excludes keys that were stored as blobs: those come after all texts.
            find_next_queue: format!(
                "
                SELECT ordering_key, id
                FROM {queue}
                WHERE ordering_key > CAST(?1 AS TEXT) AND ordering_key < x''
                ORDER BY ordering_key, id
                LIMIT 1
                "
            ),

            // Lists the ordering keys of all unexpired leases. Leases whose end exceeds all integers are left out.
            list_leased_keys: format!(
                "
                SELECT ordering_keys
                FROM {inbox}
                WHERE state = {LEASED} AND ordering_keys IS NOT NULL AND due > ?1 AND due <= {MAX}
                ",
                MAX = i64::MAX,
            ),

            // The statements that lease the selected deliveries, on the writer's connection. They check the token and
            // the state again, since the selection may be outdated.
            extend_expired: format!(
                "
                UPDATE {inbox} SET due = :until
                WHERE id = :id AND token = :token AND state = {LEASED} AND due <= :now
                "
            ),
            lease: format!(
                "
                UPDATE {inbox} SET
                    state = {LEASED},
                    due = :until,
                    attempts = attempts + :counted,
                    token = token + 1
                WHERE id = :id AND token = :token AND state < {DEAD} AND due <= :now
                RETURNING attempts
                "
            ),
            dead_letter_expired: format!(
                "
                UPDATE {inbox} SET state = {DEAD}, reason = :reason
                WHERE
                    id = :id
                    AND token = :token
                    AND state = {LEASED}
                    AND due <= :now
                    AND attempts >= :max_attempts
                RETURNING ordering_keys
                "
            ),

            // Does not check the token, which may be unreadable. A time that is not an integer is never due.
            dead_letter_unreadable: format!(
                "
                UPDATE {inbox} SET state = {DEAD}, reason = :reason
                WHERE
                    id = :id
                    AND state < {DEAD}
                    AND (due <= :now OR typeof(due) <> 'integer')
                "
            ),

            // If the id is NULL, deletes all entries of the queue whose id is not a number.
            delete_stray_entries: format!(
                "
                DELETE FROM {queue}
                WHERE ordering_key = ?1 AND (id = ?2 OR (?2 IS NULL AND typeof(id) <> 'integer'))
                "
            ),

            // The statements for a worker that holds a lease. The lease is current, although it may have expired, until
            // another lease changes the token.

            // Leasing may have counted the attempt already.
            record_attempt: format!(
                "
                UPDATE {inbox} SET attempts = max(attempts, :attempt)
                WHERE id = :id AND token = :token AND state = {LEASED}
                "
            ),
            extend: format!(
                "
                UPDATE {inbox} SET due = :until
                WHERE id = :id AND token = :token AND state = {LEASED}
                "
            ),
        }
    }
}

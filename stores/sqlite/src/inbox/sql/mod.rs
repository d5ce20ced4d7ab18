//! The SQL statements on the inbox's tables.

use super::state::{DEAD, DONE, LEASED, READY};

/// The number of due ordered deliveries that a selection examines before it examines the heads of the queues.
pub(super) const SCANNED: usize = 500;

/// The SQL statements on the inbox's tables.
pub(crate) struct InboxSql {
    pub(super) find: String,
    pub(super) find_state: String,
    pub(super) find_body: String,
    pub(super) insert: String,
    pub(super) insert_body: String,
    pub(super) insert_key: String,
    pub(super) revive: String,
    pub(super) revive_body: String,
    pub(super) unordered: String,
    pub(super) ordered: String,
    pub(super) misdated: String,
    pub(super) due: String,
    pub(super) attempts: String,
    pub(super) read: String,
    pub(super) read_head: String,
    pub(super) read_digest: String,
    pub(super) head_of_queue: String,
    pub(super) next_queue: String,
    pub(super) leased_keys: String,
    pub(super) is_expired: String,
    pub(super) extend_expired: String,
    pub(super) lease: String,
    pub(super) dead_letter_expired: String,
    pub(super) dead_letter_unreadable: String,
    pub(super) delete_stray: String,
    pub(super) start: String,
    pub(super) extend: String,
    pub(super) state: String,
    pub(super) delete: String,
    pub(super) keep: String,
    pub(super) reschedule: String,
    pub(super) reschedule_unordered: String,
    pub(super) dead_letter: String,
    pub(super) release: String,
    pub(super) retry: String,
    pub(super) delete_body: String,
    pub(super) delete_key: String,
    pub(super) unfinished: String,
    pub(super) finished: String,
    pub(super) backlog: String,
    pub(super) stored: String,
    pub(super) dead: String,
    pub(super) next: String,
    pub(super) last_id: String,
    pub(super) show_state: String,
    pub(super) done: String,
    pub(super) accepted: String,
    pub(super) since: String,
    pub(super) finished_of_event: String,
    pub(super) forget_event_in_ledger: String,
    pub(super) forget_claimed: String,
    pub(super) finished_of_key: String,
    pub(super) forget_key_in_ledger: String,
    pub(super) to_forget: String,
}

impl InboxSql {
    /// Returns the statements for tables whose names begin with `prefix`.
    #[allow(clippy::too_many_lines, reason = "one statement after the other")]
    pub(crate) fn new(prefix: &str) -> Self {
        let inbox = format!("{prefix}inbox");
        let body = format!("{prefix}inbox_body");
        let key = format!("{prefix}inbox_key");
        let ledger = format!("{prefix}ledger");
        let is_unfinished = format!(
            "EXISTS (
                    SELECT 1
                    FROM {inbox} AS i
                    WHERE i.key = {ledger}.key AND i.state < {DEAD}
                )"
        );
        Self {
            find: format!(
                "
                SELECT i.id, i.state, b.id, b.digest, b.head, typeof(b.body)
                FROM {inbox} AS i
                LEFT JOIN {body} AS b ON b.id = i.id
                WHERE i.key = ?1
                "
            ),
            find_state: format!("SELECT id, state FROM {inbox} WHERE key = ?1"),
            find_body: format!("SELECT body FROM {body} WHERE id = ?1"),
            insert: format!(
                "
                INSERT INTO {inbox} (
                    key, event_key, state, due, attempts, token, accepted_at, since,
                    event_id, event_type, tenant, ordering_keys
                )
                VALUES (
                    :key, :event_key, {READY}, :now, 0, 0, :system_time, :now,
                    :event_id, :event_type, :tenant, :ordering_keys
                )
                "
            ),
            insert_body: format!(
                "
                INSERT INTO {body} (id, digest, head, body)
                VALUES (?1, ?2, ?3, ?4)
                "
            ),
            insert_key: format!(
                "
                INSERT OR IGNORE INTO {key} (ordering_key, id)
                VALUES (?1, ?2)
                "
            ),
            // Makes a finished delivery ready again with a new request. The new token invalidates selections and leases of the
            // previous request.
            revive: format!(
                "
                UPDATE {inbox} SET
                    state = {READY},
                    due = :now,
                    attempts = 0,
                    token = token + 1,
                    reason = NULL,
                    event_id = :event_id,
                    event_type = :event_type,
                    tenant = :tenant,
                    ordering_keys = :ordering_keys
                WHERE id = :id
                "
            ),
            // An upsert, since the row may be missing.
            revive_body: format!(
                "
                INSERT INTO {body} (id, digest, head, body)
                VALUES (?1, ?2, ?3, ?4)
                ON CONFLICT (id) DO UPDATE SET
                    digest = excluded.digest,
                    head = excluded.head,
                    body = excluded.body
                "
            ),

            // The statements that select deliveries to lease, on the reader's connection.
            unordered: format!(
                "
                SELECT due, id, state, ordering_keys
                FROM {inbox}
                WHERE state < {DEAD} AND ordering_keys IS NULL AND due <= ?1
                ORDER BY due, id
                "
            ),
            ordered: format!(
                "
                SELECT due, id, state, ordering_keys
                FROM {inbox}
                WHERE state < {DEAD} AND ordering_keys IS NOT NULL AND due <= ?1
                ORDER BY due, id
                LIMIT {SCANNED}
                "
            ),
            // In SQLite's order, text and blobs come after all numbers, so a delivery with such a time is never due.
            misdated: format!(
                "
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
            due: format!(
                "
                SELECT due, id, state, ordering_keys
                FROM {inbox}
                WHERE id = ?1 AND +state < {DEAD} AND due <= ?2
                "
            ),
            attempts: format!("SELECT token, attempts FROM {inbox} WHERE id = ?1"),
            read: format!(
                "
                SELECT i.token, i.attempts, i.due, i.ordering_keys, b.id, b.head, b.body
                FROM {inbox} AS i
                LEFT JOIN {body} AS b ON b.id = i.id
                WHERE i.id = ?1
                "
            ),
            read_digest: format!("SELECT digest FROM {body} WHERE id = ?1"),
            read_head: format!("SELECT head FROM {body} WHERE id = ?1"),
            head_of_queue: format!("SELECT id FROM {key} WHERE ordering_key = ?1 ORDER BY id LIMIT 1"),
            // The condition `< x''` excludes keys that were stored as blobs: those come after all texts.
            next_queue: format!(
                "
                SELECT ordering_key, id
                FROM {key}
                WHERE ordering_key > CAST(?1 AS TEXT) AND ordering_key < x''
                ORDER BY ordering_key, id
                LIMIT 1
                "
            ),
            leased_keys: format!(
                "
                SELECT ordering_keys
                FROM {inbox}
                WHERE state = {LEASED} AND ordering_keys IS NOT NULL AND due > ?1 AND due <= {MAX}
                ",
                MAX = i64::MAX,
            ),
            is_expired: format!(
                "
                SELECT ordering_keys
                FROM {inbox}
                WHERE id = :id AND token = :token AND +state = {LEASED} AND due <= :now
                "
            ),

            // The statements that lease the selected deliveries, on the writer's connection.
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
            dead_letter_unreadable: format!(
                "
                UPDATE {inbox} SET state = {DEAD}, reason = :reason
                WHERE
                    id = :id
                    AND state < {DEAD}
                    AND (due <= :now OR typeof(due) <> 'integer')
                "
            ),
            // If the id is NULL, the statement deletes all entries whose id is not a number.
            delete_stray: format!(
                "
                DELETE FROM {key}
                WHERE ordering_key = ?1 AND (id = ?2 OR (?2 IS NULL AND typeof(id) <> 'integer'))
                "
            ),
            start: format!(
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

            // The statements that settle deliveries. `state` is run first, and its caller checks the token and the
            // state.
            state: format!("SELECT state, token, ordering_keys, reason FROM {inbox} WHERE id = ?1"),
            delete: format!("DELETE FROM {inbox} WHERE id = ?1"),
            keep: format!(
                "
                UPDATE {inbox} SET
                    state = {DONE},
                    due = ?2,
                    reason = NULL
                WHERE id = ?1
                "
            ),
            reschedule: reschedule(&inbox, "ordering_keys"),
            reschedule_unordered: reschedule(&inbox, "NULL"),
            dead_letter: format!(
                "
                UPDATE {inbox} SET
                    state = {DEAD},
                    reason = ?2
                WHERE id = ?1
                "
            ),
            release: format!(
                "
                UPDATE {inbox} SET
                    state = {READY},
                    due = ?2,
                    attempts = min(attempts, ?3)
                WHERE id = ?1
                "
            ),

            // The statements of the admin calls, and those that count, purge and forget.
            retry: format!(
                "
                UPDATE {inbox} SET state = {READY}, due = ?2, attempts = 0
                WHERE id = ?1 AND state >= {DEAD} AND state <> {DONE}
                "
            ),
            delete_body: format!("DELETE FROM {body} WHERE id = ?1"),
            delete_key: format!("DELETE FROM {key} WHERE ordering_key = ?1 AND id = ?2"),
            // Two queries, since each READY or LEASED delivery is in one of two partial indexes.
            unfinished: format!(
                "
                SELECT
                    count(*) FILTER (WHERE state <> {LEASED}),
                    count(*) FILTER (WHERE state = {LEASED}),
                    min(since)
                FROM (
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
            finished: format!(
                "
                SELECT
                    (SELECT count(*) FROM {inbox} WHERE state >= {DEAD} AND state <> {DONE}),
                    (SELECT count(*) FROM {inbox} WHERE state = {DONE})
                "
            ),
            backlog: format!(
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
            // Each delivery is in one of these four partial indexes, for any value of its state.
            stored: format!(
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
            // Reads the index alone, so that a damaged row does not end the list.
            dead: format!(
                "
                SELECT id
                FROM {inbox}
                WHERE state >= {DEAD} AND state <> {DONE} AND id > ?1
                ORDER BY id
                LIMIT ?2
                "
            ),
            next: format!("SELECT id FROM {inbox} WHERE id > ?1 ORDER BY id LIMIT ?2"),
            last_id: format!("SELECT seq FROM sqlite_sequence WHERE name = '{inbox}'"),
            show_state: format!("SELECT state, attempts, accepted_at, reason FROM {inbox} WHERE id = ?1"),
            done: format!(
                "
                SELECT id, due
                FROM {inbox}
                WHERE state = {DONE} AND due <= ?1 AND (due, id) > (?2, ?3)
                ORDER BY due, id
                LIMIT ?4
                "
            ),
            accepted: format!("SELECT key, accepted_at FROM {inbox} WHERE id = ?1"),
            since: format!("SELECT since FROM {inbox} WHERE id = ?1"),
            finished_of_event: format!(
                "
                SELECT id, key
                FROM {inbox}
                WHERE ((key = ?1 AND event_key IS NULL) OR event_key = ?1) AND state >= {DEAD}
                "
            ),
            forget_event_in_ledger: format!(
                "
                DELETE FROM {ledger}
                WHERE ((key = ?1 AND event_key IS NULL) OR event_key = ?1) AND NOT {is_unfinished}
                RETURNING key, coalesce(kept_until, until) > ?2
                "
            ),
            forget_claimed: format!(
                "
                DELETE FROM {ledger}
                WHERE
                    key > ?1 AND key <= ?2
                    AND claimed_at >= ?3 AND claimed_at < ?4
                    AND NOT {is_unfinished}
                RETURNING key, coalesce(kept_until, until) > ?5
                "
            ),
            finished_of_key: format!("SELECT id, key FROM {inbox} WHERE key = ?1 AND state >= {DEAD}"),
            to_forget: format!("SELECT state, key, ordering_keys FROM {inbox} WHERE id = ?1"),
            forget_key_in_ledger: format!("DELETE FROM {ledger} WHERE key = ?1"),
        }
    }
}

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

#[cfg(test)]
mod tests;

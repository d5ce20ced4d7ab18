//! The inbox's tables, and the statements on them.

use crate::inbox::DeliveryState;

/// The version of the tables. It grows with every change to the columns and indexes.
pub(in super::super) const VERSION: i64 = 2;

/// How many of the ordered deliveries that are due are looked at before the heads of the queues are.
pub(super) const SCANNED: usize = 500;

/// The statements, with the names of the tables in them.
pub(in super::super) struct Sql {
    create: String,
    pub(super) find: String,
    pub(super) find_state: String,
    pub(super) find_body: String,
    pub(super) insert: String,
    pub(super) insert_delivery: String,
    pub(super) insert_ordering: String,
    pub(super) revive: String,
    pub(super) revive_delivery: String,
    pub(super) unordered: String,
    pub(super) ordered: String,
    pub(super) misdated: String,
    pub(super) due: String,
    pub(super) attempts: String,
    pub(super) read: String,
    pub(super) read_head: String,
    pub(super) head_of_queue: String,
    pub(super) next_queue: String,
    pub(super) leased_keys: String,
    pub(super) is_expired: String,
    pub(super) extend_expired: String,
    pub(super) lease: String,
    pub(super) dead_letter_expired: String,
    pub(super) dead_letter_unreadable: String,
    pub(super) delete_stray: String,
    pub(super) extend: String,
    pub(super) state: String,
    pub(super) delete: String,
    pub(super) keep: String,
    pub(super) reschedule: String,
    pub(super) dead_letter: String,
    pub(super) release: String,
    pub(super) retry: String,
    pub(super) delete_delivery: String,
    pub(super) delete_ordering: String,
    pub(super) unfinished: String,
    pub(super) finished: String,
    pub(super) backlog: String,
    pub(super) dead: String,
    pub(super) show_state: String,
    pub(super) done: String,
    pub(super) accepted: String,
    pub(super) finished_of_event: String,
    pub(super) forget_event_in_ledger: String,
    pub(super) forget_claimed: String,
    pub(super) finished_of_key: String,
    pub(super) forget_key_in_ledger: String,
}

impl Sql {
    /// Makes the statements for tables whose names begin with `prefix`.
    #[allow(clippy::too_many_lines, reason = "one statement after the other")]
    pub(in super::super) fn new(prefix: &str) -> Self {
        let inbox = format!("{prefix}inbox");
        let delivery = format!("{prefix}inbox_delivery");
        let ordering = format!("{prefix}inbox_ordering");
        let ledger = format!("{prefix}ledger");
        let is_unfinished =
            format!("EXISTS (SELECT 1 FROM {inbox} AS i WHERE i.key = {ledger}.key AND i.state < {DEAD})");
        Self {
            create: create(&inbox, &delivery, &ordering),
            find: format!(
                "
                SELECT i.id, i.state, d.id, d.digest, d.head, typeof(d.body)
                FROM {inbox} AS i
                LEFT JOIN {delivery} AS d ON d.id = i.id
                WHERE i.key = ?1
                "
            ),
            find_state: format!("SELECT id, state FROM {inbox} WHERE key = ?1"),
            find_body: format!("SELECT body FROM {delivery} WHERE id = ?1"),
            insert: format!(
                "
                INSERT INTO {inbox} (key, event, state, due, attempts, token, accepted_at, since, ordering)
                VALUES (:key, :event, {READY}, :now, 0, 0, :system_time, :now, :ordering)
                "
            ),
            insert_delivery: format!("INSERT INTO {delivery} (id, digest, head, body) VALUES (?1, ?2, ?3, ?4)"),
            insert_ordering: format!("INSERT OR IGNORE INTO {ordering} (key, id) VALUES (?1, ?2)"),
            // A new token: what was selected or leased before is another request.
            revive: format!(
                "
                UPDATE {inbox} SET
                    state = {READY},
                    due = :now,
                    attempts = 0,
                    token = token + 1,
                    reason = NULL,
                    ordering = :ordering
                WHERE id = :id
                "
            ),
            // The row may be missing.
            revive_delivery: format!(
                "
                INSERT INTO {delivery} (id, digest, head, body)
                VALUES (?1, ?2, ?3, ?4)
                ON CONFLICT (id) DO UPDATE SET
                    digest = excluded.digest,
                    head = excluded.head,
                    body = excluded.body
                "
            ),

            // Selecting deliveries to lease, on the connection that reads.
            unordered: format!(
                "
                SELECT due, id, state, ordering
                FROM {inbox}
                WHERE state < {DEAD} AND ordering IS NULL AND due <= ?1
                ORDER BY due, id
                "
            ),
            ordered: format!(
                "
                SELECT due, id, state, ordering
                FROM {inbox}
                WHERE state < {DEAD} AND ordering IS NOT NULL AND due <= ?1
                ORDER BY due, id
                LIMIT {SCANNED}
                "
            ),
            // Text and blobs come after all numbers, and so are never due.
            misdated: format!(
                "
                SELECT id, due
                FROM {inbox}
                WHERE state < {DEAD} AND ordering IS NULL AND due > {MAX}
                UNION ALL
                SELECT id, due
                FROM {inbox}
                WHERE state < {DEAD} AND ordering IS NOT NULL AND due > {MAX}
                ",
                MAX = i64::MAX,
            ),
            due: format!(
                "
                SELECT due, id, state, ordering
                FROM {inbox}
                WHERE id = ?1 AND +state < {DEAD} AND due <= ?2
                "
            ),
            attempts: format!("SELECT token, attempts FROM {inbox} WHERE id = ?1"),
            read: format!(
                "
                SELECT i.token, i.attempts, i.due, i.ordering, d.id, d.head, d.body
                FROM {inbox} AS i
                LEFT JOIN {delivery} AS d ON d.id = i.id
                WHERE i.id = ?1
                "
            ),
            read_head: format!("SELECT head FROM {delivery} WHERE id = ?1"),
            head_of_queue: format!("SELECT id FROM {ordering} WHERE key = ?1 ORDER BY id LIMIT 1"),
            next_queue: format!("SELECT key, id FROM {ordering} WHERE key > ?1 ORDER BY key, id LIMIT 1"),
            leased_keys: format!(
                "
                SELECT ordering
                FROM {inbox}
                WHERE state = {LEASED} AND ordering IS NOT NULL AND due > ?1 AND due <= {MAX}
                ",
                MAX = i64::MAX,
            ),
            is_expired: format!(
                "
                SELECT ordering
                FROM {inbox}
                WHERE id = :id AND token = :token AND +state = {LEASED} AND due <= :now
                "
            ),

            // Leasing the selected deliveries, on the connection that writes.
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
                RETURNING ordering
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
            // NULL: those whose id is no number.
            delete_stray: format!(
                "
                DELETE FROM {ordering}
                WHERE key = ?1 AND (id = ?2 OR (?2 IS NULL AND typeof(id) <> 'integer'))
                "
            ),
            extend: format!("UPDATE {inbox} SET due = :until WHERE id = :id AND token = :token AND state = {LEASED}"),

            // Settling. The token and the state are checked before.
            state: format!("SELECT state, token, ordering FROM {inbox} WHERE id = ?1"),
            delete: format!("DELETE FROM {inbox} WHERE id = ?1"),
            keep: format!("UPDATE {inbox} SET state = {DONE}, due = ?2, reason = NULL WHERE id = ?1"),
            reschedule: format!("UPDATE {inbox} SET state = {READY}, due = ?2, reason = ?3 WHERE id = ?1"),
            dead_letter: format!("UPDATE {inbox} SET state = {DEAD}, reason = ?2 WHERE id = ?1"),
            release: format!(
                "UPDATE {inbox} SET state = {READY}, due = ?2, attempts = max(attempts - 1, 0) WHERE id = ?1"
            ),

            // For operators.
            retry: format!(
                "
                UPDATE {inbox} SET state = {READY}, due = ?2, attempts = 0
                WHERE id = ?1 AND state >= {DEAD} AND state <> {DONE}
                RETURNING ordering
                "
            ),
            delete_delivery: format!("DELETE FROM {delivery} WHERE id = ?1"),
            delete_ordering: format!("DELETE FROM {ordering} WHERE key = ?1 AND id = ?2"),
            // Both indexes together have the READY and LEASED deliveries.
            unfinished: format!(
                "
                SELECT
                    count(*) FILTER (WHERE state <> {LEASED}),
                    count(*) FILTER (WHERE state = {LEASED}),
                    min(since)
                FROM (
                    SELECT state, since FROM {inbox} WHERE state < {DEAD} AND ordering IS NULL
                    UNION ALL
                    SELECT state, since FROM {inbox} WHERE state < {DEAD} AND ordering IS NOT NULL
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
                    SELECT 1 FROM {inbox} WHERE state < {DEAD} AND ordering IS NULL
                    UNION ALL
                    SELECT 1 FROM {inbox} WHERE state < {DEAD} AND ordering IS NOT NULL
                    LIMIT ?1
                )
                "
            ),
            // All in the index, so that a damaged row does not end the list.
            dead: format!(
                "
                SELECT id
                FROM {inbox}
                WHERE state >= {DEAD} AND state <> {DONE} AND id > ?1
                ORDER BY id
                LIMIT ?2
                "
            ),
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
            finished_of_event: format!(
                "
                SELECT id, key
                FROM {inbox}
                WHERE ((key = ?1 AND event IS NULL) OR event = ?1) AND state >= {DEAD}
                "
            ),
            forget_event_in_ledger: format!(
                "
                DELETE FROM {ledger}
                WHERE ((key = ?1 AND event IS NULL) OR event = ?1) AND NOT {is_unfinished}
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
            forget_key_in_ledger: format!("DELETE FROM {ledger} WHERE key = ?1"),
        }
    }

    pub(in super::super) fn create(&self) -> &str {
        &self.create
    }
}

const READY: i16 = DeliveryState::Ready.code();
const LEASED: i16 = DeliveryState::Leased.code();
const DEAD: i16 = DeliveryState::Dead.code();
const DONE: i16 = DeliveryState::Done.code();

/// Bodies lie apart from the states, so that a change of state writes a small row. Every READY or LEASED delivery is in one of the
/// first two indexes, with all that selecting and counting look at; the other indexes have few rows. Whatever is stored as a state, a
/// delivery is either unfinished, or dead, or done by the indexes. `AUTOINCREMENT`: an id is never used again.
fn create(inbox: &str, delivery: &str, ordering: &str) -> String {
    format!(
        "
        CREATE TABLE IF NOT EXISTS {inbox} (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            key BLOB NOT NULL UNIQUE,
            event BLOB,                   -- NULL: the key itself
            state INTEGER NOT NULL,       -- 0: ready, 1: leased, 2: dead, 3: done
            due INTEGER NOT NULL,         -- ready: next attempt; leased: end of the lease; done: end of its time.
                                          -- In milliseconds of the store's time, as is since
            attempts INTEGER NOT NULL,
            token INTEGER NOT NULL,
            accepted_at INTEGER NOT NULL, -- milliseconds since 1970, by the system clock
            since INTEGER NOT NULL,       -- when it was accepted, by the store's time
            ordering BLOB,                -- keys of 16 bytes, one after the other; NULL: none
            reason TEXT
        );

        CREATE TABLE IF NOT EXISTS {delivery} (
            id INTEGER PRIMARY KEY,
            digest BLOB NOT NULL,
            head TEXT NOT NULL,
            body BLOB NOT NULL
        );

        -- The queue of each ordering key: deliveries that are ready or leased.
        CREATE TABLE IF NOT EXISTS {ordering} (
            key BLOB NOT NULL,
            id INTEGER NOT NULL,
            PRIMARY KEY (key, id)
        ) WITHOUT ROWID;

        CREATE INDEX IF NOT EXISTS {inbox}_unordered
            ON {inbox} (due, id, state, ordering, since)
            WHERE state < {DEAD} AND ordering IS NULL;

        CREATE INDEX IF NOT EXISTS {inbox}_ordered
            ON {inbox} (due, id, state, ordering, since)
            WHERE state < {DEAD} AND ordering IS NOT NULL;

        CREATE INDEX IF NOT EXISTS {inbox}_leased
            ON {inbox} (due)
            WHERE state = {LEASED} AND ordering IS NOT NULL;

        CREATE INDEX IF NOT EXISTS {inbox}_dead
            ON {inbox} (id, state)
            WHERE state >= {DEAD} AND state <> {DONE};

        CREATE INDEX IF NOT EXISTS {inbox}_done
            ON {inbox} (due)
            WHERE state = {DONE};

        CREATE INDEX IF NOT EXISTS {inbox}_event
            ON {inbox} (event)
            WHERE event IS NOT NULL;
        "
    )
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use crate::store::sqlite::schema::Schema;

    fn plan(connection: &Connection, statement: &str) -> Vec<String> {
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        let parameters = vec![rusqlite::types::Null; explain.parameter_count()];
        let steps = explain.query_map(rusqlite::params_from_iter(parameters), |row| row.get(3)).unwrap();
        steps.collect::<Result<_, _>>().unwrap()
    }

    fn schema() -> (Connection, Schema) {
        let mut connection = Connection::open_in_memory().unwrap();
        let schema = Schema::new("k_").unwrap();
        schema.create_tables(&mut connection).unwrap();
        (connection, schema)
    }

    #[test]
    fn only_counting_scans_a_table() {
        let (connection, Schema { inbox: sql, .. }) = schema();
        let statements = [
            &sql.find,
            &sql.insert,
            &sql.insert_delivery,
            &sql.insert_ordering,
            &sql.revive,
            &sql.revive_delivery,
            &sql.find_state,
            &sql.find_body,
            &sql.unordered,
            &sql.ordered,
            &sql.misdated,
            &sql.due,
            &sql.attempts,
            &sql.read,
            &sql.read_head,
            &sql.head_of_queue,
            &sql.next_queue,
            &sql.is_expired,
            &sql.extend_expired,
            &sql.lease,
            &sql.dead_letter_expired,
            &sql.dead_letter_unreadable,
            &sql.delete_stray,
            &sql.extend,
            &sql.state,
            &sql.delete,
            &sql.keep,
            &sql.reschedule,
            &sql.dead_letter,
            &sql.release,
            &sql.retry,
            &sql.delete_delivery,
            &sql.delete_ordering,
            &sql.dead,
            &sql.show_state,
            &sql.done,
            &sql.accepted,
            &sql.finished_of_event,
            &sql.forget_event_in_ledger,
            &sql.forget_claimed,
            &sql.finished_of_key,
            &sql.forget_key_in_ledger,
        ];
        for statement in statements {
            for step in plan(&connection, statement) {
                // A subquery has few rows to scan.
                assert!(!step.starts_with("SCAN k_") && !step.starts_with("SCAN i"), "{step}: {statement}");
                assert!(!step.contains("TEMP B-TREE"), "{step}: {statement}");
            }
        }
    }

    #[test]
    fn statements_use_the_indexes() {
        let (connection, Schema { inbox: sql, .. }) = schema();
        for (statement, step) in [
            (&sql.unordered, "SEARCH k_inbox USING COVERING INDEX k_inbox_unordered (due<?)"),
            (&sql.ordered, "SEARCH k_inbox USING COVERING INDEX k_inbox_ordered (due<?)"),
            (&sql.due, "SEARCH k_inbox USING INTEGER PRIMARY KEY (rowid=?)"),
            (&sql.leased_keys, "SEARCH k_inbox USING INDEX k_inbox_leased (due>? AND due<?)"),
            (&sql.head_of_queue, "SEARCH k_inbox_ordering USING PRIMARY KEY (key=?)"),
            (&sql.next_queue, "SEARCH k_inbox_ordering USING PRIMARY KEY (key>?)"),
            (&sql.backlog, "SCAN k_inbox USING COVERING INDEX k_inbox_unordered"),
            (&sql.backlog, "SCAN k_inbox USING COVERING INDEX k_inbox_ordered"),
            (&sql.misdated, "SEARCH k_inbox USING COVERING INDEX k_inbox_unordered (due>?)"),
            (&sql.misdated, "SEARCH k_inbox USING COVERING INDEX k_inbox_ordered (due>?)"),
            (&sql.unfinished, "SCAN k_inbox USING COVERING INDEX k_inbox_unordered"),
            (&sql.unfinished, "SCAN k_inbox USING COVERING INDEX k_inbox_ordered"),
            (&sql.dead, "SEARCH k_inbox USING COVERING INDEX k_inbox_dead (id>?)"),
            (&sql.done, "SEARCH k_inbox USING COVERING INDEX k_inbox_done (due>? AND due<?)"),
        ] {
            let plan = plan(&connection, statement);
            assert!(plan.iter().any(|found| found == step), "{plan:#?}: {statement}");
        }
        let finished = plan(&connection, &sql.finished);
        assert!(finished.iter().any(|step| step.contains("k_inbox_dead")), "{finished:#?}");
        assert!(finished.iter().any(|step| step.contains("k_inbox_done")), "{finished:#?}");
    }
}

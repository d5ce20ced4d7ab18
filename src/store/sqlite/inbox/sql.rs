//! The inbox's tables, and the statements on them.

/// Which columns and indexes the tables have. One more with every change to them.
pub(in super::super) const VERSION: i64 = 1;

/// How many of those in line are looked at before the lines are.
pub(super) const NEAR: usize = 500;

/// The statements, with the names of the tables in them.
pub(in super::super) struct Sql {
    create: String,
    pub(super) find: String,
    pub(super) insert: String,
    pub(super) insert_delivery: String,
    pub(super) insert_ordering: String,
    pub(super) revive: String,
    pub(super) revive_delivery: String,
    pub(super) loose: String,
    pub(super) near: String,
    pub(super) waiting: String,
    pub(super) standing: String,
    pub(super) picked: String,
    pub(super) first_in_line: String,
    pub(super) next_line: String,
    pub(super) busy: String,
    pub(super) take: String,
    pub(super) bury_run_out: String,
    pub(super) extend: String,
    pub(super) finish: String,
    pub(super) keep: String,
    pub(super) postpone: String,
    pub(super) bury: String,
    pub(super) give_back: String,
    pub(super) retry: String,
    pub(super) delete_delivery: String,
    pub(super) delete_ordering: String,
    pub(super) unfinished: String,
    pub(super) finished: String,
    pub(super) backlog: String,
    pub(super) dead: String,
    pub(super) show: String,
    pub(super) forget_event: String,
    pub(super) forget_event_in_ledger: String,
    pub(super) forget_claimed: String,
    pub(super) forget_key: String,
    pub(super) slice: String,
    pub(super) forget_accepted: String,
    pub(super) forget_key_in_ledger: String,
    pub(super) purge: String,
}

impl Sql {
    /// For tables whose names begin with `prefix`.
    pub(in super::super) fn new(prefix: &str) -> Self {
        let inbox = format!("{prefix}inbox");
        let delivery = format!("{prefix}inbox_delivery");
        let ordering = format!("{prefix}inbox_ordering");
        let ledger = format!("{prefix}ledger");
        let is_unfinished = format!("EXISTS (SELECT 1 FROM {inbox} AS i WHERE i.key = {ledger}.key AND i.state < 2)");
        Self {
            create: create(&inbox, &delivery, &ordering),
            find: format!(
                "SELECT i.id, i.state, d.digest FROM {inbox} AS i CROSS JOIN {delivery} AS d ON d.id = i.id WHERE i.key = ?1"
            ),
            insert: format!(
                "INSERT INTO {inbox} (key, event, state, due, attempts, token, accepted_at, ordering)
                VALUES (:key, :event, 0, :now, 0, 0, :now, :ordering)"
            ),
            insert_delivery: format!("INSERT INTO {delivery} (id, digest, head, body) VALUES (?1, ?2, ?3, ?4)"),
            insert_ordering: format!("INSERT INTO {ordering} (key, id) VALUES (?1, ?2)"),
            // A new token: what was picked before, to be leased, is another request.
            revive: format!(
                "UPDATE {inbox} SET state = 0, due = :now, attempts = 0, token = token + 1, reason = NULL, ordering = :ordering
                WHERE id = :id"
            ),
            revive_delivery: format!("UPDATE {delivery} SET digest = ?2, head = ?3, body = ?4 WHERE id = ?1"),
            loose: format!(
                "SELECT due, id, state, ordering FROM {inbox} WHERE state < 2 AND ordering IS NULL AND due <= ?1 ORDER BY due, id"
            ),
            near: format!(
                "SELECT due, id, state, ordering FROM {inbox} WHERE state < 2 AND ordering IS NOT NULL AND due <= ?1
                ORDER BY due, id LIMIT {NEAR}"
            ),
            waiting: format!("SELECT due, id, state, ordering FROM {inbox} WHERE id = ?1 AND +state < 2 AND due <= ?2"),
            standing: format!("SELECT attempts, token FROM {inbox} WHERE id = ?1"),
            picked: format!(
                "SELECT i.token, d.head, d.body FROM {inbox} AS i CROSS JOIN {delivery} AS d ON d.id = i.id WHERE i.id = ?1"
            ),
            first_in_line: format!("SELECT min(id) FROM {ordering} WHERE key = ?1"),
            next_line: format!("SELECT key, id FROM {ordering} WHERE key > ?1 ORDER BY key, id LIMIT 1"),
            busy: format!("SELECT ordering FROM {inbox} WHERE state = 1 AND ordering IS NOT NULL AND due > ?1"),
            take: format!(
                "UPDATE {inbox} SET state = 1, due = :until, attempts = attempts + 1, token = token + 1
                WHERE id = :id AND token = :token AND state < 2 AND due <= :now RETURNING attempts"
            ),
            bury_run_out: format!(
                "UPDATE {inbox} SET state = 2, reason = :reason
                WHERE id = :id AND token = :token AND state = 1 AND due <= :now AND attempts >= :max_attempts
                RETURNING ordering"
            ),
            extend: format!(
                "UPDATE {inbox} SET due = :until WHERE id = :id AND token = :token AND state = 1 AND due > :now"
            ),
            finish: format!("DELETE FROM {inbox} WHERE id = :id AND token = :token AND state = 1 RETURNING ordering"),
            keep: format!(
                "UPDATE {inbox} SET state = 3, due = :until, reason = NULL
                WHERE id = :id AND token = :token AND state = 1 RETURNING ordering"
            ),
            postpone: format!(
                "UPDATE {inbox} SET state = 0, due = :until, reason = :reason
                WHERE id = :id AND token = :token AND state = 1"
            ),
            bury: format!(
                "UPDATE {inbox} SET state = 2, reason = :reason
                WHERE id = :id AND token = :token AND state = 1 RETURNING ordering"
            ),
            give_back: format!(
                "UPDATE {inbox} SET state = 0, due = :until, attempts = attempts - 1
                WHERE id = :id AND token = :token AND state = 1"
            ),
            retry: format!(
                "UPDATE {inbox} SET state = 0, due = ?2, attempts = 0 WHERE id = ?1 AND state = 2 RETURNING ordering"
            ),
            delete_delivery: format!("DELETE FROM {delivery} WHERE id = ?1"),
            delete_ordering: format!("DELETE FROM {ordering} WHERE key = ?1 AND id = ?2"),
            unfinished: format!(
                "SELECT count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1), min(accepted_at) FROM (
                SELECT state, accepted_at FROM {inbox} WHERE state < 2 AND ordering IS NULL UNION ALL
                SELECT state, accepted_at FROM {inbox} WHERE state < 2 AND ordering IS NOT NULL)"
            ),
            finished: format!(
                "SELECT (SELECT count(*) FROM {inbox} WHERE state = 2), (SELECT count(*) FROM {inbox} WHERE state = 3)"
            ),
            backlog: format!(
                "SELECT count(*) FROM (SELECT 1 FROM {inbox} WHERE state < 2 AND ordering IS NULL UNION ALL
                SELECT 1 FROM {inbox} WHERE state < 2 AND ordering IS NOT NULL LIMIT ?1)"
            ),
            dead: format!(
                "SELECT i.id, i.state, i.attempts, i.accepted_at, i.reason, d.head
                FROM {inbox} AS i CROSS JOIN {delivery} AS d ON d.id = i.id
                WHERE i.state = 2 AND i.id > ?1 ORDER BY i.id LIMIT ?2"
            ),
            show: format!(
                "SELECT i.id, i.state, i.attempts, i.accepted_at, i.reason, d.head, d.body
                FROM {inbox} AS i CROSS JOIN {delivery} AS d ON d.id = i.id WHERE i.id = ?1"
            ),
            forget_event: format!(
                "DELETE FROM {inbox} WHERE ((key = ?1 AND event IS NULL) OR event = ?1) AND state >= 2 RETURNING id, key"
            ),
            forget_event_in_ledger: format!(
                "DELETE FROM {ledger} WHERE ((key = ?1 AND event IS NULL) OR event = ?1) AND NOT {is_unfinished}
                RETURNING key, until > ?2"
            ),
            forget_claimed: format!(
                "DELETE FROM {ledger} WHERE key > ?1 AND key <= ?2 AND claimed_at >= ?3 AND claimed_at < ?4
                AND NOT {is_unfinished} RETURNING key, until > ?5"
            ),
            forget_key: format!("DELETE FROM {inbox} WHERE key = ?1 AND state >= 2 RETURNING id, key"),
            slice: format!(
                "SELECT max(id), count(*) FROM (SELECT id FROM {inbox} WHERE id > ?1 ORDER BY id LIMIT ?2)"
            ),
            forget_accepted: format!(
                "DELETE FROM {inbox} WHERE id > ?1 AND id <= ?2 AND +state >= 2 AND accepted_at >= ?3 AND accepted_at < ?4
                RETURNING id, key"
            ),
            forget_key_in_ledger: format!("DELETE FROM {ledger} WHERE key = ?1"),
            purge: format!(
                "DELETE FROM {inbox} WHERE id IN
                (SELECT id FROM {inbox} WHERE state = 3 AND due <= ?1 ORDER BY due LIMIT ?2) RETURNING id, key"
            ),
        }
    }

    pub(in super::super) fn create(&self) -> &str {
        &self.create
    }
}

/// Bodies lie apart from the states, so that a change of state writes a small row. What is ready or leased is in one of the first
/// two indexes, with all that picking looks at; the others have few rows in them. `AUTOINCREMENT`: an id is never used
/// again.
fn create(inbox: &str, delivery: &str, ordering: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {inbox} (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            key BLOB NOT NULL UNIQUE,
            event BLOB, -- NULL: it is the key
            state INTEGER NOT NULL, -- 0: ready, 1: leased, 2: dead, 3: done
            due INTEGER NOT NULL, -- milliseconds since 1970, as is accepted_at. Leased: the lease's end. Done: the end
            attempts INTEGER NOT NULL,
            token INTEGER NOT NULL,
            accepted_at INTEGER NOT NULL,
            ordering BLOB, -- keys of 16 bytes, one after the other. NULL: none
            reason TEXT
        );
        CREATE TABLE IF NOT EXISTS {delivery} (
            id INTEGER PRIMARY KEY,
            digest BLOB NOT NULL,
            head TEXT NOT NULL,
            body BLOB NOT NULL
        );
        CREATE TABLE IF NOT EXISTS {ordering} ( -- of what is ready or leased
            key BLOB NOT NULL,
            id INTEGER NOT NULL,
            PRIMARY KEY (key, id)
        ) WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS {inbox}_loose ON {inbox} (due, id, state, ordering)
            WHERE state < 2 AND ordering IS NULL;
        CREATE INDEX IF NOT EXISTS {inbox}_due ON {inbox} (due, id, state, ordering)
            WHERE state < 2 AND ordering IS NOT NULL;
        CREATE INDEX IF NOT EXISTS {inbox}_busy ON {inbox} (due) WHERE state = 1 AND ordering IS NOT NULL;
        CREATE INDEX IF NOT EXISTS {inbox}_dead ON {inbox} (id) WHERE state = 2;
        CREATE INDEX IF NOT EXISTS {inbox}_done ON {inbox} (due) WHERE state = 3;
        CREATE INDEX IF NOT EXISTS {inbox}_event ON {inbox} (event) WHERE event IS NOT NULL;"
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
    fn nothing_but_counting_goes_through_a_whole_table() {
        let (connection, Schema { inbox: sql, .. }) = schema();
        let statements = [
            &sql.find,
            &sql.insert,
            &sql.insert_delivery,
            &sql.insert_ordering,
            &sql.revive,
            &sql.revive_delivery,
            &sql.loose,
            &sql.near,
            &sql.waiting,
            &sql.standing,
            &sql.picked,
            &sql.first_in_line,
            &sql.next_line,
            &sql.take,
            &sql.bury_run_out,
            &sql.extend,
            &sql.finish,
            &sql.keep,
            &sql.postpone,
            &sql.bury,
            &sql.give_back,
            &sql.retry,
            &sql.delete_delivery,
            &sql.delete_ordering,
            &sql.dead,
            &sql.show,
            &sql.forget_event,
            &sql.forget_event_in_ledger,
            &sql.forget_claimed,
            &sql.forget_key,
            &sql.slice,
            &sql.forget_accepted,
            &sql.forget_key_in_ledger,
            &sql.purge,
        ];
        for statement in statements {
            for step in plan(&connection, statement) {
                // Of a subquery's few rows there may be a scan.
                assert!(!step.starts_with("SCAN k_") && !step.starts_with("SCAN i"), "{step}: {statement}");
                assert!(!step.contains("TEMP B-TREE"), "{step}: {statement}");
            }
        }
    }

    #[test]
    fn the_indexes_are_used() {
        let (connection, Schema { inbox: sql, .. }) = schema();
        for (statement, step) in [
            (&sql.loose, "SEARCH k_inbox USING COVERING INDEX k_inbox_loose (due<?)"),
            (&sql.near, "SEARCH k_inbox USING COVERING INDEX k_inbox_due (due<?)"),
            (&sql.waiting, "SEARCH k_inbox USING INTEGER PRIMARY KEY (rowid=?)"),
            (&sql.busy, "SEARCH k_inbox USING INDEX k_inbox_busy (due>?)"),
            (&sql.first_in_line, "SEARCH k_inbox_ordering USING PRIMARY KEY (key=?)"),
            (&sql.next_line, "SEARCH k_inbox_ordering USING PRIMARY KEY (key>?)"),
            (&sql.backlog, "SCAN k_inbox USING COVERING INDEX k_inbox_loose"),
            (&sql.backlog, "SCAN k_inbox USING COVERING INDEX k_inbox_due"),
            (&sql.unfinished, "SCAN k_inbox USING INDEX k_inbox_loose"),
            (&sql.unfinished, "SCAN k_inbox USING INDEX k_inbox_due"),
            (&sql.dead, "SEARCH i USING INDEX k_inbox_dead (id>?)"),
            (&sql.purge, "SEARCH k_inbox USING COVERING INDEX k_inbox_done (due<?)"),
        ] {
            let plan = plan(&connection, statement);
            assert!(plan.iter().any(|found| found == step), "{plan:#?}: {statement}");
        }
        let finished = plan(&connection, &sql.finished);
        assert!(finished.iter().any(|step| step.contains("k_inbox_dead")), "{finished:#?}");
        assert!(finished.iter().any(|step| step.contains("k_inbox_done")), "{finished:#?}");
    }
}

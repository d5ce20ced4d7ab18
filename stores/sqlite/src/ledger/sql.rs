//! The SQL statements on the ledger's table.

/// The condition for the rows of the event `?1`: the row under the event's own key, and the rows of its conflicts.
pub(crate) const OF_EVENT: &str = "((key = ?1 AND event_key IS NULL) OR event_key = ?1)";

pub(super) const CLAIMED: i64 = 0;
pub(super) const DONE: i64 = 1;

/// The SQL statements on the ledger's table.
pub(crate) struct LedgerSql {
    pub(super) claim: String,
    pub(super) accept: String,
    pub(super) find: String,
    pub(super) complete: String,
    pub(super) renew: String,
    pub(super) release: String,
    pub(super) list_of_event: String,
    pub(super) list_claimed: String,
    pub(super) count_of_event: String,
    pub(super) forget: String,
    pub(super) slice: String,
    pub(super) count_claimed: String,
    pub(super) forget_claimed: String,
    pub(super) purge: String,
}

impl LedgerSql {
    /// Returns the statements for a table whose name begins with `prefix`.
    pub(crate) fn new(prefix: &str) -> Self {
        let ledger = format!("{prefix}ledger");
        Self {
            claim: format!(
                "
                INSERT INTO {ledger} (key, event_key, digest, token, state, until, claimed_at, kept_until)
                VALUES (:key, :event_key, :digest, :token, {CLAIMED}, :until, :system_time, :kept_until)
                ON CONFLICT (key) DO UPDATE SET
                    event_key = excluded.event_key,
                    digest = excluded.digest,
                    token = excluded.token,
                    state = {CLAIMED},
                    until = excluded.until,
                    kept_until = excluded.kept_until,
                    -- A claim with the token of an unexpired claim renews it, and keeps its time.
                    claimed_at = CASE
                        WHEN state = {CLAIMED} AND token = excluded.token AND kept_until > :now THEN claimed_at
                        ELSE :system_time
                    END
                -- Replace an expired entry, or renew the token's own claim.
                WHERE
                    until <= :now
                    OR (state = {CLAIMED} AND token = excluded.token)
                "
            ),
            accept: format!(
                "
                INSERT INTO {ledger} (key, event_key, digest, token, state, until, claimed_at)
                VALUES (:key, :event_key, :digest, :token, {DONE}, :until, :system_time)
                ON CONFLICT (key) DO UPDATE SET
                    event_key = excluded.event_key,
                    digest = excluded.digest,
                    token = excluded.token,
                    state = {DONE},
                    until = excluded.until,
                    kept_until = NULL,
                    claimed_at = :system_time
                WHERE until <= :now OR :replace
                "
            ),
            find: format!(
                "
                SELECT state, digest, until
                FROM {ledger}
                WHERE key = ?1
                "
            ),
            complete: format!(
                "
                UPDATE {ledger} SET
                    -- A done entry keeps its retention.
                    until = CASE state WHEN {DONE} THEN until ELSE :until END,
                    kept_until = NULL,
                    state = {DONE}
                WHERE
                    key = :key
                    AND token = :token
                    AND coalesce(kept_until, until) > :now
                "
            ),
            renew: format!(
                "
                UPDATE {ledger} SET until = :until, kept_until = :kept_until
                WHERE
                    key = :key
                    AND token = :token
                    AND state = {CLAIMED}
                    AND kept_until > :now
                "
            ),
            release: format!(
                "
                DELETE FROM {ledger}
                WHERE
                    key = :key
                    AND token = :token
                    AND state = {CLAIMED}
                    AND kept_until > :now
                "
            ),
            // Lists the unexpired entries of an event with keys after `?2`.
            list_of_event: format!(
                "
                SELECT key, event_key, digest, state, claimed_at, until, coalesce(kept_until, until)
                FROM {ledger}
                WHERE
                    {OF_EVENT}
                    AND key > ?2
                    AND coalesce(kept_until, until) > ?3
                ORDER BY key
                "
            ),
            // Lists the unexpired entries with keys after `?1` and up to `?2` that were claimed from `?3` until before
            // `?4`, by the system clock.
            list_claimed: format!(
                "
                SELECT key, event_key, digest, state, claimed_at, until, coalesce(kept_until, until)
                FROM {ledger}
                WHERE
                    key > ?1 AND key <= ?2
                    AND claimed_at >= ?3 AND claimed_at < ?4
                    AND coalesce(kept_until, until) > ?5
                ORDER BY key
                "
            ),
            count_of_event: format!(
                "
                SELECT count(*)
                FROM {ledger}
                WHERE
                    {OF_EVENT}
                    AND coalesce(kept_until, until) > ?2
                "
            ),
            forget: format!(
                "
                DELETE FROM {ledger}
                WHERE {OF_EVENT}
                RETURNING coalesce(kept_until, until) > ?2
                "
            ),
            slice: format!(
                "
                SELECT max(key), count(*)
                FROM (
                    SELECT key
                    FROM {ledger}
                    WHERE key > ?1
                    ORDER BY key
                    LIMIT ?2
                )
                "
            ),
            count_claimed: format!(
                "
                SELECT count(*)
                FROM {ledger}
                WHERE
                    key > ?1 AND key <= ?2
                    AND claimed_at >= ?3 AND claimed_at < ?4
                    AND coalesce(kept_until, until) > ?5
                "
            ),
            forget_claimed: format!(
                "
                DELETE FROM {ledger}
                WHERE
                    key > ?1 AND key <= ?2
                    AND claimed_at >= ?3 AND claimed_at < ?4
                RETURNING coalesce(kept_until, until) > ?5
                "
            ),
            purge: format!(
                "
                DELETE FROM {ledger}
                WHERE key IN (
                    SELECT key
                    FROM {ledger}
                    WHERE
                        key > ?1 AND key <= ?2
                        AND coalesce(kept_until, until) <= ?3
                    LIMIT ?4
                )
                "
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::schema::Schema;

    #[test]
    fn no_statement_scans_the_table() {
        let mut connection = Connection::open_in_memory().unwrap();
        Schema::new("k_").unwrap().migrate(&mut connection).unwrap();
        let sql = LedgerSql::new("k_");
        let statements = [
            &sql.claim,
            &sql.accept,
            &sql.find,
            &sql.complete,
            &sql.renew,
            &sql.release,
            &sql.list_of_event,
            &sql.list_claimed,
            &sql.count_of_event,
            &sql.forget,
            &sql.slice,
            &sql.count_claimed,
            &sql.forget_claimed,
            &sql.purge,
        ];
        for statement in statements {
            let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
            let parameters = vec![rusqlite::types::Null; explain.parameter_count()];
            let steps =
                explain.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3)).unwrap();
            for step in steps {
                let step = step.unwrap();
                assert!(!step.starts_with("SCAN k_ledger"), "{step}: {statement}");
            }
        }
    }
}

//! What an operator asks, and what clears up.

use super::{DEAD, DONE, LEASED, READY, UNFINISHED, tables::Tables, uuid};

impl Tables {
    pub(super) fn counts(&self) -> String {
        let of = |state: i16| format!("count(*) FILTER (WHERE state = {state})");
        format!(
            "SELECT {}, {}, {}, {}, \
             extract(epoch FROM clock_timestamp() - min(accepted) FILTER (WHERE {UNFINISHED}))::float8 FROM {}",
            of(READY),
            of(LEASED),
            of(DEAD),
            of(DONE),
            self.inbox
        )
    }

    pub(super) fn backlog(&self) -> String {
        format!("SELECT count(*) FROM (SELECT FROM {} WHERE {UNFINISHED} LIMIT $1::bigint) AS waiting", self.inbox)
    }

    pub(super) fn dead(&self) -> String {
        let Self { inbox, delivery, .. } = self;
        format!(
            "SELECT id, state, accepted, head, attempts, reason FROM {inbox} JOIN {delivery} USING (id) \
             WHERE state = {DEAD} AND id > $1::bigint ORDER BY id LIMIT $2::bigint"
        )
    }

    pub(super) fn show(&self) -> String {
        let Self { inbox, delivery, .. } = self;
        format!(
            "SELECT id, state, accepted, head, attempts, reason, body FROM {inbox} JOIN {delivery} USING (id) \
             WHERE id = $1::bigint"
        )
    }

    /// Runs where nothing is leased meanwhile.
    pub(super) fn retry(&self) -> String {
        let Self { inbox, delivery, ordering, .. } = self;
        format!(
            "WITH retried AS (UPDATE {inbox} SET state = {READY}, due = clock_timestamp(), attempts = 0, retried = true \
             WHERE id = $1::bigint AND state = {DEAD} RETURNING id), \
             ordered AS (INSERT INTO {ordering} (key, id) SELECT unnest(ordering), id FROM {delivery} JOIN retried USING (id)) \
             SELECT id FROM retried"
        )
    }

    pub(super) fn forget_event(&self) -> String {
        let of_event = format!("(key = {event} OR event = {event})", event = uuid(1));
        self.forget(&of_event, &of_event)
    }

    pub(super) fn forget_accepted(&self) -> String {
        let within = |time: &str| format!("{time} >= $1::timestamptz AND {time} < $2::timestamptz");
        self.forget(&within("accepted"), &within("claimed"))
    }

    /// Runs where nothing is brought back from the dead meanwhile. The rows of the ledger go only as they were seen: a new
    /// token says that a delivery was accepted since.
    fn forget(&self, deliveries: &str, entries: &str) -> String {
        let Self { ledger, inbox, delivery, .. } = self;
        format!(
            "WITH keys AS MATERIALIZED (SELECT key FROM {inbox} WHERE NOT ({UNFINISHED}) AND {deliveries} \
             UNION SELECT key FROM {ledger} AS held WHERE {entries} \
             AND NOT EXISTS (SELECT FROM {inbox} AS waiting WHERE waiting.key = held.key AND waiting.{UNFINISHED})), \
             seen AS MATERIALIZED (SELECT key, token FROM {ledger} JOIN keys USING (key)), \
             deleted AS (DELETE FROM {inbox} AS old USING keys WHERE old.key = keys.key AND NOT (old.{UNFINISHED}) \
             RETURNING old.id, old.key), \
             emptied AS (DELETE FROM {delivery} AS old USING deleted WHERE old.id = deleted.id), \
             forgotten AS (DELETE FROM {ledger} AS old USING seen WHERE old.key = seen.key AND old.token = seen.token \
             RETURNING old.key, old.until) \
             SELECT count(*) FROM (SELECT key FROM deleted \
             UNION SELECT key FROM forgotten WHERE until > clock_timestamp()) AS gone"
        )
    }

    pub(super) fn purge_done(&self) -> String {
        let Self { inbox, delivery, .. } = self;
        format!(
            "WITH chosen AS MATERIALIZED (SELECT id FROM {inbox} WHERE state = {DONE} AND due <= statement_timestamp() \
             LIMIT $1::bigint FOR UPDATE SKIP LOCKED), \
             deleted AS (DELETE FROM {inbox} AS old USING chosen WHERE old.id = chosen.id RETURNING old.id), \
             emptied AS (DELETE FROM {delivery} AS old USING deleted WHERE old.id = deleted.id) \
             SELECT count(*) FROM deleted"
        )
    }
}

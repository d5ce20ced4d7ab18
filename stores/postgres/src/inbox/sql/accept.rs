//! The statements that accept deliveries.

use super::{
    states::{DEAD, DONE, PENDING, READY},
    tables::Tables,
};
use crate::sql::{self, after, uuid};

/// The class of the advisory locks on ordering keys: the letters "klko".
const ORDERING_LOCKS: i32 = 0x6b6c_6b6f;

/// Selects the deliveries to store, without their contents.
const SELECT_ASKED: &str = "SELECT
                    encode(asked.key, 'hex')::uuid AS key,
                    encode(asked.event, 'hex')::uuid AS event,
                    encode(asked.token, 'hex')::uuid AS token,
                    asked.digest, asked.retention, asked.event_id, asked.event_type, asked.tenant, asked.position
                FROM
                    unnest(
                        $1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[], $5::float8[],
                        $8::text[], $9::text[], $10::text[]
                    ) WITH ORDINALITY
                        AS asked (key, event, token, digest, retention, event_id, event_type, tenant, position)";

/// The condition under which a ledger entry may be replaced: it can be claimed.
const IS_CLAIMABLE: &str = "WHERE held.until <= clock_timestamp()";

impl Tables {
    /// Stores new deliveries and their ledger rows, which are done from the start. Returns the positions of the stored
    /// deliveries, from 1. The deliveries must have different keys.
    ///
    /// Leaves out deliveries whose keys are known. If a key becomes known while the statement waits, either its ledger row
    /// shows that, or the index on the keys makes the whole statement fail. All nodes lock ledger rows in the order of the
    /// keys, so that they cannot deadlock.
    ///
    /// Deliveries that share an ordering key must get their ids in the order of their commits. Otherwise a worker could lease
    /// the delivery with the larger id while the other is not yet visible, and then also the other one. So the statement
    /// locks each ordering key until the commit, before it draws ids: the rows that get ids depend on a count of the locks.
    pub(super) fn accept(&self) -> String {
        let Self { inbox, body, queue, attempt, tenant, .. } = self;
        format!(
            r#"
            WITH
            locks AS MATERIALIZED (
                SELECT pg_advisory_xact_lock({ORDERING_LOCKS}, lock) FROM unnest($15::integer[]) AS lock
            ),
            -- The deliveries whose keys the inbox does not know, without their contents
            new AS MATERIALIZED (
                {select_asked}, (SELECT count(*) AS count FROM locks) AS taken
                WHERE
                    taken.count >= 0
                    AND NOT EXISTS (
                        SELECT FROM {inbox} AS known
                        WHERE known.key = encode(asked.key, 'hex')::uuid AND known.state <> {DONE}
                    )
            ),
            -- The ledger rows
            remembered AS ({remember_new}
            ),
            -- Delete DONE deliveries of the same keys
            replaced AS (
                DELETE FROM {inbox} AS old USING remembered
                WHERE old.key = remembered.key AND old.state = {DONE}
                RETURNING old.id
            ),
            emptied AS (
                DELETE FROM {body} AS old USING replaced WHERE old.id = replaced.id
            ),
            unrecorded AS (
                DELETE FROM {attempt} AS old USING replaced WHERE old.id = replaced.id
            ),
            ordered AS MATERIALIZED (
                SELECT position, array_agg(ordering_key ORDER BY ordering_key) AS keys
                FROM unnest($13::text[], $14::bigint[]) AS ordered (ordering_key, position)
                GROUP BY position
            ),
            -- The deliveries, after the DONE ones are deleted
            added AS (
                INSERT INTO {inbox} (
                    due, accepted_at, token, key, event_key, attempts, state,
                    event_id, event_type, tenant, ordering_keys
                )
                SELECT
                    clock_timestamp(), clock_timestamp(), 0, new.key, nullif(new.event, new.key), 0, {READY},
                    new.event_id, new.event_type, new.tenant, ordered.keys
                FROM
                    (SELECT count(*) AS count FROM replaced) AS gone,
                    remembered
                    JOIN new ON new.key = remembered.key
                    LEFT JOIN ordered ON ordered.position = new.position
                WHERE gone.count >= 0
                ORDER BY new.position
                RETURNING id, key
            ),
            stored AS MATERIALIZED (
                SELECT added.id, new.position, new.event_id, new.tenant FROM added JOIN new ON new.key = added.key
            ),
            -- The tenants, which all nodes lock in the same order, after the ledger rows
            known_tenants AS (
                INSERT INTO {tenant}
                SELECT DISTINCT tenant COLLATE "C" AS tenant
                FROM stored
                ORDER BY tenant
                ON CONFLICT DO NOTHING
            ),
            queued AS (
                INSERT INTO {queue} (ordering_key, id)
                SELECT ordered.ordering_key, stored.id
                FROM stored
                JOIN unnest($13::text[], $14::bigint[]) AS ordered (ordering_key, position) USING (position)
            ),
            filled AS ({fill}
            )
            SELECT position FROM stored"#,
            select_asked = SELECT_ASKED,
            remember_new = self.remember_new(),
            fill = self.fill(),
        )
    }

    /// Stores new deliveries as [`accept`](Self::accept) does, in the usual case only: they have no ordering keys, and their
    /// tenants are in the table of tenants. Leaves out deliveries that would replace DONE ones.
    ///
    /// The server plans the statement for each batch, and plans this one in half the time.
    pub(super) fn accept_usual(&self) -> String {
        let Self { inbox, .. } = self;
        format!(
            r"
            WITH
            new AS MATERIALIZED (
                {select_asked}
                WHERE NOT EXISTS (
                    SELECT FROM {inbox} AS known WHERE known.key = encode(asked.key, 'hex')::uuid
                )
            ),
            remembered AS ({remember_new}
            ),
            added AS (
                INSERT INTO {inbox} (
                    due, accepted_at, token, key, event_key, attempts, state, event_id, event_type, tenant
                )
                SELECT
                    clock_timestamp(), clock_timestamp(), 0, new.key, nullif(new.event, new.key), 0, {READY},
                    new.event_id, new.event_type, new.tenant
                FROM remembered JOIN new ON new.key = remembered.key
                ORDER BY new.position
                RETURNING id, key
            ),
            stored AS MATERIALIZED (
                SELECT added.id, new.position, new.event_id FROM added JOIN new ON new.key = added.key
            ),
            filled AS ({fill}
            )
            SELECT position FROM stored",
            select_asked = SELECT_ASKED,
            remember_new = self.remember_new(),
            fill = self.fill(),
        )
    }

    /// Inserts the ledger rows of the deliveries in `new`.
    fn remember_new(&self) -> String {
        let Self { ledger, .. } = self;
        format!(
            r"
                INSERT INTO {ledger} AS held (claimed_at, until, key, event_key, token, state, digest)
                SELECT
                    clock_timestamp(), clock_timestamp() + make_interval(secs => retention),
                    key, nullif(event, key), token, {done}, digest
                FROM new
                ORDER BY key
                ON CONFLICT (key) DO UPDATE
                {replace} {IS_CLAIMABLE}
                RETURNING key",
            done = sql::DONE,
            replace = replace("excluded.until"),
        )
    }

    /// Inserts the contents of the deliveries in `stored`.
    fn fill(&self) -> String {
        let Self { body, .. } = self;
        format!(
            r"
                INSERT INTO {body} (id, digest, head, body, event, branch, orders)
                SELECT
                    stored.id, content.digest, content.head, content.body,
                    stored.event_id, content.branch, {orders}
                FROM stored
                JOIN unnest($4::bytea[], $6::text[], $7::bytea[], $11::text[], $12::text[])
                    WITH ORDINALITY AS content (digest, head, body, branch, orders, position) USING (position)",
            orders = orders("content.orders"),
        )
    }

    /// Stores only the ledger row of a delivery that is handed off.
    pub(super) fn remember(&self) -> String {
        let Self { inbox, .. } = self;
        let if_unknown = format!(
            "(SELECT) AS always WHERE NOT EXISTS (SELECT FROM {inbox} WHERE key = {key} AND state <> {DONE})",
            key = uuid(1),
        );
        self.remember_from(&if_unknown, IS_CLAIMABLE)
    }

    /// Deletes a DEAD delivery that is handed off now, and renews its ledger row.
    pub(super) fn move_to_queue(&self) -> String {
        let Self { inbox, body, attempt, .. } = self;
        format!(
            r"
            WITH
            gone AS (
                DELETE FROM {inbox} AS dead
                WHERE {is_dead}
                RETURNING dead.id
            ),
            emptied AS (
                DELETE FROM {body} AS old USING gone WHERE old.id = gone.id
            ),
            unrecorded AS (
                DELETE FROM {attempt} AS old USING gone WHERE old.id = gone.id
            )
            {remember}",
            is_dead = self.is_dead(6),
            remember = self.remember_from("gone", ""),
        )
    }

    /// Makes a DEAD delivery READY again, with the content of the new one.
    ///
    /// Runs while nothing is leased, like every statement that brings deliveries back from DEAD.
    pub(super) fn revive(&self) -> String {
        let Self { inbox, body, tenant, .. } = self;
        format!(
            r"
            WITH
            revived AS (
                UPDATE {inbox} AS dead
                SET
                    state = {READY},
                    due = clock_timestamp(),
                    attempts = 0,
                    -- The outcome of the old request does not settle the new one
                    token = token + 1,
                    reason = NULL,
                    event_id = $8::text,
                    event_type = $9::text,
                    tenant = $10::text,
                    ordering_keys = nullif($11::text[], '{{}}')
                WHERE {is_dead}
                RETURNING dead.id
            ),
            -- The ledger row
            remembered AS ({remember}),
            known_tenant AS (
                INSERT INTO {tenant} SELECT $10::text FROM remembered ON CONFLICT DO NOTHING
            )
            INSERT INTO {body} (id, digest, head, body, event, branch, orders)
            SELECT id, $4::bytea, $6::text, $7::bytea, $8::text, $13::text, {orders} FROM revived
            ON CONFLICT (id) DO UPDATE
            SET
                digest = excluded.digest,
                head = excluded.head,
                body = excluded.body,
                event = excluded.event,
                branch = excluded.branch,
                orders = excluded.orders",
            is_dead = self.is_dead(12),
            orders = orders("$14::text"),
            remember = self.remember_from("revived", ""),
        )
    }

    /// Returns the condition for the inbox's row `dead`: the row has the key `$1`, is DEAD, and its content has the digest in
    /// parameter `digest`. The digest is NULL if the content is missing.
    fn is_dead(&self, digest: u8) -> String {
        format!(
            r"
                    dead.key = {key}
                    AND dead.state = {DEAD}
                    AND (SELECT old.digest FROM {body} AS old WHERE old.id = dead.id)
                        IS NOT DISTINCT FROM ${digest}::bytea",
            key = uuid(1),
            body = self.body,
        )
    }

    /// Inserts a ledger row for each row of `from`. Replaces an existing row if `replacing` holds.
    fn remember_from(&self, from: &str, replacing: &str) -> String {
        let Self { ledger, .. } = self;
        format!(
            r"
                INSERT INTO {ledger} AS held (claimed_at, until, key, event_key, token, state, digest)
                SELECT clock_timestamp(), {until}, {key}, nullif({event}, {key}), {token}, {done}, $4::bytea
                FROM {from}
                ON CONFLICT (key) DO UPDATE
                {replace} {replacing}
                RETURNING key",
            until = after(5),
            key = uuid(1),
            event = uuid(2),
            token = uuid(3),
            done = sql::DONE,
            replace = replace(&after(5)),
        )
    }

    /// Locks the ledger row of a key. The lock writes to the write-ahead log, so that the commit waits for the synchronous
    /// standbys, and for all earlier commits. Otherwise a delivery could be acknowledged as known before the standbys have it.
    pub(super) fn lock(&self) -> String {
        format!("SELECT FROM {ledger} WHERE key = {key} FOR UPDATE", ledger = self.ledger, key = uuid(1))
    }

    /// Reads the state of a key.
    pub(super) fn read(&self) -> String {
        let Self { ledger, inbox, body, .. } = self;
        format!(
            r"
            SELECT
                stored.state,
                content.digest,
                held.state = {done},
                held.digest,
                extract(epoch FROM held.until - clock_timestamp())::float8
            FROM (SELECT {key} AS key) AS wanted
            LEFT JOIN {inbox} AS stored ON stored.key = wanted.key
            LEFT JOIN {body} AS content ON content.id = stored.id
            LEFT JOIN {ledger} AS held ON held.key = wanted.key AND held.until > clock_timestamp()",
            key = uuid(1),
            done = sql::DONE,
        )
    }

    /// Reads the body that is stored under a key with this digest.
    pub(super) fn read_body(&self) -> String {
        self.read_of_content("body")
    }

    /// Reads the head that is stored under a key with a body of this digest.
    pub(super) fn read_head(&self) -> String {
        self.read_of_content("head")
    }

    fn read_of_content(&self, column: &str) -> String {
        let Self { inbox, body, .. } = self;
        format!(
            r"
            SELECT content.{column}
            FROM {inbox} AS stored
            JOIN {body} AS content ON content.id = stored.id
            WHERE stored.key = {key} AND content.digest = $2::bytea",
            key = uuid(1),
        )
    }

    /// Restores the missing ledger row of a delivery that is READY or LEASED.
    pub(super) fn restore_ledger_row(&self) -> String {
        let Self { ledger, inbox, body, .. } = self;
        format!(
            r"
            INSERT INTO {ledger} AS held (claimed_at, until, key, event_key, token, state, digest)
            SELECT clock_timestamp(), {until}, stored.key, stored.event_key, {token}, {done}, content.digest
            FROM {inbox} AS stored
            JOIN {body} AS content ON content.id = stored.id
            WHERE stored.key = {key} AND stored.{PENDING}
            -- Wait if the delivery is being forgotten: its ledger row must not outlast it
            FOR KEY SHARE OF stored
            ON CONFLICT (key) DO UPDATE
            {replace} {IS_CLAIMABLE}",
            key = uuid(1),
            token = uuid(2),
            until = after(3),
            done = sql::DONE,
            replace = replace(&after(3)),
        )
    }
}

/// Returns an expression for the terms in a text: each of them in a line.
fn orders(lines: &str) -> String {
    format!(r"string_to_array({lines}, E'\n')")
}

/// Returns the `SET` of an upsert that replaces an existing ledger row.
fn replace(until: &str) -> String {
    format!(
        r"SET
                    claimed_at = excluded.claimed_at,
                    until = {until},
                    kept_until = NULL,
                    event_key = excluded.event_key,
                    token = excluded.token,
                    state = excluded.state,
                    digest = excluded.digest"
    )
}

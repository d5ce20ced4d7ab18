//! The statements that accept deliveries.

use super::{
    states::{DEAD, DONE, READY, UNFINISHED},
    tables::Tables,
};
use crate::sql::{self, after, uuid};

/// The class of the advisory locks on ordering keys: the letters "klko".
const ORDERING_LOCKS: i32 = 0x6b6c_6b6f;

/// The condition under which an entry of the ledger is replaced: it can be claimed.
const IS_CLAIMABLE: &str = "WHERE held.until <= clock_timestamp()";

impl Tables {
    /// Stores a new delivery and its ledger row, which is done from the start.
    ///
    /// Changes nothing if the key is known. If it becomes known while the statement waits, either the ledger row shows
    /// that, or the statement fails as a whole because of the index on the keys.
    ///
    /// Two deliveries that share an ordering key must get their ids in the order of their commits. Otherwise a worker
    /// could lease the one with the larger id while the other is still invisible, and then the other as well. So each
    /// ordering key is locked until the commit, and before the id is drawn: the row that gets the id depends on a count
    /// of the locks.
    pub(super) fn accept(&self) -> String {
        let Self { inbox, body, queue, .. } = self;
        let (key, event) = (uuid(1), uuid(2));
        let if_unknown = format!(
            r"(SELECT count(*) AS count FROM locks) AS taken
                WHERE
                    taken.count >= 0
                    AND NOT EXISTS (SELECT FROM {inbox} WHERE key = {key} AND state <> {DONE})"
        );
        format!(
            r"
            WITH
            locks AS MATERIALIZED (
                SELECT pg_advisory_xact_lock({ORDERING_LOCKS}, lock) FROM unnest($12::integer[]) AS lock
            ),
            -- The ledger row
            remembered AS ({remember}),
            -- A DONE delivery of the same key gives way
            replaced AS (
                DELETE FROM {inbox} AS old USING remembered
                WHERE old.key = remembered.key AND old.state = {DONE}
                RETURNING old.id
            ),
            emptied AS (
                DELETE FROM {body} AS old USING replaced WHERE old.id = replaced.id
            ),
            -- The delivery, once that is deleted
            added AS (
                INSERT INTO {inbox} (
                    due, accepted_at, token, key, event_key, attempts, state,
                    event_id, event_type, tenant, ordering_keys
                )
                SELECT
                    clock_timestamp(), clock_timestamp(), 0,
                    remembered.key, nullif({event}, remembered.key), 0, {READY},
                    $8::text, $9::text, $10::text, nullif($11::text[], '{{}}')
                FROM remembered, (SELECT count(*) AS count FROM replaced) AS gone
                WHERE gone.count >= 0
                RETURNING id
            ),
            queued AS (
                INSERT INTO {queue} (ordering_key, id)
                SELECT ordering_key, added.id FROM added, unnest($11::text[]) AS ordering_key
            )
            INSERT INTO {body} (id, digest, head, body)
            SELECT id, $4::bytea, $6::text, $7::bytea FROM added",
            remember = self.remember_from(&if_unknown, IS_CLAIMABLE),
        )
    }

    /// Stores the ledger row alone, of a delivery that is handed off.
    pub(super) fn remember(&self) -> String {
        let Self { inbox, .. } = self;
        let if_unknown = format!(
            "(SELECT) AS always WHERE NOT EXISTS (SELECT FROM {inbox} WHERE key = {key} AND state <> {DONE})",
            key = uuid(1),
        );
        self.remember_from(&if_unknown, IS_CLAIMABLE)
    }

    /// Deletes a DEAD delivery that is handed off now, and renews its ledger row.
    pub(super) fn take_out(&self) -> String {
        let Self { inbox, body, .. } = self;
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
        let Self { inbox, body, .. } = self;
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
            remembered AS ({remember})
            INSERT INTO {body} (id, digest, head, body)
            SELECT id, $4::bytea, $6::text, $7::bytea FROM revived
            ON CONFLICT (id) DO UPDATE
            SET digest = excluded.digest, head = excluded.head, body = excluded.body",
            is_dead = self.is_dead(12),
            remember = self.remember_from("revived", ""),
        )
    }

    /// The condition for a row `dead` of the inbox: the key in `$1` is DEAD, and its content has the digest that the
    /// parameter has. A missing content has the digest NULL.
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

    /// Inserts a ledger row for each row of `from`. If there is one, it is replaced where `replacing` holds.
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

    /// Reads what is known of a key.
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

    /// Reads the body that is stored under a key and has a digest.
    pub(super) fn read_body(&self) -> String {
        let Self { inbox, body, .. } = self;
        format!(
            r"
            SELECT body
            FROM {inbox} AS stored
            JOIN {body} AS content ON content.id = stored.id
            WHERE stored.key = {key} AND content.digest = $2::bytea",
            key = uuid(1),
        )
    }

    /// Restores the missing ledger row of a delivery that is READY or LEASED.
    pub(super) fn remember_again(&self) -> String {
        let Self { ledger, inbox, body, .. } = self;
        format!(
            r"
            INSERT INTO {ledger} AS held (claimed_at, until, key, event_key, token, state, digest)
            SELECT clock_timestamp(), {until}, stored.key, stored.event_key, {token}, {done}, content.digest
            FROM {inbox} AS stored
            JOIN {body} AS content ON content.id = stored.id
            WHERE stored.key = {key} AND stored.{UNFINISHED}
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

/// The part of an upsert of a ledger row that replaces the row that is there.
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

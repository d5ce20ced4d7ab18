//! The statements that accept deliveries.

use super::{DEAD, DONE, READY, UNFINISHED, after, tables::Tables, uuid};

/// The class of the advisory locks on ordering keys: the letters "klko".
const ORDERING_LOCKS: i32 = 0x6b6c_6b6f;

/// The condition under which an entry of the ledger is replaced: it can be claimed.
const IS_CLAIMABLE: &str = "WHERE held.until <= clock_timestamp()";

impl Tables {
    /// Stores a new delivery and its ledger row, which is done from the start.
    ///
    /// Changes nothing if the key is known. If it becomes known while the statement waits, either the ledger row shows that, or the
    /// statement fails as a whole because of the index on the keys.
    ///
    /// Two deliveries that share an ordering key must get their ids in the order of their commits. Otherwise a worker could lease the one
    /// with the larger id while the other is still invisible, and then the other as well. So each ordering key is locked until the
    /// commit, and before the id is drawn: the row that gets the id depends on a count of the locks.
    pub(super) fn accept(&self) -> String {
        let Self { inbox, delivery, ordering, .. } = self;
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
                SELECT pg_advisory_xact_lock({ORDERING_LOCKS}, lock) FROM unnest($9::integer[]) AS lock
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
                DELETE FROM {delivery} AS old USING replaced WHERE old.id = replaced.id
            ),
            -- The delivery, once that is deleted
            added AS (
                INSERT INTO {inbox} (due, accepted, token, key, event, attempts, state, ordered, retried)
                SELECT
                    clock_timestamp(), clock_timestamp(), 0, remembered.key, nullif({event}, remembered.key), 0, {READY},
                    cardinality($8::bytea[]) > 0, false
                FROM remembered, (SELECT count(*) AS count FROM replaced) AS gone
                WHERE gone.count >= 0
                RETURNING id
            ),
            ordered AS (
                INSERT INTO {ordering} (key, id)
                SELECT encode(one, 'hex')::uuid, added.id FROM added, unnest($8::bytea[]) AS one
            )
            INSERT INTO {delivery} (id, digest, head, ordering, body)
            SELECT id, $4::bytea, $6::text, {ordering_keys}, $7::bytea FROM added",
            remember = self.remember_from(&if_unknown, IS_CLAIMABLE),
            ordering_keys = ordering_keys(8),
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
        let Self { inbox, delivery, .. } = self;
        format!(
            r"
            WITH
            gone AS (
                DELETE FROM {inbox} AS dead
                WHERE {is_dead}
                RETURNING dead.id
            ),
            emptied AS (
                DELETE FROM {delivery} AS old USING gone WHERE old.id = gone.id
            )
            {remember}",
            is_dead = self.is_dead(6),
            remember = self.remember_from("gone", ""),
        )
    }

    /// Makes a DEAD delivery READY again, with the content of the new one.
    ///
    /// Runs while nothing is leased, as all that brings deliveries back from DEAD.
    pub(super) fn revive(&self) -> String {
        let Self { inbox, delivery, ordering, .. } = self;
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
                    retried = true,
                    ordered = cardinality($8::bytea[]) > 0
                WHERE {is_dead}
                RETURNING dead.id
            ),
            -- The ledger row
            remembered AS ({remember}),
            ordered AS (
                INSERT INTO {ordering} (key, id)
                SELECT encode(one, 'hex')::uuid, revived.id FROM revived, unnest($8::bytea[]) AS one
            )
            INSERT INTO {delivery} (id, digest, head, ordering, body)
            SELECT id, $4::bytea, $6::text, {ordering_keys}, $7::bytea FROM revived
            ON CONFLICT (id) DO UPDATE
            SET digest = excluded.digest, head = excluded.head, ordering = excluded.ordering, body = excluded.body",
            is_dead = self.is_dead(9),
            remember = self.remember_from("revived", ""),
            ordering_keys = ordering_keys(8),
        )
    }

    /// The condition for a row `dead` of the inbox: the key in `$1` is DEAD, and its content has the digest that the parameter has. A
    /// missing content has the digest NULL.
    fn is_dead(&self, digest: u8) -> String {
        format!(
            r"
                    dead.key = {key}
                    AND dead.state = {DEAD}
                    AND (SELECT old.digest FROM {delivery} AS old WHERE old.id = dead.id)
                        IS NOT DISTINCT FROM ${digest}::bytea",
            key = uuid(1),
            delivery = self.delivery,
        )
    }

    /// Inserts a ledger row for each row of `from`. If there is one, it is replaced where `replacing` holds.
    fn remember_from(&self, from: &str, replacing: &str) -> String {
        let Self { ledger, .. } = self;
        format!(
            r"
                INSERT INTO {ledger} AS held (claimed, until, key, event, token, done, digest)
                SELECT clock_timestamp(), {until}, {key}, nullif({event}, {key}), {token}, true, $4::bytea
                FROM {from}
                ON CONFLICT (key) DO UPDATE
                {replace} {replacing}
                RETURNING key",
            until = after(5),
            key = uuid(1),
            event = uuid(2),
            token = uuid(3),
            replace = replace(&after(5)),
        )
    }

    /// Reads what is known of a key.
    pub(super) fn read(&self) -> String {
        let Self { ledger, inbox, delivery, .. } = self;
        format!(
            r"
            SELECT
                stored.state,
                delivery.digest,
                held.done,
                held.digest,
                extract(epoch FROM held.until - clock_timestamp())::float8
            FROM (SELECT {key} AS key) AS wanted
            LEFT JOIN {inbox} AS stored ON stored.key = wanted.key
            LEFT JOIN {delivery} AS delivery ON delivery.id = stored.id
            LEFT JOIN {ledger} AS held ON held.key = wanted.key AND held.until > clock_timestamp()",
            key = uuid(1),
        )
    }

    /// Reads the body that is stored under a key and has a digest.
    pub(super) fn read_body(&self) -> String {
        let Self { inbox, delivery, .. } = self;
        format!(
            r"
            SELECT body
            FROM {inbox} AS stored
            JOIN {delivery} AS delivery ON delivery.id = stored.id
            WHERE stored.key = {key} AND delivery.digest = $2::bytea",
            key = uuid(1),
        )
    }

    /// Restores the missing ledger row of a delivery that is READY or LEASED.
    pub(super) fn remember_again(&self) -> String {
        let Self { ledger, inbox, delivery, .. } = self;
        format!(
            r"
            INSERT INTO {ledger} AS held (claimed, until, key, event, token, done, digest)
            SELECT clock_timestamp(), {until}, stored.key, stored.event, {token}, true, delivery.digest
            FROM {inbox} AS stored
            JOIN {delivery} AS delivery ON delivery.id = stored.id
            WHERE stored.key = {key} AND stored.{UNFINISHED}
            ON CONFLICT (key) DO UPDATE
            {replace} {IS_CLAIMABLE}",
            key = uuid(1),
            token = uuid(2),
            until = after(3),
            replace = replace(&after(3)),
        )
    }
}

/// The part of an upsert of a ledger row that replaces the row that is there.
fn replace(until: &str) -> String {
    format!(
        r"SET
                    claimed = excluded.claimed,
                    until = {until},
                    kept_until = NULL,
                    event = excluded.event,
                    token = excluded.token,
                    done = true,
                    digest = excluded.digest"
    )
}

/// An array of ordering keys, as it is in a column, from a parameter.
fn ordering_keys(parameter: u8) -> String {
    format!("ARRAY(SELECT encode(one, 'hex')::uuid FROM unnest(${parameter}::bytea[]) AS one)")
}

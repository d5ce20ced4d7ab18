//! What accepting asks.

use super::{DEAD, DONE, READY, UNFINISHED, after, tables::Tables, uuid};

/// Of the advisory locks on ordering keys: the letters "klko".
const ORDERING_LOCKS: i32 = 0x6b6c_6b6f;

impl Tables {
    /// One statement for what is new: the row of the ledger, done at once, and the delivery.
    ///
    /// A key that is known changes nothing. It may become known while the statement waits, which the ledger's row shows, or
    /// else the index on the keys: then it fails as a whole.
    ///
    /// Two deliveries that share an ordering key must get their ids in the order in which they are committed. Otherwise a
    /// worker could lease the one with the larger id while the other is still invisible, and then the other as well. So there
    /// is a lock on each key, held to the commit and taken before the id is drawn: the id comes from a row that the counting
    /// of the locks has to precede.
    pub(super) fn accept(&self) -> String {
        let Self { inbox, delivery, ordering, .. } = self;
        let (key, event) = (uuid(1), uuid(2));
        let unknown = format!(
            "(SELECT count(*) AS count FROM locks) AS taken WHERE taken.count >= 0 \
             AND NOT EXISTS (SELECT FROM {inbox} WHERE key = {key} AND state <> {DONE})"
        );
        format!(
            "WITH locks AS MATERIALIZED (\
             SELECT pg_advisory_xact_lock({ORDERING_LOCKS}, lock) FROM unnest($9::integer[]) AS lock), \
             remembered AS ({remember}), \
             replaced AS (DELETE FROM {inbox} AS old USING remembered \
             WHERE old.key = remembered.key AND old.state = {DONE} RETURNING old.id), \
             emptied AS (DELETE FROM {delivery} AS old USING replaced WHERE old.id = replaced.id), \
             added AS (INSERT INTO {inbox} (due, accepted, token, key, event, attempts, state, ordered, retried) \
             SELECT clock_timestamp(), clock_timestamp(), 0, remembered.key, nullif({event}, remembered.key), 0, {READY}, \
             cardinality($8::bytea[]) > 0, false \
             FROM remembered, (SELECT count(*) AS count FROM replaced) AS gone WHERE gone.count >= 0 RETURNING id), \
             ordered AS (INSERT INTO {ordering} (key, id) \
             SELECT encode(one, 'hex')::uuid, added.id FROM added, unnest($8::bytea[]) AS one) \
             INSERT INTO {delivery} (id, digest, head, ordering, body) \
             SELECT id, $4::bytea, $6::text, {ordering_keys}, $7::bytea FROM added",
            remember = self.remember_if(&unknown, IF_UP),
            ordering_keys = ordering_keys(8),
        )
    }

    /// The ledger's part of that alone, of what is in no table.
    pub(super) fn remember(&self) -> String {
        let Self { inbox, .. } = self;
        let unknown = format!(
            "(SELECT) AS always WHERE NOT EXISTS (SELECT FROM {inbox} WHERE key = {} AND state <> {DONE})",
            uuid(1)
        );
        self.remember_if(&unknown, IF_UP)
    }

    /// Deletes what is dead, and has it remembered as accepted anew.
    pub(super) fn take_out(&self) -> String {
        let Self { inbox, delivery, .. } = self;
        format!(
            "WITH gone AS (DELETE FROM {inbox} AS dead USING {delivery} AS old \
             WHERE dead.key = {key} AND dead.state = {DEAD} AND old.id = dead.id AND old.digest = $6::bytea \
             RETURNING dead.id), \
             emptied AS (DELETE FROM {delivery} AS old USING gone WHERE old.id = gone.id) {remember}",
            key = uuid(1),
            remember = self.remember_if("gone", ""),
        )
    }

    fn remember_if(&self, from: &str, replacing: &str) -> String {
        let Self { ledger, .. } = self;
        let (key, event, token, until) = (uuid(1), uuid(2), uuid(3), after(5));
        format!(
            "INSERT INTO {ledger} AS held (claimed, until, key, event, token, done, digest) \
             SELECT clock_timestamp(), {until}, {key}, nullif({event}, {key}), {token}, true, $4::bytea FROM {from} \
             ON CONFLICT (key) DO UPDATE SET claimed = excluded.claimed, until = {until}, event = excluded.event, \
             token = excluded.token, done = true, digest = excluded.digest {replacing} RETURNING key"
        )
    }

    pub(super) fn read(&self) -> String {
        let Self { ledger, inbox, delivery, .. } = self;
        format!(
            "SELECT waiting.state, delivery.digest, held.done, held.digest, \
             extract(epoch FROM held.until - clock_timestamp())::float8 \
             FROM (SELECT {} AS key) AS wanted LEFT JOIN {inbox} AS waiting ON waiting.key = wanted.key \
             LEFT JOIN {delivery} AS delivery ON delivery.id = waiting.id \
             LEFT JOIN {ledger} AS held ON held.key = wanted.key AND held.until > clock_timestamp()",
            uuid(1)
        )
    }

    pub(super) fn remember_again(&self) -> String {
        let Self { ledger, inbox, delivery, .. } = self;
        let (key, token, until) = (uuid(1), uuid(2), after(3));
        format!(
            "INSERT INTO {ledger} AS held (claimed, until, key, event, token, done, digest) \
             SELECT clock_timestamp(), {until}, waiting.key, waiting.event, {token}, true, delivery.digest \
             FROM {inbox} AS waiting JOIN {delivery} AS delivery ON delivery.id = waiting.id \
             WHERE waiting.key = {key} AND waiting.{UNFINISHED} \
             ON CONFLICT (key) DO UPDATE SET claimed = excluded.claimed, until = {until}, event = excluded.event, \
             token = excluded.token, done = true, digest = excluded.digest {IF_UP}"
        )
    }

    /// Runs where nothing is leased meanwhile.
    pub(super) fn revive(&self) -> String {
        let Self { inbox, delivery, ordering, .. } = self;
        let key = uuid(1);
        format!(
            "WITH revived AS (UPDATE {inbox} AS dead SET state = {READY}, due = clock_timestamp(), attempts = 0, \
             reason = NULL, retried = true, ordered = cardinality($8::bytea[]) > 0 FROM {delivery} AS old \
             WHERE dead.key = {key} AND dead.state = {DEAD} AND old.id = dead.id AND old.digest = $9::bytea \
             RETURNING dead.id), \
             remembered AS ({remember}), \
             ordered AS (INSERT INTO {ordering} (key, id) \
             SELECT encode(one, 'hex')::uuid, revived.id FROM revived, unnest($8::bytea[]) AS one) \
             UPDATE {delivery} AS new SET digest = $4::bytea, head = $6::text, ordering = {ordering_keys}, body = $7::bytea \
             FROM revived WHERE new.id = revived.id",
            remember = self.remember_if("revived", ""),
            ordering_keys = ordering_keys(8),
        )
    }
}

/// Replaces what is in the ledger only when its time is up.
const IF_UP: &str = "WHERE held.until <= clock_timestamp()";

/// An array of keys, as it lies in a column, from a parameter.
fn ordering_keys(parameter: u8) -> String {
    format!("ARRAY(SELECT encode(one, 'hex')::uuid FROM unnest(${parameter}::bytea[]) AS one)")
}

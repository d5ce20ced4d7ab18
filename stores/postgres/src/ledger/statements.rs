//! All statements on the ledger's table.
//!
//! The statements use `clock_timestamp()` rather than `now()`. A statement that has waited for a lock, or that runs in a
//! user's long transaction, must compare with the time at which it holds the row.

use crate::{
    connection::Sql,
    names::Names,
    sql::{CLAIMED, DONE, KEPT_UNTIL, after, of_event, uuid},
};

/// The statements on one ledger.
///
/// Each field's comment lists the statement's parameters in order, and its results. Keys, events and tokens are passed as
/// `bytea`, which every driver supports. The columns are `uuid`, which saves a byte in the table and eight in the index.
#[derive(Debug)]
pub(crate) struct LedgerSql {
    /// Key, event, token, digest, seconds of the lease, seconds until the end of the grace. Returns one row if the key
    /// is claimed now.
    pub(crate) claim: Sql,
    /// Key, token. Returns one row if there is an entry: whether it is done, whether it is this token's, its digest,
    /// and the seconds until it can be claimed.
    pub(crate) read: Sql,
    /// Key, token, seconds of the retention. Changes one row if the entry is this token's.
    pub(crate) complete: Sql,
    /// Keys, tokens, seconds of the lease, seconds until the end of the grace. Returns one row for each key, in order:
    /// whether the claim is this token's.
    pub(crate) renew: Sql,
    /// Key, token.
    pub(crate) release: Sql,
    /// Event, key to start after or NULL, limit. Returns rows: key, event or NULL, digest, whether the entry is done,
    /// claimed_at, until and the end of the grace or the retention.
    pub(crate) list: Sql,
    /// Start and end, key to start after or NULL, limit. Returns the rows of [`list`](Self::list).
    pub(crate) list_claimed: Sql,
    /// Event. Returns one row: the number of entries.
    pub(crate) count: Sql,
    /// Start and end. Returns one row: the number of entries.
    pub(crate) count_claimed: Sql,
    /// Event. Returns one row: the number of removed entries.
    pub(crate) forget: Sql,
    /// Start and end. Returns one row: the number of removed entries.
    pub(crate) forget_claimed: Sql,
    /// Limit. Changes the rows that it deletes.
    pub(crate) purge: Sql,
    /// No parameters. Changes the rows that it deletes.
    pub(crate) sweep: Sql,
}

impl LedgerSql {
    pub(crate) fn new(names: &Names) -> Self {
        let table = names.of("ledger");
        let holds = format!(
            "key = {key} AND token = {token} AND {KEPT_UNTIL} > clock_timestamp()",
            key = uuid(1),
            token = uuid(2),
        );
        Self {
            claim: Sql::new(claim(&table)),
            read: Sql::new(format!(
                r"
                SELECT
                    state = {DONE},
                    token = {token},
                    digest,
                    extract(epoch FROM until - clock_timestamp())::float8
                FROM {table}
                WHERE key = {key} AND until > clock_timestamp()",
                key = uuid(1),
                token = uuid(2),
            )),
            complete: Sql::new(format!(
                r"
                UPDATE {table}
                SET
                    state = {DONE},
                    until = CASE WHEN state = {DONE} THEN until ELSE {retention} END,
                    kept_until = NULL
                WHERE {holds}",
                retention = after(3),
            )),
            renew: Sql::new(renew(&table)),
            release: Sql::new(format!(
                r"
                DELETE FROM {table}
                WHERE key = {key} AND token = {token} AND state = {CLAIMED}",
                key = uuid(1),
                token = uuid(2),
            )),
            list: Sql::new(list(&table, &of_event(1), 2)),
            list_claimed: Sql::new(list(&table, CLAIMED_WITHIN, 3)),
            count: Sql::new(count(&table, &of_event(1))),
            count_claimed: Sql::new(count(&table, CLAIMED_WITHIN)),
            forget: Sql::new(forget(&table, &of_event(1))),
            forget_claimed: Sql::new(forget(&table, CLAIMED_WITHIN)),
            // Skip rows that a node is about to claim, so that neither waits for the other.
            purge: Sql::new(format!(
                r"
                DELETE FROM {table}
                WHERE ctid = ANY(ARRAY(
                    SELECT ctid
                    FROM {table}
                    WHERE {KEPT_UNTIL} <= now()
                    LIMIT $1::bigint
                    FOR UPDATE SKIP LOCKED
                ))"
            )),
            sweep: Sql::new(sweep(&table)),
        }
    }

    /// Returns the statements that are checked when the store is opened.
    pub(crate) fn each(&self) -> [&Sql; 13] {
        [
            &self.claim,
            &self.read,
            &self.complete,
            &self.renew,
            &self.release,
            &self.list,
            &self.list_claimed,
            &self.count,
            &self.count_claimed,
            &self.forget,
            &self.forget_claimed,
            &self.purge,
            &self.sweep,
        ]
    }
}

fn claim(table: &str) -> String {
    let (lease, grace) = (after(5), after(6));
    format!(
        r"
        INSERT INTO {table} AS held (claimed_at, until, kept_until, key, event_key, token, state, digest)
        SELECT
            clock_timestamp(), {lease}, {grace},
            new.key, nullif(new.event, new.key), new.token, {CLAIMED}, $4::bytea
        FROM (SELECT {key} AS key, {event} AS event, {token} AS token) AS new
        ON CONFLICT (key) DO UPDATE
        SET
            -- Renewing the token's own claim keeps the time. Taking over another claim sets it.
            claimed_at = CASE
                WHEN held.token = excluded.token AND held.state = {CLAIMED} AND held.kept_until > clock_timestamp()
                THEN held.claimed_at
                ELSE clock_timestamp()
            END,
            until = {lease},
            kept_until = {grace},
            event_key = excluded.event_key,
            token = excluded.token,
            state = {CLAIMED},
            digest = excluded.digest
        WHERE
            held.until <= clock_timestamp()
            OR (held.token = excluded.token AND held.state = {CLAIMED})
        RETURNING true",
        key = uuid(1),
        event = uuid(2),
        token = uuid(3),
    )
}

/// Returns the statement that renews many claims. It does not wait for a claim that another transaction has locked, because
/// the others could expire meanwhile. Such a claim counts as renewed if it was this token's when the statement began: the
/// transaction may be the handler's own, which completes the claim.
fn renew(table: &str) -> String {
    format!(
        r"
        WITH
        -- The claims to renew
        asked AS MATERIALIZED (
            SELECT encode(key, 'hex')::uuid AS key, encode(token, 'hex')::uuid AS token, position
            FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS asked (key, token, position)
        ),
        -- The entries that no other transaction has locked
        free AS MATERIALIZED (
            SELECT key
            FROM {table}
            WHERE key = ANY(ARRAY(SELECT key FROM asked))
            FOR UPDATE SKIP LOCKED
        ),
        renewed AS (
            UPDATE {table} AS held
            SET until = {lease}, kept_until = {grace}
            FROM asked JOIN free USING (key)
            WHERE
                held.key = asked.key
                AND held.token = asked.token
                AND held.state = {CLAIMED}
                AND held.kept_until > clock_timestamp()
            RETURNING held.key, held.token
        ),
        -- The entries that another transaction has locked, as they were when this statement began
        locked AS MATERIALIZED (
            SELECT key, token
            FROM {table}
            WHERE
                key = ANY(ARRAY(SELECT key FROM asked EXCEPT SELECT key FROM free))
                AND state = {CLAIMED}
                AND kept_until > clock_timestamp()
        )
        SELECT renewed.key IS NOT NULL OR locked.key IS NOT NULL
        FROM asked
        LEFT JOIN renewed USING (key, token)
        LEFT JOIN locked USING (key, token)
        ORDER BY asked.position",
        lease = after(3),
        grace = after(4),
    )
}

/// Holds for the entries that were claimed between the first two parameters.
const CLAIMED_WITHIN: &str = "claimed_at >= $1::timestamptz AND claimed_at < $2::timestamptz";

/// Returns the statement that lists entries in the order of their keys. The parameters from `after` on are the key to start
/// after, or NULL, and the limit. Leaves out entries that are unreadable after an edit by hand.
fn list(table: &str, which: &str, after: u8) -> String {
    format!(
        r"
        SELECT uuid_send(key), uuid_send(event_key), digest, state = {DONE}, claimed_at, until, {KEPT_UNTIL}
        FROM {table}
        WHERE
            {which}
            AND {KEPT_UNTIL} > clock_timestamp()
            AND (${after}::bytea IS NULL OR key > {key})
            AND state IN ({CLAIMED}, {DONE})
            AND octet_length(digest) = 32
            AND isfinite(claimed_at)
            AND isfinite(until)
            AND isfinite({KEPT_UNTIL})
        ORDER BY key
        LIMIT ${limit}::bigint",
        key = uuid(after),
        limit = after + 1,
    )
}

/// Returns the statement that counts the entries that [`forget`] would count.
fn count(table: &str, which: &str) -> String {
    format!(
        r"
        SELECT count(*)
        FROM {table}
        WHERE {which} AND {KEPT_UNTIL} > clock_timestamp()"
    )
}

/// Returns the statement that deletes entries. Entries that are past their retention or grace are deleted but not counted.
fn forget(table: &str, which: &str) -> String {
    format!(
        r"
        WITH forgotten AS (
            DELETE FROM {table}
            WHERE {which}
            RETURNING {KEPT_UNTIL} AS kept_until
        )
        SELECT count(*) FILTER (WHERE kept_until > clock_timestamp())
        FROM forgotten"
    )
}

/// Returns the statement that sweeps 128 blocks at a random place of the table. The range may begin before the table, so that
/// the first blocks are as likely to be swept as all others.
fn sweep(table: &str) -> String {
    format!(
        r"
        WITH slice AS MATERIALIZED (
            SELECT greatest(0, floor(random() * (size.blocks + 127))::bigint - 127) AS first
            FROM (
                SELECT pg_relation_size('{table}'::regclass) / current_setting('block_size')::bigint AS blocks
            ) AS size
        )
        DELETE FROM {table}
        WHERE ctid = ANY(ARRAY(
            SELECT ctid
            FROM {table}
            WHERE
                ctid >= (SELECT format('(%s,0)', first)::tid FROM slice)
                AND ctid < (SELECT format('(%s,0)', first + 128)::tid FROM slice)
                AND {KEPT_UNTIL} <= now()
            FOR UPDATE SKIP LOCKED
        ))"
    )
}

//! The ledger's table, and all statements on it.
//!
//! They use `clock_timestamp()` rather than `now()`. A statement that has waited for a lock, or that runs in a user's long transaction,
//! must judge by the time at which it holds the row.

use super::table_name::TableName;

/// The statements on one table.
///
/// Parameters that stand for keys, events and tokens are `bytea`, so that every driver can pass them. The columns are `uuid`, which is
/// shorter on disk: by a byte in the table and by eight in the index.
#[derive(Debug)]
pub(super) struct Sql {
    /// Creates the table. No parameters.
    pub(super) create: String,
    /// Key, event, token, digest, seconds of the lease, seconds until the end of the grace. Returns one row if the key is claimed now.
    pub(super) claim: String,
    /// Key, token. Returns one row if there is an entry: whether it is done, whether it is this token's, its digest, and the seconds
    /// until it can be claimed.
    pub(super) read: String,
    /// Key, token, seconds of the retention. Changes one row if the entry is this token's.
    pub(super) complete: String,
    /// Keys, tokens, seconds of the lease, seconds until the end of the grace. Returns one row for each key, in order: whether the claim
    /// is this token's.
    pub(super) renew: String,
    /// Key, token.
    pub(super) release: String,
    /// Event. Returns one row: how many entries were removed.
    pub(super) forget: String,
    /// Start and end. Returns one row: how many entries were removed.
    pub(super) forget_claimed: String,
    /// Limit. Changes the rows that it deletes.
    pub(super) purge: String,
    /// No parameters. Changes the rows that it deletes.
    pub(super) sweep: String,
}

/// An advisory lock that keeps two nodes from creating a table at the same time, which fails for one of them even with `IF NOT EXISTS`.
/// It can be any number that nobody else uses: these are the letters "klikit".
pub(super) const CREATE_LOCK: i64 = 0x6b6c_696b_6974;

/// The end of the time for which an entry is kept.
pub(super) const KEPT_UNTIL: &str = "coalesce(kept_until, until)";

impl Sql {
    pub(super) fn new(name: &TableName) -> Self {
        let table = name.quoted();
        let holds = format!(
            "key = {key} AND token = {token} AND {KEPT_UNTIL} > clock_timestamp()",
            key = uuid(1),
            token = uuid(2),
        );
        Self {
            create: create(name),
            claim: claim(&table),
            read: format!(
                r"
                SELECT
                    done,
                    token = {token},
                    digest,
                    extract(epoch FROM until - clock_timestamp())::float8
                FROM {table}
                WHERE key = {key} AND until > clock_timestamp()",
                key = uuid(1),
                token = uuid(2),
            ),
            complete: format!(
                r"
                UPDATE {table}
                SET
                    done = true,
                    until = CASE WHEN done THEN until ELSE {retention} END,
                    kept_until = NULL
                WHERE {holds}",
                retention = after(3),
            ),
            renew: renew(&table),
            release: format!(
                r"
                DELETE FROM {table}
                WHERE key = {key} AND token = {token} AND NOT done",
                key = uuid(1),
                token = uuid(2),
            ),
            forget: forget(&table, &format!("key = {event} OR event = {event}", event = uuid(1))),
            forget_claimed: forget(&table, "claimed >= $1::timestamptz AND claimed < $2::timestamptz"),
            // Rows that somebody is about to claim are left to them, so that neither waits for the other.
            purge: format!(
                r"
                DELETE FROM {table}
                WHERE ctid = ANY(ARRAY(
                    SELECT ctid
                    FROM {table}
                    WHERE {KEPT_UNTIL} <= now()
                    LIMIT $1::bigint
                    FOR UPDATE SKIP LOCKED
                ))"
            ),
            sweep: sweep(&table),
        }
    }

    /// The statements to check when the store is opened.
    pub(super) fn each(&self) -> [&str; 9] {
        [
            &self.claim,
            &self.read,
            &self.complete,
            &self.renew,
            &self.release,
            &self.forget,
            &self.forget_claimed,
            &self.purge,
            &self.sweep,
        ]
    }
}

/// The wide columns come first, so that nothing is lost to alignment. There is no index on `until`: every completion changes it, and an
/// update that changes no indexed column stays in its page and leaves the indexes alone.
fn create(name: &TableName) -> String {
    format!(
        r"
        SELECT pg_advisory_xact_lock({CREATE_LOCK});

        CREATE TABLE IF NOT EXISTS {table} (
            claimed timestamptz NOT NULL,
            -- claimed: end of the lease; done: end of the retention
            until timestamptz NOT NULL,
            -- claimed: end of the grace; done: NULL
            kept_until timestamptz,
            key uuid PRIMARY KEY,
            -- NULL unless the entry is a conflict, which keeps the index small
            event uuid,
            token uuid NOT NULL,
            done boolean NOT NULL,
            digest bytea NOT NULL
        ) WITH (autovacuum_vacuum_scale_factor = 0.05);

        CREATE INDEX IF NOT EXISTS {index} ON {table} (event) WHERE event IS NOT NULL",
        table = name.quoted(),
        index = name.index("_event_idx"),
    )
}

fn claim(table: &str) -> String {
    let (lease, grace) = (after(5), after(6));
    format!(
        r"
        INSERT INTO {table} AS held (claimed, until, kept_until, key, event, token, done, digest)
        SELECT
            clock_timestamp(), {lease}, {grace},
            new.key, nullif(new.event, new.key), new.token, false, $4::bytea
        FROM (SELECT {key} AS key, {event} AS event, {token} AS token) AS new
        ON CONFLICT (key) DO UPDATE
        SET
            -- The token's own claim is renewed. Any other is taken over.
            claimed = CASE
                WHEN held.token = excluded.token AND NOT held.done AND held.kept_until > clock_timestamp()
                THEN held.claimed
                ELSE clock_timestamp()
            END,
            until = {lease},
            kept_until = {grace},
            event = excluded.event,
            token = excluded.token,
            done = false,
            digest = excluded.digest
        WHERE
            held.until <= clock_timestamp()
            OR (held.token = excluded.token AND NOT held.done)
        RETURNING true",
        key = uuid(1),
        event = uuid(2),
        token = uuid(3),
    )
}

/// Renews many claims. One that another transaction has locked is not waited for, since the others would expire meanwhile. It is reported
/// as renewed if it was this token's when the statement began: the transaction may be the handler's own, which completes the claim.
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
                AND NOT held.done
                AND held.kept_until > clock_timestamp()
            RETURNING held.key, held.token
        ),
        -- The entries that another transaction has locked, as they were when this statement began
        locked AS MATERIALIZED (
            SELECT key, token
            FROM {table}
            WHERE
                key = ANY(ARRAY(SELECT key FROM asked EXCEPT SELECT key FROM free))
                AND NOT done
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

/// Entries that are past their retention or grace go too, but do not count.
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

/// Looks at 128 blocks somewhere in the table. The range may begin before the table does, so that the table's first blocks have the same
/// chance as all others.
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

/// A key from a `bytea` parameter, as it is in a column.
pub(super) fn uuid(parameter: u8) -> String {
    format!("encode(${parameter}::bytea, 'hex')::uuid")
}

/// The time that is as many seconds from now as a parameter says.
pub(super) fn after(parameter: u8) -> String {
    format!("clock_timestamp() + make_interval(secs => ${parameter}::float8)")
}

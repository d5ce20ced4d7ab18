//! The statements that lease and read deliveries.

use tower_klikit::inbox::{EXPIRED, LEASE_EXPIRED, OUTCOME_UNKNOWN};

use super::{
    states::{DEAD, LEASED, PENDING, READY},
    tables::Tables,
};
use crate::sql::after;

/// The number of a tenant's longest due deliveries with ordering keys that are examined before the heads of all queues are.
const NEAR: u32 = 500;

/// The number of a tenant's free deliveries with ordering keys that are collected, as a multiple of its share and beyond it.
/// Other tenants may have fewer than their share, and other nodes may have locked some.
const FREE_FACTOR: u32 = 3;
const FREE_MORE: u32 = 16;

/// The largest number of attempts that the column can hold. A row that was edited by hand must not make leasing fail.
const LARGEST: i32 = i32::MAX;

/// The reason of a delivery that was dead-lettered because its row in the table of contents is missing.
pub(crate) const CONTENT_MISSING: &str = "the head and the body are missing from the store";

/// The columns with the content of the leased deliveries.
#[derive(Clone, Copy)]
enum ContentColumns {
    Read,
    /// NULL, because a separate statement reads each delivery.
    Null,
}

impl Tables {
    /// Leases the deliveries that are next, and reads them.
    pub(super) fn lease(&self) -> String {
        self.lease_and(ContentColumns::Read)
    }

    /// Leases deliveries without reading their contents, some of which cannot be read.
    pub(super) fn lease_unread(&self) -> String {
        self.lease_and(ContentColumns::Null)
    }

    /// Reads the number of entries that the server has read from the indexes that leasing searches. The number may include
    /// earlier transactions. Returns 0 if the server does not count.
    pub(super) fn entries_read(&self) -> String {
        let [due, ordered] = &self.searched;
        format!(
            r"
            SELECT
                coalesce(pg_stat_get_xact_tuples_returned(to_regclass('{due}')), 0)
                + coalesce(pg_stat_get_xact_tuples_returned(to_regclass('{ordered}')), 0)"
        )
    }

    /// Reads the content of a delivery.
    pub(super) fn read_content(&self) -> String {
        let Self { inbox, body, .. } = self;
        format!("SELECT head, body, ordering_keys FROM {inbox} JOIN {body} USING (id) WHERE id = $1::bigint")
    }

    /// Returns the statement that leases.
    ///
    /// **Locks.** The statement waits for no locks. It skips deliveries that another transaction has locked before it applies
    /// the limit, so that two nodes lease different parts of a backlog. If there are deliveries both with and without
    /// ordering keys, the statement locks more than it leases. Those locks end with the transaction.
    ///
    /// **Order.** The statement sees the queues as they were when it began. That suffices: a delivery that was settled or
    /// dead-lettered by then blocks no others. A delivery with a smaller id cannot appear later, because ids follow the order
    /// of the commits. The exception is a delivery that comes back from DEAD, and nothing is leased while that happens.
    ///
    /// A row of a queue whose delivery is gone or finished blocks nothing. Triggers delete such rows, unless they were
    /// switched off. A separate subquery looks up each delivery, so that no plan reads the whole table.
    ///
    /// **Sharing.** The deliveries of each tenant are searched by themselves. A tenant's share is the number of places that it
    /// has among the first ones, if each tenant's due deliveries take turns. The statement locks no more than the share.
    ///
    /// **Searches.** The searches begin at a floor, if there is one. Deliveries with ordering keys are searched among the
    /// longest due ones, of which usually enough are free. If too many of a tenant are blocked, for example behind a delivery
    /// that keeps failing, the head of each queue is examined instead. The time for this grows with the number of keys, not
    /// of deliveries.
    fn lease_and(&self, columns_of_content: ContentColumns) -> String {
        let Self { inbox, body, queue, attempt, tenant, pause, .. } = self;
        let is_due = format!("{PENDING} AND due <= statement_timestamp()");
        let is_not_paused = "(event_type IS NULL OR event_type <> ALL (turns.paused_types))";
        let of_turn = |keys: &str, floor: u8| {
            format!(
                r"{is_due}
                        AND ordering_keys {keys}
                        AND tenant = turns.tenant
                        AND due >= coalesce(${floor}::timestamptz, '-infinity')
                        AND {is_not_paused}"
            )
        };
        let (is_loose, is_ordered) = (of_turn("IS NULL", 7), of_turn("IS NOT NULL", 8));
        let has_died = format!("state = {LEASED} AND attempts >= $3::bigint");
        let is_pending = |row: &str| format!("(SELECT {PENDING} FROM {inbox} AS queued WHERE queued.id = {row}.id)");
        let rivals = format!("SELECT FROM {queue} AS mine JOIN {queue} AS other USING (ordering_key)");
        let is_free = format!(
            r"(
                    ({has_died})
                    OR (
                        -- No earlier delivery shares a key
                        NOT EXISTS (
                            {rivals}
                            WHERE mine.id = one.id AND other.id < mine.id AND {other_is_pending}
                        )
                        -- No later delivery that shares a key is leased. That happens only if this delivery was DEAD, and
                        -- then its token is not 0.
                        AND (
                            token = 0
                            OR NOT EXISTS (
                                {rivals}
                                JOIN {inbox} AS rival ON rival.id = other.id
                                WHERE
                                    mine.id = one.id
                                    AND other.id > mine.id
                                    AND rival.state = {LEASED}
                                    AND rival.due > statement_timestamp()
                            )
                        )
                    )
                )",
            other_is_pending = is_pending("other"),
        );
        // Counting is left out if there is one tenant: it has all places.
        let count = |is_of_turn: &str| {
            format!(
                r"CASE
                        WHEN (SELECT count(*) FROM tenants) = 1 THEN $1::bigint
                        ELSE (
                            SELECT count(*)
                            FROM (SELECT FROM {inbox} WHERE {is_of_turn} LIMIT $1::bigint) AS due
                        )
                    END"
            )
        };
        let share =
            |places: &str| format!("(SELECT count(*) FROM {places} AS place WHERE place.tenant = turns.tenant)");
        let columns = "id, due, tenant, state, attempts, token, started_at, worker";
        let lock = |ids: &str| {
            // A subquery for each id keeps the order of the ids, and locks no more than the limit.
            format!(
                r"
                SELECT locked.*
                FROM {ids} AS found
                CROSS JOIN LATERAL (
                    SELECT {columns}
                    FROM {inbox}
                    WHERE id = found.id AND {is_due}
                    FOR UPDATE SKIP LOCKED
                ) AS locked
                LIMIT $1::bigint"
            )
        };
        let (content, is_missing) = match columns_of_content {
            ContentColumns::Read => {
                (format!("LEFT JOIN {body} AS content ON content.id = first.id"), "content.id IS NULL")
            }
            ContentColumns::Null => {
                ("CROSS JOIN (SELECT NULL::text AS head, NULL::bytea AS body) AS content".to_owned(), "false")
            }
        };
        let ordering_keys = match columns_of_content {
            ContentColumns::Read => "one.ordering_keys",
            ContentColumns::Null => "NULL::text[] AS ordering_keys",
        };
        format!(
            r"
            WITH RECURSIVE
            -- The leases whose handlers the calling process still runs
            held AS MATERIALIZED (
                SELECT id, token
                FROM unnest($4::bigint[], $5::bigint[]) AS held (id, token)
            ),
            -- The tenants that are not paused, in a random order
            tenants AS MATERIALIZED (
                SELECT
                    tenant,
                    random() AS draw,
                    ARRAY(
                        SELECT event_type
                        FROM {pause} AS pause
                        WHERE event_type IS NOT NULL AND (pause.tenant IS NULL OR pause.tenant = known.tenant)
                    ) AS paused_types
                FROM {tenant} AS known
                WHERE NOT EXISTS (
                    SELECT
                    FROM {pause} AS pause
                    WHERE event_type IS NULL AND (pause.tenant IS NULL OR pause.tenant = known.tenant)
                )
            ),
            held_of_tenants AS MATERIALIZED (
                SELECT tenant, count(*) AS held
                FROM {inbox}
                WHERE id = ANY($4::bigint[]) AND (SELECT count(*) FROM tenants) > 1
                GROUP BY tenant
            ),
            -- The numbers of each tenant's held and due deliveries
            turns AS MATERIALIZED (
                SELECT
                    turns.*,
                    {loose_count} AS loose,
                    {ordered_count} AS ordered,
                    -- Also if it is blocked
                    (
                        SELECT due
                        FROM {inbox}
                        WHERE {is_ordered}
                        ORDER BY due, id
                        LIMIT 1
                    ) AS first_ordered
                FROM (
                    SELECT tenants.*, coalesce(held, 0) AS held
                    FROM tenants
                    LEFT JOIN held_of_tenants USING (tenant)
                ) AS turns
            ),
            -- The tenants that have the first places, without and with ordering keys
            loose_places AS MATERIALIZED (
                SELECT tenant
                FROM turns, generate_series(1, loose) AS place
                ORDER BY held + place, draw
                LIMIT $1::bigint
            ),
            ordered_places AS MATERIALIZED (
                SELECT tenant
                FROM turns, generate_series(1, ordered) AS place
                ORDER BY held + place, draw
                LIMIT $1::bigint
            ),
            -- Deliveries without ordering keys
            loose AS MATERIALIZED (
                SELECT found.*
                FROM turns
                CROSS JOIN LATERAL (
                    SELECT {columns}
                    FROM {inbox}
                    WHERE {is_loose}
                    ORDER BY due, id
                    LIMIT {loose_share}
                    FOR UPDATE SKIP LOCKED
                ) AS found
            ),
            -- The free ones of the longest due deliveries with ordering keys, in the order of their places
            free AS MATERIALIZED (
                SELECT turns.tenant, found.id
                FROM turns
                CROSS JOIN LATERAL (
                    SELECT id, row_number() OVER (ORDER BY due, id) AS place
                    FROM (
                        SELECT id, due, state, attempts, token
                        FROM {inbox}
                        WHERE {is_ordered}
                        ORDER BY due, id
                        LIMIT {NEAR}
                    ) AS one
                    WHERE {is_free}
                    ORDER BY due, id
                    LIMIT {FREE_FACTOR} * {ordered_share} + {FREE_MORE}
                ) AS found
                WHERE ordered > 0
                ORDER BY held + place, draw
            ),
            near_and_free AS MATERIALIZED ({near}
            ),
            -- The tenants of which too few were found, although there may be more
            blocked AS MATERIALIZED (
                SELECT tenant, paused_types
                FROM turns
                WHERE
                    ordered > 0
                    AND (SELECT count(*) FROM near_and_free AS near WHERE near.tenant = turns.tenant) < {ordered_share}
                    AND (
                        SELECT count(*)
                        FROM (SELECT FROM {inbox} WHERE {is_ordered} LIMIT {NEAR}) AS near
                    ) = {NEAR}
            ),
            -- The head of each queue, if there are such tenants
            heads AS (
                (
                    SELECT ordering_key, id
                    FROM {queue} AS first
                    WHERE EXISTS (SELECT FROM blocked) AND {first_is_pending}
                    ORDER BY ordering_key, id
                    LIMIT 1
                )
                UNION ALL
                SELECT next.ordering_key, next.id
                FROM heads, LATERAL (
                    SELECT ordering_key, id
                    FROM {queue} AS later
                    WHERE later.ordering_key > heads.ordering_key AND {later_is_pending}
                    ORDER BY ordering_key, id
                    LIMIT 1
                ) AS next
            ),
            -- The free ones of these tenants among the heads
            free_heads AS MATERIALIZED (
                SELECT id
                FROM {inbox} AS one
                WHERE
                    id IN (SELECT id FROM heads EXCEPT SELECT id FROM near_and_free)
                    AND {is_due}
                    AND EXISTS (
                        SELECT FROM blocked AS turns WHERE turns.tenant = one.tenant AND {is_not_paused}
                    )
                    AND {is_free}
                ORDER BY due, id
            ),
            far_and_free AS MATERIALIZED ({far}
            ),
            -- All found deliveries, with their ranks. Held leases are left out. One can be found only if it was locked when
            -- this transaction tried to extend it.
            ranked AS (
                SELECT
                    found.*,
                    draw,
                    held + count(*) FILTER (WHERE NOT ({has_died})) OVER (PARTITION BY found.tenant ORDER BY due, id)
                        AS rank
                FROM (
                    SELECT {columns} FROM loose
                    UNION ALL
                    SELECT {columns} FROM near_and_free
                    UNION ALL
                    SELECT {columns} FROM far_and_free
                ) AS found
                JOIN turns ON turns.tenant = found.tenant
                WHERE NOT EXISTS (SELECT FROM held WHERE held.id = found.id AND held.token = found.token)
            ),
            -- The first ones, and their positions among those that are not dead-lettered
            first AS MATERIALIZED (
                SELECT *
                FROM (
                    SELECT
                        ranked.*,
                        row_number() OVER by_rank AS turn,
                        count(*) FILTER (WHERE NOT ({has_died})) OVER by_rank AS position
                    FROM ranked
                    WINDOW by_rank AS (ORDER BY rank, draw, due, id)
                ) AS ordered
                ORDER BY turn
                LIMIT $1::bigint
            ),
            -- Their contents, the reasons of those that are dead-lettered, and whether their attempts count now. A delivery
            -- whose lease has expired, or that has no attempts left, is leased for a free handler only.
            chosen AS MATERIALIZED (
                SELECT
                    first.*,
                    content.head,
                    content.body,
                    CASE
                        WHEN {has_died} THEN '{LEASE_EXPIRED}'
                        WHEN {is_missing} THEN '{CONTENT_MISSING}'
                    END AS dead_because,
                    first.id = ANY($4::bigint[]) AS is_continued,
                    position <= $6::bigint
                        AND state = {READY}
                        AND attempts < least($3::bigint - 1, {LARGEST})
                        AND first.id <> ALL($4::bigint[]) AS is_counted
                FROM first
                {content}
                WHERE position <= $6::bigint OR (state = {READY} AND attempts < $3::bigint) OR ({has_died})
            ),
            dead AS (
                UPDATE {inbox} AS one
                SET state = {DEAD}, reason = chosen.dead_because
                FROM chosen
                WHERE one.id = chosen.id AND chosen.dead_because IS NOT NULL
            ),
            leased AS (
                UPDATE {inbox} AS one
                SET
                    state = {LEASED},
                    due = {until},
                    token = one.token + 1,
                    attempts = one.attempts + chosen.is_counted::integer,
                    -- An attempt that is counted opens. A running handler that continues keeps its open attempt.
                    started_at = CASE
                        WHEN chosen.is_counted THEN clock_timestamp()
                        WHEN chosen.is_continued THEN one.started_at
                    END,
                    worker = CASE
                        WHEN chosen.is_counted THEN $9::text
                        WHEN chosen.is_continued THEN one.worker
                    END
                FROM chosen
                WHERE one.id = chosen.id AND chosen.dead_because IS NULL
                RETURNING one.id, one.token, one.attempts, {ordering_keys}, one.accepted_at, one.reason
            ),
            -- The attempts whose outcomes are unknown. That of a dead letter stays open too: its worker may still report it.
            unknown AS (
                INSERT INTO {attempt} (id, attempt, worker, started_at, reason)
                SELECT id, greatest(attempts, 1), worker, started_at, '{OUTCOME_UNKNOWN}'
                FROM chosen
                WHERE started_at IS NOT NULL AND (dead_because IS NOT NULL OR NOT is_continued)
                ON CONFLICT DO NOTHING
            )
            SELECT
                answer.*,
                (SELECT nullif(min(due), '-infinity') FROM loose),
                (SELECT nullif(min(first_ordered), '-infinity') FROM turns),
                statement_timestamp(),
                (SELECT count(*) || ' ' || coalesce(max(id), 0) FROM {pause})
            FROM (SELECT) AS always
            LEFT JOIN (
                SELECT
                    chosen.id,
                    leased.token,
                    -- A handler that the calling process still runs continues with the new lease: no attempt begins
                    CASE
                        WHEN leased.id IS NULL THEN chosen.attempts
                        WHEN chosen.is_counted OR chosen.is_continued THEN leased.attempts
                        ELSE least(leased.attempts, {LARGEST} - 1) + 1
                    END,
                    chosen.head,
                    CASE WHEN leased.id IS NOT NULL THEN chosen.body END,
                    leased.ordering_keys,
                    chosen.state = {LEASED},
                    chosen.dead_because,
                    chosen.is_counted,
                    extract(epoch FROM clock_timestamp() - leased.accepted_at)::float8,
                    leased.reason IS NOT DISTINCT FROM '{EXPIRED}',
                    chosen.turn
                FROM chosen
                LEFT JOIN leased ON leased.id = chosen.id
            ) AS answer ON true
            ORDER BY answer.turn",
            loose_count = count(&is_loose),
            ordered_count = count(&is_ordered),
            loose_share = share("loose_places"),
            ordered_share = share("ordered_places"),
            near = lock("free"),
            far = lock("free_heads"),
            first_is_pending = is_pending("first"),
            later_is_pending = is_pending("later"),
            until = after(2),
        )
    }
}

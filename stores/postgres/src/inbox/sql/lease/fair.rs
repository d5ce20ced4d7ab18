//! The search among all tenants, with ordering keys and pauses.

use super::{COLUMNS, Search, has_died, is_due};
use crate::inbox::sql::{
    states::{LEASED, PENDING},
    tables::Tables,
};

/// The number of a tenant's longest due deliveries with ordering keys that are examined before the heads of all queues are.
const NEAR: u32 = 500;

/// The number of a tenant's free deliveries with ordering keys that are collected, as a multiple of its share and beyond it.
/// Other tenants may have fewer than their share, and other nodes may have locked some.
const FREE_FACTOR: u32 = 3;
const FREE_MORE: u32 = 16;

impl Tables {
    /// Returns the search that finds due deliveries in every case.
    ///
    /// **Locks.** If there are deliveries both with and without ordering keys, the search locks more than the limit. These
    /// locks end with the transaction.
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
    /// **Ordering keys.** Deliveries with ordering keys are searched among the longest due ones, of which usually enough are
    /// free. If too many of a tenant are blocked, for example behind a delivery that keeps failing, the head of each queue is
    /// examined instead. The time for this grows with the number of keys, not of deliveries.
    pub(super) fn search_fairly(&self) -> Search {
        let Self { inbox, queue, tenant, pause, .. } = self;
        let (is_due, has_died) = (is_due(), has_died());
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
        let lock = |ids: &str| {
            // A subquery for each id keeps the order of the ids, and locks no more than the limit.
            format!(
                r"
                SELECT locked.*
                FROM {ids} AS found
                CROSS JOIN LATERAL (
                    SELECT {COLUMNS}
                    FROM {inbox}
                    WHERE id = found.id AND {is_due}
                    FOR UPDATE SKIP LOCKED
                ) AS locked
                LIMIT $1::bigint"
            )
        };
        let tables = format!(
            r"
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
                    SELECT {COLUMNS}
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
                    SELECT {COLUMNS} FROM loose
                    UNION ALL
                    SELECT {COLUMNS} FROM near_and_free
                    UNION ALL
                    SELECT {COLUMNS} FROM far_and_free
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
            ),",
            loose_count = count(&is_loose),
            ordered_count = count(&is_ordered),
            loose_share = share("loose_places"),
            ordered_share = share("ordered_places"),
            near = lock("free"),
            far = lock("free_heads"),
            first_is_pending = is_pending("first"),
            later_is_pending = is_pending("later"),
        );
        Search {
            tables,
            first_ordered: "(SELECT nullif(min(first_ordered), '-infinity') FROM turns)",
            is_complete: "true",
        }
    }
}

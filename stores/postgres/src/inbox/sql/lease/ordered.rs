//! The search for deliveries with ordering keys.

use super::search::{COLUMNS, IS_NOT_PAUSED, has_died, is_due, is_ordered, share};
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
    /// Returns the table expressions of the deliveries with ordering keys: `near_and_free` and `far_and_free`.
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
    /// **Heads.** Deliveries are searched among the longest due ones, of which usually enough are free. If too many of a
    /// tenant are blocked, for example behind a delivery that keeps failing, the head of each queue is examined instead. The
    /// time for this grows with the number of keys, not of deliveries.
    pub(super) fn ordered(&self) -> String {
        let Self { inbox, queue, .. } = self;
        let (is_due, has_died, is_ordered) = (is_due(), has_died(), is_ordered());
        let is_pending = |row: &str| format!("(SELECT {PENDING} FROM {inbox} AS queued WHERE queued.id = {row}.id)");
        let sharing = format!("SELECT FROM {queue} AS mine JOIN {queue} AS other USING (ordering_key)");
        let is_free = format!(
            r"(
                    ({has_died})
                    OR (
                        -- No earlier delivery shares a key
                        NOT EXISTS (
                            {sharing}
                            WHERE mine.id = one.id AND other.id < mine.id AND {other_is_pending}
                        )
                        -- No later delivery that shares a key is leased. That happens only if this delivery was DEAD, and
                        -- then its token is not 0.
                        AND (
                            token = 0
                            OR NOT EXISTS (
                                {sharing}
                                JOIN {inbox} AS later ON later.id = other.id
                                WHERE
                                    mine.id = one.id
                                    AND other.id > mine.id
                                    AND later.state = {LEASED}
                                    AND later.due > statement_timestamp()
                            )
                        )
                    )
                )",
            other_is_pending = is_pending("other"),
        );
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
        format!(
            r"
            -- The tenants that have the first places
            ordered_places AS MATERIALIZED (
                SELECT tenant
                FROM turns, generate_series(1, ordered) AS place
                ORDER BY held + place, draw
                LIMIT $1::bigint
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
                    LIMIT {FREE_FACTOR} * {share} + {FREE_MORE}
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
                    AND (SELECT count(*) FROM near_and_free AS near WHERE near.tenant = turns.tenant) < {share}
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
                        SELECT FROM blocked AS turns WHERE turns.tenant = one.tenant AND {IS_NOT_PAUSED}
                    )
                    AND {is_free}
                ORDER BY due, id
            ),
            far_and_free AS MATERIALIZED ({far}
            ),",
            share = share("ordered_places"),
            near = lock("free"),
            far = lock("free_heads"),
            first_is_pending = is_pending("first"),
            later_is_pending = is_pending("later"),
        )
    }
}

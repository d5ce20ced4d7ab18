//! The statements that lease and read deliveries.

use tower_klikit::inbox::LEASE_EXPIRED;

use super::{
    states::{DEAD, LEASED, PENDING, READY},
    tables::Tables,
};
use crate::sql::after;

/// The number of longest due deliveries with ordering keys that are examined before the heads of all queues are.
const NEAR: u32 = 500;

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
    /// Leases the deliveries that have been due for longest, and reads them.
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
    /// **Searches.** The searches begin at a floor, if there is one. Deliveries with ordering keys are searched among the
    /// longest due ones, of which usually enough are free. If too many are blocked, for example behind a delivery that keeps
    /// failing, the head of each queue is examined instead. The time for this grows with the number of keys, not of
    /// deliveries.
    fn lease_and(&self, columns_of_content: ContentColumns) -> String {
        let Self { inbox, body, queue, .. } = self;
        let is_due = format!("{PENDING} AND due <= statement_timestamp()");
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
        let columns = "id, due, state, attempts, token";
        let (content, is_missing) = match columns_of_content {
            ContentColumns::Read => {
                (format!("LEFT JOIN {body} AS content ON content.id = longest_due.id"), "content.id IS NULL")
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
            -- Deliveries without ordering keys
            loose AS MATERIALIZED (
                SELECT {columns}
                FROM {inbox}
                WHERE {is_due} AND ordering_keys IS NULL AND due >= coalesce($7::timestamptz, '-infinity')
                ORDER BY due, id
                LIMIT $1::bigint
                FOR UPDATE SKIP LOCKED
            ),
            -- The longest due deliveries with ordering keys
            near AS MATERIALIZED (
                SELECT id, due, state, attempts, token
                FROM {inbox}
                WHERE {is_due} AND ordering_keys IS NOT NULL AND due >= coalesce($8::timestamptz, '-infinity')
                ORDER BY due, id
                LIMIT {NEAR}
            ),
            -- The free deliveries among them
            free AS MATERIALIZED (
                SELECT id
                FROM near AS one
                WHERE {is_free}
            ),
            near_and_free AS MATERIALIZED (
                SELECT {columns}
                FROM {inbox}
                WHERE {is_due} AND id = ANY(ARRAY(SELECT id FROM free))
                ORDER BY due, id
                LIMIT $1::bigint
                FOR UPDATE SKIP LOCKED
            ),
            -- The head of each queue, if too few deliveries were found and there may be more
            heads AS (
                (
                    SELECT ordering_key, id
                    FROM {queue} AS first
                    WHERE
                        (SELECT count(*) FROM near) = {NEAR}
                        AND (SELECT count(*) FROM near_and_free) < $1::bigint
                        AND {first_is_pending}
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
            -- The free ones among the heads
            free_heads AS MATERIALIZED (
                SELECT id
                FROM {inbox} AS one
                WHERE
                    id IN (SELECT id FROM heads EXCEPT SELECT id FROM near_and_free)
                    AND {is_due}
                    AND {is_free}
            ),
            far_and_free AS MATERIALIZED (
                SELECT {columns}
                FROM {inbox}
                WHERE {is_due} AND id = ANY(ARRAY(SELECT id FROM free_heads))
                ORDER BY due, id
                LIMIT $1::bigint
                FOR UPDATE SKIP LOCKED
            ),
            -- The longest due of all found deliveries, and their positions among those that are not dead-lettered. Held
            -- leases are left out. One can be found only if it was locked when this transaction tried to extend it.
            longest_due AS MATERIALIZED (
                SELECT {columns}, count(*) FILTER (WHERE NOT ({has_died})) OVER (ORDER BY due, id) AS position
                FROM (
                    SELECT {columns} FROM loose
                    UNION ALL
                    SELECT {columns} FROM near_and_free
                    UNION ALL
                    SELECT {columns} FROM far_and_free
                ) AS found
                WHERE NOT EXISTS (SELECT FROM held WHERE held.id = found.id AND held.token = found.token)
                ORDER BY due, id
                LIMIT $1::bigint
            ),
            -- Their contents, the reasons of those that are dead-lettered, and whether their attempts count now. A delivery
            -- whose lease has expired, or that has no attempts left, is leased for a free handler only.
            chosen AS MATERIALIZED (
                SELECT
                    longest_due.*,
                    content.head,
                    content.body,
                    CASE
                        WHEN {has_died} THEN '{LEASE_EXPIRED}'
                        WHEN {is_missing} THEN '{CONTENT_MISSING}'
                    END AS dead_because,
                    longest_due.id = ANY($4::bigint[]) AS is_continued,
                    position <= $6::bigint
                        AND state = {READY}
                        AND attempts < least($3::bigint - 1, {LARGEST})
                        AND longest_due.id <> ALL($4::bigint[]) AS is_counted
                FROM longest_due
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
                    attempts = one.attempts + chosen.is_counted::integer
                FROM chosen
                WHERE one.id = chosen.id AND chosen.dead_because IS NULL
                RETURNING one.id, one.token, one.attempts, {ordering_keys}
            )
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
                (SELECT nullif(min(due), '-infinity') FROM loose),
                (SELECT nullif(min(due), '-infinity') FROM near)
            FROM chosen
            LEFT JOIN leased ON leased.id = chosen.id
            ORDER BY chosen.due, chosen.id",
            first_is_pending = is_pending("first"),
            later_is_pending = is_pending("later"),
            until = after(2),
        )
    }
}

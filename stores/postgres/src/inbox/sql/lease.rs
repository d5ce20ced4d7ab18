//! The statements that lease deliveries, and that read them.

use tower_klikit::inbox::LEASE_EXPIRED;

use super::{
    states::{DEAD, LEASED, READY, UNFINISHED},
    tables::Tables,
};
use crate::sql::after;

/// How many of the longest due deliveries with ordering keys are examined before the heads of all queues are.
const NEAR: u32 = 500;

/// The largest number of attempts that the column holds. A row edited by hand must not make leasing fail.
const LARGEST: i32 = i32::MAX;

/// The reason of a delivery that was dead-lettered because its row in the table of contents is missing.
pub(crate) const CONTENT_MISSING: &str = "its head and its body are missing from the store";

/// Whether the statement that leases deliveries reads them as well.
#[derive(Clone, Copy)]
enum Reading {
    Together,
    /// Each delivery is read by a statement of its own.
    Apart,
}

impl Tables {
    /// Leases the deliveries that have been due for longest, and reads them.
    pub(super) fn lease(&self) -> String {
        self.lease_and(Reading::Together)
    }

    /// Leases deliveries without touching their contents, of which some cannot be read.
    pub(super) fn lease_unread(&self) -> String {
        self.lease_and(Reading::Apart)
    }

    /// Reads how many entries the server has read in the indexes that leasing searches, in this transaction and perhaps
    /// some before it. Returns 0 if the server does not count.
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

    /// The statement waits for nothing. It leaves out deliveries that another transaction has locked before it counts
    /// the limit, so that two nodes that share a backlog find different parts of it. Where there are deliveries both
    /// with and without ordering keys, it locks more than it leases. Those locks end with the transaction.
    ///
    /// The statement sees the queues as they were when it began, which is enough. A delivery that was settled or
    /// dead-lettered by then no longer blocks others. None with a smaller id can appear later, because ids are given in
    /// the order of the commits, except those that come back from DEAD, and nothing is leased while that happens.
    ///
    /// A row of a queue whose delivery is gone or finished blocks nothing. Triggers delete such rows, unless they were
    /// switched off. Each delivery is looked up by a subquery of its own, which no plan can turn into reading the table.
    ///
    /// The searches begin at a floor, if there is one.
    ///
    /// Deliveries with ordering keys are searched among the longest due, where mostly enough are free. If too many of
    /// these are blocked, as behind a delivery that fails again and again, the head of each queue is examined instead.
    /// The time for this grows with the number of keys, not of deliveries.
    fn lease_and(&self, reading: Reading) -> String {
        let Self { inbox, body, queue, .. } = self;
        let is_due = format!("{UNFINISHED} AND due <= statement_timestamp()");
        let has_died = format!("state = {LEASED} AND attempts >= $3::bigint");
        let is_pending = |row: &str| format!("(SELECT {UNFINISHED} FROM {inbox} AS queued WHERE queued.id = {row}.id)");
        let rivals = format!("SELECT FROM {queue} AS mine JOIN {queue} AS other USING (ordering_key)");
        let is_free = format!(
            r"(
                    ({has_died})
                    OR (
                        -- no earlier delivery shares a key
                        NOT EXISTS (
                            {rivals}
                            WHERE mine.id = one.id AND other.id < mine.id AND {other_is_pending}
                        )
                        -- and no later one that does is leased, as may be if this one was DEAD: then its token is not 0
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
        let (content, is_missing) = match reading {
            Reading::Together => {
                (format!("LEFT JOIN {body} AS content ON content.id = longest_due.id"), "content.id IS NULL")
            }
            Reading::Apart => {
                ("CROSS JOIN (SELECT NULL::text AS head, NULL::bytea AS body) AS content".to_owned(), "false")
            }
        };
        let ordering_keys = match reading {
            Reading::Together => "one.ordering_keys",
            Reading::Apart => "NULL::text[] AS ordering_keys",
        };
        format!(
            r"
            WITH RECURSIVE
            -- The leases whose handlers the calling process is still running
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
            -- The free ones among them
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
            -- The head of each queue, if there may be more deliveries and too few were found
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
            -- The longest due of all that were found, and their positions among those that are not dead-lettered. A lease
            -- that is held is among them only if it was locked while this transaction was about to extend it.
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
            -- Their contents, why they are dead-lettered, if they are, and whether their attempts count now. A delivery
            -- whose lease has expired, or that has had all its attempts, is leased for a free handler only.
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
                -- A delivery that the calling process is still running goes on with the new lease: no attempt begins
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

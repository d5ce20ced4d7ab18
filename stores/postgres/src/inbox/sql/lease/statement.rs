//! The statements that lease and read deliveries.

use tower_klikit::inbox::{EXPIRED, LEASE_EXPIRED, OUTCOME_UNKNOWN};

use super::search::{Search, has_died};
use crate::{
    inbox::sql::{
        states::{DEAD, LEASED, READY},
        tables::Tables,
    },
    sql::after,
};

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
    pub(crate) fn lease(&self) -> String {
        self.lease_found(&self.search_all(), ContentColumns::Read)
    }

    /// Leases the deliveries that are next, and reads them, if none with ordering keys are due.
    pub(crate) fn lease_loose(&self) -> String {
        self.lease_found(&self.search_loose(), ContentColumns::Read)
    }

    /// Leases deliveries without reading their contents, some of which cannot be read.
    pub(crate) fn lease_unread(&self) -> String {
        self.lease_found(&self.search_all(), ContentColumns::Null)
    }

    /// Reads the number of entries that the server has read from the indexes that leasing searches. The number may include
    /// earlier transactions. Returns 0 if the server does not count.
    pub(crate) fn entries_read(&self) -> String {
        let [due, ordered] = &self.searched;
        format!(
            r"
            SELECT
                coalesce(pg_stat_get_xact_tuples_returned(to_regclass('{due}')), 0)
                + coalesce(pg_stat_get_xact_tuples_returned(to_regclass('{ordered}')), 0)"
        )
    }

    /// Reads the content of a delivery.
    pub(crate) fn read_content(&self) -> String {
        let Self { inbox, body, .. } = self;
        format!("SELECT head, body, ordering_keys FROM {inbox} JOIN {body} USING (id) WHERE id = $1::bigint")
    }

    /// Returns the statement that leases what a search finds.
    fn lease_found(&self, search: &Search, columns_of_content: ContentColumns) -> String {
        let Self { inbox, body, attempt, pause, .. } = self;
        let Search { tables, is_complete } = search;
        let has_died = has_died();
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
            ),{tables}
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
                (SELECT count(*) || ' ' || coalesce(max(id), 0) FROM {pause}),
                {is_complete}
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
            until = after(2),
        )
    }
}

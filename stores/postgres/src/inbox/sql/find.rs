//! The statements that find and show deliveries.

use super::{states::DEAD, tables::Tables};

/// The columns of the row `stored` that a search examines, besides the id.
const LABELS: &str = "stored.state, stored.accepted_at, stored.attempts, stored.reason, stored.tenant, \
    stored.event_id, stored.event_type";

/// The columns of an entry, of the rows `stored` and `content`.
const ENTRY: &str = "stored.id, stored.state, stored.accepted_at, content.head, stored.attempts, stored.reason, \
    content.digest, extract(epoch FROM statement_timestamp() - stored.accepted_at)::float8 AS age, \
    content.body IS NOT NULL AS has_body, content.branch, content.orders";

impl Tables {
    /// Lists the deliveries that a filter selects among the next `$2`. Returns one row for each, and at least one row. A row
    /// has the last examined id, the number of examined deliveries, and the columns of a delivery, or NULLs.
    pub(super) fn find(&self) -> String {
        self.find_in_inbox("true")
    }

    /// Lists only DEAD deliveries, which have an index.
    pub(super) fn find_dead(&self) -> String {
        self.find_in_inbox(&format!("state = {DEAD}"))
    }

    /// Lists only the delivery with an id.
    pub(super) fn find_id(&self) -> String {
        self.find_in_inbox("id = $10::bigint")
    }

    /// Lists only the deliveries of an event.
    pub(super) fn find_event_id(&self) -> String {
        self.find_by_term("", &format!("SELECT id FROM {} WHERE event = $5::text", self.body))
    }

    /// Lists only the deliveries that contain an order. Their index has no order, so this finds all of them first.
    pub(super) fn find_order(&self) -> String {
        let of_order = format!(
            r"
            of_order AS MATERIALIZED (
                SELECT id FROM {body} WHERE orders @> ARRAY[$12::text]
            ),",
            body = self.body,
        );
        self.find_by_term(&of_order, "SELECT id FROM of_order WHERE true")
    }

    /// Lists only the deliveries of a branch.
    pub(super) fn find_branch(&self) -> String {
        self.find_by_term("", &format!("SELECT id FROM {} WHERE branch = $13::text", self.body))
    }

    fn find_in_inbox(&self, condition: &str) -> String {
        let examined = format!(
            r"
                SELECT id, {LABELS}
                FROM {inbox} AS stored
                WHERE {condition} AND id > $1::bigint
                ORDER BY id
                LIMIT $2::bigint",
            inbox = self.inbox,
        );
        self.find_among("", &examined)
    }

    fn find_by_term(&self, before: &str, found: &str) -> String {
        let examined = format!(
            r"
                SELECT found.id, {LABELS}
                FROM (
                    {found} AND id > $1::bigint
                    ORDER BY id
                    LIMIT $2::bigint
                ) AS found
                LEFT JOIN {inbox} AS stored ON stored.id = found.id",
            inbox = self.inbox,
        );
        self.find_among(before, &examined)
    }

    /// Returns the statement that lists deliveries among those that `examined` selects. The other conditions are outside of it,
    /// so that one call examines a bounded number.
    fn find_among(&self, before: &str, examined: &str) -> String {
        let Self { body, .. } = self;
        format!(
            r"
            WITH{before}
            examined AS MATERIALIZED ({examined}
            ),
            selected AS (
                SELECT {ENTRY}
                FROM examined AS stored
                LEFT JOIN {body} AS content ON content.id = stored.id
                WHERE
                    stored.state IS NOT NULL
                    AND ($3::smallint[] IS NULL OR stored.state = ANY ($3::smallint[]))
                    AND ($4::text IS NULL OR stored.tenant = $4::text)
                    AND ($5::text IS NULL OR stored.event_id = $5::text)
                    AND ($6::bytea IS NULL OR content.digest = $6::bytea)
                    AND ($7::timestamptz IS NULL OR stored.accepted_at >= $7::timestamptz)
                    AND ($8::timestamptz IS NULL OR stored.accepted_at < $8::timestamptz)
                    AND ($10::bigint IS NULL OR stored.id = $10::bigint)
                    AND ($11::text IS NULL OR stored.event_type = $11::text)
                    AND ($12::text IS NULL OR content.orders @> ARRAY[$12::text])
                    AND ($13::text IS NULL OR content.branch = $13::text)
                    AND ($14::text IS NULL OR strpos(stored.reason, $14::text) > 0)
                    AND ($15::bigint IS NULL OR stored.attempts BETWEEN $15::bigint AND $16::bigint)
                    AND ($17::float8 IS NULL OR stored.accepted_at <= {min_age})
                    AND ($18::float8 IS NULL OR stored.accepted_at > {max_age})
                ORDER BY stored.id
                LIMIT $9::bigint
            )
            SELECT last.id, last.count, selected.*
            FROM (SELECT max(id) AS id, count(*) AS count FROM examined) AS last
            LEFT JOIN selected ON true
            ORDER BY selected.id",
            min_age = "statement_timestamp() - make_interval(secs => $17::float8)",
            max_age = "statement_timestamp() - make_interval(secs => $18::float8)",
        )
    }

    pub(super) fn show(&self) -> String {
        let Self { inbox, body, .. } = self;
        format!(
            r"
            SELECT
                {ENTRY},
                CASE WHEN $2::boolean THEN content.body END,
                stored.started_at,
                stored.worker
            FROM {inbox} AS stored
            LEFT JOIN {body} AS content ON content.id = stored.id
            WHERE stored.id = $1::bigint"
        )
    }

    /// Reads the records of a delivery's last attempts, latest first.
    pub(super) fn read_records(&self) -> String {
        let Self { attempt, .. } = self;
        format!(
            r"
            SELECT attempt, worker, started_at, ended_at, status, reason
            FROM {attempt}
            WHERE id = $1::bigint
            ORDER BY started_at DESC
            LIMIT $2::bigint"
        )
    }
}

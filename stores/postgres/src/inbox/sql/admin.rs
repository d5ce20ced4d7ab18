//! The statements of admin calls, and those that count and purge.

use super::{
    states::{DEAD, DONE, LEASED, PENDING, READY},
    tables::Tables,
};
use crate::sql::{KEPT_UNTIL, uuid};

/// The columns of the row `stored` that a search examines, besides the id.
const LABELS: &str = "stored.state, stored.accepted_at, stored.attempts, stored.reason, stored.tenant, \
    stored.event_id, stored.event_type";

/// The columns of an entry, of the rows `stored` and `content`.
const ENTRY: &str = "stored.id, stored.state, stored.accepted_at, content.head, stored.attempts, stored.reason, \
    content.digest, extract(epoch FROM statement_timestamp() - stored.accepted_at)::float8 AS age, \
    content.body IS NOT NULL AS has_body, content.branch, content.orders";

impl Tables {
    /// Counts the deliveries by state, and the seconds since the oldest pending one was accepted.
    pub(super) fn counts(&self) -> String {
        let Self { inbox, .. } = self;
        let count = |state: i16| format!("count(*) FILTER (WHERE state = {state})");
        format!(
            r"
            SELECT
                {ready},
                {leased},
                {dead},
                {done},
                extract(epoch FROM clock_timestamp() - min(accepted_at) FILTER (WHERE {PENDING}))::float8
            FROM {inbox}",
            ready = count(READY),
            leased = count(LEASED),
            dead = count(DEAD),
            done = count(DONE),
        )
    }

    pub(super) fn backlog(&self) -> String {
        format!("SELECT count(*) FROM (SELECT FROM {} WHERE {PENDING} LIMIT $1::bigint) AS pending", self.inbox)
    }

    /// Counts all rows. Without a condition, the planner can choose the smallest index.
    pub(super) fn stored(&self) -> String {
        format!("SELECT count(*) FROM (SELECT FROM {} LIMIT $1::bigint) AS stored", self.inbox)
    }

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

    /// Makes DEAD and DONE deliveries READY again, if they have a body. Returns their number.
    ///
    /// Runs while nothing is leased, like every statement that brings deliveries back from DEAD.
    pub(super) fn requeue(&self) -> String {
        let Self { inbox, body, .. } = self;
        format!(
            r"
            WITH
            chosen AS MATERIALIZED (
                SELECT stored.id
                FROM {inbox} AS stored
                JOIN {body} AS content ON content.id = stored.id
                WHERE
                    stored.id = ANY ($1::bigint[])
                    AND stored.state = ANY ($2::smallint[])
                    AND stored.state IN ({DEAD}, {DONE})
                    AND content.body IS NOT NULL
                ORDER BY stored.id
                FOR UPDATE OF stored
            ),
            requeued AS (
                UPDATE {inbox} AS ended
                SET state = {READY}, due = clock_timestamp(), attempts = 0, history_until = NULL
                FROM chosen
                WHERE ended.id = chosen.id
                RETURNING ended.id
            )
            SELECT count(*) FROM requeued"
        )
    }

    /// Dead-letters READY and LEASED deliveries. Returns their number.
    pub(super) fn dead_letter_chosen(&self) -> String {
        let Self { inbox, .. } = self;
        format!(
            r"
            WITH
            chosen AS MATERIALIZED (
                SELECT id
                FROM {inbox}
                WHERE id = ANY ($1::bigint[]) AND state = ANY ($2::smallint[]) AND {PENDING}
                ORDER BY id
                FOR UPDATE
            ),
            dead AS (
                UPDATE {inbox} AS pending
                SET state = {DEAD}, reason = $3::text
                FROM chosen
                WHERE pending.id = chosen.id
                RETURNING pending.id
            )
            SELECT count(*) FROM dead"
        )
    }

    /// Locks the ledger rows of deliveries, before the deliveries and in the order in which accepting locks them.
    pub(super) fn lock_ledger(&self) -> String {
        let Self { ledger, inbox, .. } = self;
        format!(
            r"
            SELECT key
            FROM {ledger}
            WHERE key IN (SELECT key FROM {inbox} WHERE id = ANY ($1::bigint[]))
            ORDER BY key
            FOR UPDATE"
        )
    }

    /// Locks deliveries, so that no ledger row of theirs is restored any more.
    pub(super) fn lock_chosen(&self) -> String {
        let Self { inbox, .. } = self;
        format!(
            r"
            SELECT id
            FROM {inbox}
            WHERE id = ANY ($1::bigint[]) AND state = ANY ($2::smallint[])
            ORDER BY id
            FOR UPDATE"
        )
    }

    /// Deletes deliveries that are locked. Their ledger rows stay. Returns how many.
    pub(super) fn delete_locked(&self) -> String {
        self.delete_and("")
    }

    /// Deletes deliveries with their ledger rows. Returns how many.
    ///
    /// Runs once both are locked: this statement sees the ledger rows that were restored before that.
    pub(super) fn forget_locked(&self) -> String {
        let Self { ledger, .. } = self;
        self.delete_and(&format!(
            r",
            forgotten AS (
                DELETE FROM {ledger} AS old USING deleted WHERE old.key = deleted.key
            )"
        ))
    }

    fn delete_and(&self, forgotten: &str) -> String {
        let Self { inbox, .. } = self;
        format!(
            r"
            WITH
            deleted AS (
                DELETE FROM {inbox}
                WHERE id = ANY ($1::bigint[]) AND state = ANY ($2::smallint[])
                RETURNING id, key
            ),
            {emptied}{forgotten}
            SELECT count(*) FROM deleted",
            emptied = self.emptied_of_deleted(),
        )
    }

    /// Returns the parts that delete the contents and the records of the deliveries in `deleted`.
    fn emptied_of_deleted(&self) -> String {
        let Self { body, attempt, .. } = self;
        format!(
            r"emptied AS (
                DELETE FROM {body} AS old USING deleted WHERE old.id = deleted.id
            ),
            unrecorded AS (
                DELETE FROM {attempt} AS old USING deleted WHERE old.id = deleted.id
            )"
        )
    }

    pub(super) fn forget_event(&self) -> String {
        let of_event = format!("(key = {event} OR event_key = {event})", event = uuid(1));
        self.forget(&of_event, &of_event)
    }

    pub(super) fn forget_accepted(&self) -> String {
        let within = |time: &str| format!("{time} >= $1::timestamptz AND {time} < $2::timestamptz");
        self.forget(&within("accepted_at"), &within("claimed_at"))
    }

    /// Forgets the deliveries and the ledger rows for which these conditions hold.
    ///
    /// Runs while nothing is brought back from DEAD. A ledger row is deleted only if its token has not changed since it was
    /// read: a new token means that a delivery was accepted since.
    fn forget(&self, deliveries: &str, entries: &str) -> String {
        let Self { ledger, inbox, .. } = self;
        format!(
            r"
            WITH
            -- The keys of deliveries that are DEAD or DONE, and of ledger rows without a pending delivery
            keys AS MATERIALIZED (
                SELECT key
                FROM {inbox}
                WHERE NOT ({PENDING}) AND {deliveries}
                UNION
                SELECT key
                FROM {ledger} AS held
                WHERE
                    {entries}
                    AND {KEPT_UNTIL} > clock_timestamp()
                    AND NOT EXISTS (
                        SELECT FROM {inbox} AS pending WHERE pending.key = held.key AND pending.{PENDING}
                    )
            ),
            seen AS MATERIALIZED (
                SELECT key, token FROM {ledger} JOIN keys USING (key)
            ),
            deleted AS (
                DELETE FROM {inbox} AS old USING keys
                WHERE old.key = keys.key AND NOT (old.{PENDING})
                RETURNING old.id, old.key
            ),
            {emptied},
            forgotten AS (
                DELETE FROM {ledger} AS old USING seen
                WHERE old.key = seen.key AND old.token = seen.token
                RETURNING old.key, {KEPT_UNTIL} AS kept_until
            )
            -- A delivery and its ledger row count as one
            SELECT count(*)
            FROM (
                SELECT key FROM deleted
                UNION
                SELECT key FROM forgotten WHERE kept_until > clock_timestamp()
            ) AS gone",
            emptied = self.emptied_of_deleted(),
        )
    }

    /// Deletes DONE deliveries whose time is over, or their bodies if their history is kept for longer. Returns their number.
    pub(super) fn purge_done(&self) -> String {
        let Self { inbox, body, .. } = self;
        format!(
            r"
            WITH
            over AS MATERIALIZED (
                SELECT id, history_until > statement_timestamp() IS TRUE AS keeps_history
                FROM {inbox}
                WHERE state = {DONE} AND due <= statement_timestamp()
                ORDER BY due
                LIMIT $1::bigint
                FOR UPDATE SKIP LOCKED
            ),
            kept AS (
                UPDATE {inbox} AS old
                SET due = history_until, history_until = NULL
                FROM over
                WHERE old.id = over.id AND keeps_history
                RETURNING old.id
            ),
            without_body AS (
                UPDATE {body} AS old SET body = NULL FROM kept WHERE old.id = kept.id
            ),
            deleted AS (
                DELETE FROM {inbox} AS old USING over
                WHERE old.id = over.id AND NOT keeps_history
                RETURNING old.id
            ),
            {emptied}
            SELECT count(*) FROM over",
            emptied = self.emptied_of_deleted(),
        )
    }

    pub(super) fn evict_done(&self) -> String {
        self.delete_chosen(&format!("state = {DONE}"), "due")
    }

    /// Examines only the smallest ids, because the index of the DEAD deliveries does not contain the time of acceptance.
    pub(super) fn purge_dead(&self) -> String {
        let Self { inbox, .. } = self;
        let is_old = format!(
            r"state = {DEAD}
                    AND accepted_at <= statement_timestamp() - make_interval(secs => $2::float8)
                    AND id <= (
                        SELECT max(id)
                        FROM (SELECT id FROM {inbox} WHERE state = {DEAD} ORDER BY id LIMIT $1::bigint) AS oldest
                    )"
        );
        self.delete_chosen(&is_old, "id")
    }

    /// Deletes up to `$1` deliveries for which this condition holds, in this order.
    fn delete_chosen(&self, condition: &str, order: &str) -> String {
        let Self { inbox, .. } = self;
        format!(
            r"
            WITH
            chosen AS MATERIALIZED (
                SELECT id
                FROM {inbox}
                WHERE
                    {condition}
                ORDER BY {order}
                LIMIT $1::bigint
                FOR UPDATE SKIP LOCKED
            ),
            deleted AS (
                DELETE FROM {inbox} AS old USING chosen WHERE old.id = chosen.id RETURNING old.id
            ),
            {emptied}
            SELECT count(*) FROM deleted",
            emptied = self.emptied_of_deleted(),
        )
    }

    /// Adds a pause, unless it is in force.
    pub(super) fn pause(&self) -> String {
        let Self { pause, .. } = self;
        format!(
            r"
            INSERT INTO {pause} (tenant, event_type, operator, since)
            SELECT $1::text, $2::text, $3::text, clock_timestamp()
            WHERE NOT EXISTS (SELECT FROM {pause} WHERE {IS_PAUSE})"
        )
    }

    /// Releases the LEASED deliveries that a pause selects and that have no open attempt. Returns their number.
    ///
    /// Runs while nothing is leased.
    pub(super) fn release_paused(&self) -> String {
        let Self { inbox, .. } = self;
        let is_waiting = format!("state = {LEASED} AND started_at IS NULL");
        // Each half uses one of the indexes that leasing searches.
        let waiting = |keys: &str| {
            format!(
                r#"
                SELECT id
                FROM {inbox}
                WHERE
                    {PENDING}
                    AND {is_waiting}
                    AND ordering_keys {keys}
                    AND ($1::text IS NULL OR tenant COLLATE "C" = $1::text)
                    AND ($2::text IS NULL OR event_type = $2::text)"#
            )
        };
        format!(
            r"
            WITH
            waiting AS MATERIALIZED ({loose}
                UNION ALL{ordered}
            ),
            -- Those that do not start while this statement waits for their locks
            unstarted AS MATERIALIZED (
                SELECT id
                FROM {inbox}
                WHERE id = ANY (ARRAY(SELECT id FROM waiting)) AND {is_waiting}
                ORDER BY id
                FOR UPDATE
            ),
            released AS (
                UPDATE {inbox} AS leased
                SET state = {READY}, due = clock_timestamp()
                FROM unstarted
                WHERE leased.id = unstarted.id
                RETURNING leased.id
            )
            SELECT count(*) FROM released",
            loose = waiting("IS NULL"),
            ordered = waiting("IS NOT NULL"),
        )
    }

    /// Lifts a pause.
    pub(super) fn resume(&self) -> String {
        format!("DELETE FROM {} WHERE {IS_PAUSE}", self.pause)
    }

    /// Reads the pauses.
    pub(super) fn pauses(&self) -> String {
        format!(
            r"
            SELECT tenant, event_type, operator, since
            FROM {pause}
            ORDER BY tenant NULLS FIRST, event_type NULLS FIRST",
            pause = self.pause,
        )
    }
}

/// The condition for the pause of a tenant and an event type, or NULLs.
const IS_PAUSE: &str = "tenant IS NOT DISTINCT FROM $1::text AND event_type IS NOT DISTINCT FROM $2::text";

//! The statements of admin calls, and those that count and purge.

use super::{
    states::{DEAD, DONE, LEASED, PENDING, READY},
    tables::Tables,
};
use crate::sql::{KEPT_UNTIL, uuid};

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
        self.find_among("id > $1::bigint")
    }

    /// Lists only DEAD deliveries, which have an index.
    pub(super) fn find_dead(&self) -> String {
        self.find_among(&format!("id > $1::bigint AND state = {DEAD}"))
    }

    fn find_among(&self, condition: &str) -> String {
        let Self { inbox, body, .. } = self;
        format!(
            r"
            WITH
            examined AS MATERIALIZED (
                SELECT id, state, accepted_at, attempts, reason, tenant, event_id
                FROM {inbox}
                WHERE {condition}
                ORDER BY id
                LIMIT $2::bigint
            ),
            selected AS (
                SELECT id, state, accepted_at, head, attempts, reason, digest
                FROM examined
                LEFT JOIN {body} USING (id)
                WHERE
                    ($3::smallint[] IS NULL OR state = ANY ($3::smallint[]))
                    AND ($4::text IS NULL OR tenant = $4::text)
                    AND ($5::text IS NULL OR event_id = $5::text)
                    AND ($6::bytea IS NULL OR digest = $6::bytea)
                    AND ($7::timestamptz IS NULL OR accepted_at >= $7::timestamptz)
                    AND ($8::timestamptz IS NULL OR accepted_at < $8::timestamptz)
                ORDER BY id
                LIMIT $9::bigint
            )
            SELECT last.id, last.count, selected.*
            FROM (SELECT max(id) AS id, count(*) AS count FROM examined) AS last
            LEFT JOIN selected ON true
            ORDER BY selected.id"
        )
    }

    pub(super) fn show(&self) -> String {
        let Self { inbox, body, .. } = self;
        format!(
            r"
            SELECT id, state, accepted_at, head, attempts, reason, digest, body
            FROM {inbox}
            LEFT JOIN {body} USING (id)
            WHERE id = $1::bigint"
        )
    }

    /// Makes a DEAD delivery READY again.
    ///
    /// Runs while nothing is leased, like every statement that brings deliveries back from DEAD.
    pub(super) fn retry(&self) -> String {
        format!(
            r"
            UPDATE {inbox}
            SET state = {READY}, due = clock_timestamp(), attempts = 0
            WHERE id = $1::bigint AND state = {DEAD}",
            inbox = self.inbox,
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

    /// Deletes deliveries with their ledger rows. Returns how many.
    ///
    /// Runs once both are locked: this statement sees the ledger rows that were restored before that.
    pub(super) fn forget_chosen(&self) -> String {
        let Self { ledger, inbox, body, .. } = self;
        format!(
            r"
            WITH
            deleted AS (
                DELETE FROM {inbox}
                WHERE id = ANY ($1::bigint[]) AND state = ANY ($2::smallint[])
                RETURNING id, key
            ),
            emptied AS (
                DELETE FROM {body} AS old USING deleted WHERE old.id = deleted.id
            ),
            forgotten AS (
                DELETE FROM {ledger} AS old USING deleted WHERE old.key = deleted.key
            )
            SELECT count(*) FROM deleted"
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
        let Self { ledger, inbox, body, .. } = self;
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
            emptied AS (
                DELETE FROM {body} AS old USING deleted WHERE old.id = deleted.id
            ),
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
            ) AS gone"
        )
    }

    pub(super) fn purge_done(&self) -> String {
        self.delete_chosen(&format!("state = {DONE} AND due <= statement_timestamp()"), "due")
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
        let Self { inbox, body, .. } = self;
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
            emptied AS (
                DELETE FROM {body} AS old USING deleted WHERE old.id = deleted.id
            )
            SELECT count(*) FROM deleted"
        )
    }
}

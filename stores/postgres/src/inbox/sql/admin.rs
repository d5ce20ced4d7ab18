//! The statements of admin calls, and those that count and purge.

use super::{
    states::{DEAD, DONE, LEASED, PENDING, READY},
    tables::Tables,
};
use crate::sql::{KEPT_UNTIL, of_event};

/// The conditions that hold for deliveries and for ledger rows to forget.
struct ForgetConditions {
    deliveries: String,
    entries: String,
}

impl ForgetConditions {
    /// Selects the event in the first parameter.
    fn event() -> Self {
        Self { deliveries: of_event(1), entries: of_event(1) }
    }

    /// Selects what was accepted or claimed between the first two parameters.
    fn accepted() -> Self {
        let within = |time: &str| format!("{time} >= $1::timestamptz AND {time} < $2::timestamptz");
        Self { deliveries: within("accepted_at"), entries: within("claimed_at") }
    }
}

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

    pub(super) fn count_event(&self) -> String {
        self.count_keys(&ForgetConditions::event())
    }

    pub(super) fn count_accepted(&self) -> String {
        self.count_keys(&ForgetConditions::accepted())
    }

    pub(super) fn forget_event(&self) -> String {
        self.forget(&ForgetConditions::event())
    }

    pub(super) fn forget_accepted(&self) -> String {
        self.forget(&ForgetConditions::accepted())
    }

    /// Counts the keys that can be forgotten.
    fn count_keys(&self, forgotten: &ForgetConditions) -> String {
        format!(
            r"
            WITH{keys}
            SELECT count(*) FROM keys",
            keys = self.forgettable_keys(forgotten),
        )
    }

    /// Returns the part that selects the keys that can be forgotten.
    fn forgettable_keys(&self, ForgetConditions { deliveries, entries }: &ForgetConditions) -> String {
        let Self { ledger, inbox, .. } = self;
        format!(
            r"
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
            )"
        )
    }

    /// Forgets deliveries and ledger rows.
    ///
    /// Runs while nothing is brought back from DEAD. A ledger row is deleted only if its token has not changed since it was
    /// read: a new token means that a delivery was accepted since.
    fn forget(&self, forgotten: &ForgetConditions) -> String {
        let Self { ledger, inbox, .. } = self;
        format!(
            r"
            WITH{keys},
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
            keys = self.forgettable_keys(forgotten),
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
}

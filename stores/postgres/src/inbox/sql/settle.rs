//! The statements that settle deliveries and extend leases.

use tower_klikit::inbox::LEASE_EXPIRED;

use super::{
    states::{DEAD, DONE, LEASED, READY},
    tables::Tables,
};
use crate::connection::Sql;

/// A change to deliveries by their leases, in two forms.
#[derive(Debug)]
pub(crate) struct ByLease {
    /// Changes one delivery. Parameters: id, token, seconds, reason, attempts. Changes or returns one row if the delivery is
    /// changed. Waits if another transaction has locked the delivery.
    pub(crate) one: Sql,
    /// Changes many deliveries. Parameters: ids without duplicates, tokens, seconds, reasons, attempts. Returns one row for
    /// each lease, in order: whether the delivery is changed, and its token and state when the statement began, or NULLs.
    /// Leaves out deliveries that other transactions have locked, so that they do not delay the others.
    pub(crate) many: Sql,
}

/// The parameters of [`ByLease::one`], as a row.
const ONE: &str = "(SELECT $1::bigint AS id, $2::bigint AS token, $3::float8 AS seconds, $4::text AS reason, \
    $5::integer AS attempts) AS asked";

/// A change to deliveries with a lease's token.
struct LeaseChange<'a> {
    kind: ChangeKind<'a>,
    /// The states in which the change applies.
    states: &'a [i16],
}

/// The kind of a [`LeaseChange`].
enum ChangeKind<'a> {
    Delete,
    /// Sets these columns. The row `asked` contains the `seconds`, the `reason` and the `attempts`.
    Set(&'a str),
}

const DELETE: LeaseChange<'_> = LeaseChange { kind: ChangeKind::Delete, states: &[READY, LEASED, DEAD] };

const IN_SECONDS: &str = "clock_timestamp() + make_interval(secs => asked.seconds)";

impl Tables {
    /// Deletes handled deliveries. Uses neither seconds nor reason.
    pub(super) fn delete(&self) -> ByLease {
        self.by_lease(&DELETE)
    }

    /// Keeps handled deliveries as DONE for these seconds.
    pub(super) fn keep(&self) -> ByLease {
        let set = format!("state = {DONE}, due = {IN_SECONDS}, reason = NULL");
        self.by_lease(&LeaseChange { kind: ChangeKind::Set(&set), states: &[READY, LEASED, DEAD] })
    }

    pub(super) fn reschedule(&self) -> ByLease {
        self.reschedule_and("")
    }

    /// Reschedules deliveries that lose their ordering keys.
    pub(super) fn reschedule_unordered(&self) -> ByLease {
        self.reschedule_and(", ordering_keys = NULL")
    }

    fn reschedule_and(&self, set: &str) -> ByLease {
        let set = format!("state = {READY}, due = {IN_SECONDS}, reason = asked.reason{set}");
        self.by_lease(&LeaseChange { kind: ChangeKind::Set(&set), states: &[READY, LEASED] })
    }

    pub(super) fn dead_letter(&self) -> ByLease {
        let set = format!("state = {DEAD}, reason = asked.reason");
        self.by_lease(&LeaseChange { kind: ChangeKind::Set(&set), states: &[READY, LEASED, DEAD] })
    }

    /// Releases leases, and limits the number of attempts to `attempts`. Uses neither seconds nor reason.
    pub(super) fn release(&self) -> ByLease {
        let set = format!("state = {READY}, due = clock_timestamp(), attempts = least(one.attempts, asked.attempts)");
        self.by_lease(&LeaseChange { kind: ChangeKind::Set(&set), states: &[LEASED] })
    }

    /// Counts attempts: raises the number of attempts to `attempts`. Uses neither seconds nor reason.
    pub(super) fn start(&self) -> ByLease {
        let set = "attempts = greatest(one.attempts, asked.attempts)";
        self.by_lease(&LeaseChange { kind: ChangeKind::Set(set), states: &[LEASED] })
    }

    /// Extends leases to `seconds` from now. Does not use the reason.
    pub(super) fn extend(&self) -> String {
        self.extend_if("true")
    }

    /// Extends the leases that have expired.
    pub(super) fn extend_expired(&self) -> String {
        self.extend_if("due <= statement_timestamp()")
    }

    fn extend_if(&self, condition: &str) -> String {
        let set = format!("due = {IN_SECONDS}");
        self.many(&LeaseChange { kind: ChangeKind::Set(&set), states: &[LEASED] }, condition)
    }

    /// Makes a DEAD delivery READY again, because its last attempt has ended after all. Parameters: id, token, seconds, reason
    /// or NULL to keep the old one, and the largest number of attempts. Changes one row if the delivery was DEAD.
    ///
    /// Runs while nothing is leased, like every statement that brings deliveries back from DEAD.
    pub(super) fn bring_back(&self) -> String {
        self.bring_back_and("")
    }

    /// Makes a DEAD delivery READY again, as [`bring_back`](Self::bring_back) does, without its ordering keys.
    pub(super) fn bring_back_unordered(&self) -> String {
        self.bring_back_and(",\n                ordering_keys = NULL")
    }

    fn bring_back_and(&self, set: &str) -> String {
        format!(
            r"
            UPDATE {inbox}
            SET
                state = {READY},
                due = clock_timestamp() + make_interval(secs => $3::float8),
                reason = coalesce($4::text, reason),
                attempts = least(attempts, $5::integer){set}
            WHERE
                id = $1::bigint
                AND token = $2::bigint
                AND state = {DEAD}
                AND reason = '{LEASE_EXPIRED}'",
            inbox = self.inbox,
        )
    }

    /// Finds a DEAD delivery that a failure or a release does not bring back. Parameters: id and token.
    pub(super) fn is_dead_for_good(&self) -> String {
        format!(
            r"
            SELECT
            FROM {inbox}
            WHERE
                id = $1::bigint
                AND token = $2::bigint
                AND state = {DEAD}
                AND reason IS DISTINCT FROM '{LEASE_EXPIRED}'",
            inbox = self.inbox,
        )
    }

    /// Deletes a handled delivery in the user's transaction. Parameters: id and token. Changes one row, which every driver
    /// can count.
    pub(super) fn finish(&self) -> String {
        self.one("(SELECT $1::bigint AS id, $2::bigint AS token) AS asked", &DELETE)
    }

    /// Reads the token and the state of a delivery.
    pub(super) fn read_token_and_state(&self) -> String {
        format!("SELECT token, state FROM {} WHERE id = $1::bigint", self.inbox)
    }

    fn by_lease(&self, change: &LeaseChange<'_>) -> ByLease {
        ByLease { one: Sql::new(self.one(ONE, change)), many: Sql::new(self.many(change, "true")) }
    }

    fn one(&self, asked: &str, change: &LeaseChange<'_>) -> String {
        let Self { inbox, body, .. } = self;
        let end = match change.kind {
            ChangeKind::Delete => format!("DELETE FROM {body} AS old USING changed WHERE old.id = changed.id"),
            ChangeKind::Set(_) => "SELECT FROM changed".into(),
        };
        format!(
            r"
            WITH
            changed AS (
                {change}
            )
            {end}",
            change = change.statement(inbox, asked),
        )
    }

    fn many(&self, change: &LeaseChange<'_>, condition: &str) -> String {
        let Self { inbox, body, .. } = self;
        let emptied = match change.kind {
            ChangeKind::Delete => format!(
                r",
            emptied AS (
                DELETE FROM {body} AS old USING changed WHERE old.id = changed.id
            )"
            ),
            ChangeKind::Set(_) => String::new(),
        };
        format!(
            r"
            WITH
            -- The leases
            asked AS MATERIALIZED (
                SELECT id, token, seconds, reason, attempts, position
                FROM unnest($1::bigint[], $2::bigint[], $3::float8[], $4::text[], $5::integer[])
                    WITH ORDINALITY AS asked (id, token, seconds, reason, attempts, position)
            ),
            -- The deliveries that no other transaction has locked
            free AS MATERIALIZED (
                SELECT id
                FROM {inbox}
                WHERE id = ANY($1::bigint[]) AND {condition}
                FOR UPDATE SKIP LOCKED
            ),
            -- The deliveries that still have the leases' tokens
            changed AS (
                {change}
            ){emptied}
            -- All deliveries as they were before
            SELECT changed.id IS NOT NULL, before.token, before.state
            FROM asked
            LEFT JOIN changed ON changed.id = asked.id AND changed.token = asked.token
            LEFT JOIN {inbox} AS before ON before.id = asked.id
            ORDER BY asked.position",
            change = change.statement(inbox, "asked JOIN free USING (id)"),
        )
    }
}

impl LeaseChange<'_> {
    fn statement(&self, inbox: &str, from: &str) -> String {
        let states: Vec<_> = self.states.iter().map(i16::to_string).collect();
        let (change, using) = match self.kind {
            ChangeKind::Delete => (format!("DELETE FROM {inbox} AS one"), "USING"),
            ChangeKind::Set(columns) => (format!("UPDATE {inbox} AS one SET {columns}"), "FROM"),
        };
        format!(
            r"{change}
                {using} {from}
                WHERE one.id = asked.id AND one.token = asked.token AND one.state IN ({states})
                RETURNING one.id, one.token",
            states = states.join(", "),
        )
    }
}

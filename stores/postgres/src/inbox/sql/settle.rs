//! The statements that settle deliveries and extend leases.

use tower_klikit::inbox::{EXPIRED, LEASE_EXPIRED};

use super::{
    states::{DEAD, DONE, LEASED, READY},
    tables::Tables,
};
use crate::connection::Sql;

/// A change to deliveries by their leases, in two forms.
#[derive(Debug)]
pub(crate) struct ByLease {
    /// Changes one delivery. Parameters: id, token, seconds, reason, attempt, status, seconds of the history, worker. Changes
    /// or returns one row if the delivery is changed. Waits if another transaction has locked the delivery.
    pub(crate) one: Sql,
    /// Changes many deliveries. Parameters: arrays of those of [`one`](Self::one), with ids without duplicates. Returns one
    /// row for each lease, in order: whether the delivery is changed, and its token and state when the statement began, or
    /// NULLs. Leaves out deliveries that other transactions have locked, so that they do not delay the others.
    pub(crate) many: Sql,
}

/// The parameters of [`ByLease::one`], as a row.
const ONE: &str = "(SELECT $1::bigint AS id, $2::bigint AS token, $3::float8 AS seconds, $4::text AS reason, \
    $5::integer AS attempt, $6::integer AS status, $7::float8 AS history, $8::text AS worker) AS asked";

/// A change to deliveries with a lease's token.
struct LeaseChange<'a> {
    kind: ChangeKind<'a>,
    /// The condition for the delivery `one`.
    applies: &'a str,
    open_attempt: OpenAttempt,
}

/// The kind of a [`LeaseChange`].
enum ChangeKind<'a> {
    /// Deletes the delivery with its content and the records of its attempts.
    Delete,
    /// Sets these columns. The row `asked` contains the parameters.
    Set(&'a str),
    /// Sets these columns, and deletes the body.
    SetWithoutBody(&'a str),
}

/// The effect of a [`LeaseChange`] on the open attempt, if there is one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OpenAttempt {
    /// The attempt stays as the change sets it.
    Stays,
    /// The attempt ends with a record. It replaces a record without an outcome.
    Ends,
    /// The attempt does not count, and leaves no record.
    IsTakenOff,
}

const DELETE: LeaseChange<'_> =
    LeaseChange { kind: ChangeKind::Delete, applies: NOT_DONE, open_attempt: OpenAttempt::Stays };

/// Conditions for the state of the delivery `one`.
const NOT_DONE: &str = "one.state IN (0, 1, 2)";
const UNFINISHED: &str = "one.state IN (0, 1)";
const IS_LEASED: &str = "one.state = 1";

const IN_SECONDS: &str = "clock_timestamp() + make_interval(secs => asked.seconds)";

/// The number of attempts without the one of the lease.
const TAKEN_OFF: &str = "least(one.attempts, greatest(asked.attempt - 1, 0))";

impl Tables {
    /// Deletes handled deliveries.
    pub(super) fn delete(&self) -> ByLease {
        self.by_lease(&DELETE)
    }

    /// Keeps handled deliveries as DONE: their bodies for `seconds`, and their history for `history` seconds.
    pub(super) fn keep(&self) -> ByLease {
        let set = format!(
            "state = {DONE}, due = {IN_SECONDS}, reason = NULL, \
            history_until = clock_timestamp() + make_interval(secs => asked.history)"
        );
        self.ending(ChangeKind::Set(&set), NOT_DONE)
    }

    /// Keeps handled deliveries as DONE for `seconds`, without their bodies.
    pub(super) fn keep_history(&self) -> ByLease {
        let set = format!("state = {DONE}, due = {IN_SECONDS}, reason = NULL, history_until = NULL");
        self.ending(ChangeKind::SetWithoutBody(&set), NOT_DONE)
    }

    pub(super) fn reschedule(&self) -> ByLease {
        self.ending(ChangeKind::Set(&rescheduled()), UNFINISHED)
    }

    /// Reschedules deliveries that lose their ordering keys.
    pub(super) fn reschedule_unordered(&self) -> ByLease {
        self.ending(ChangeKind::Set(&format!("{}, ordering_keys = NULL", rescheduled())), UNFINISHED)
    }

    pub(super) fn dead_letter(&self) -> ByLease {
        self.ending(ChangeKind::Set(&format!("state = {DEAD}, reason = asked.reason")), NOT_DONE)
    }

    /// Dead-letters deliveries that are too old. Those that are DEAD for a reason of their own stay as they are.
    pub(super) fn expire(&self) -> ByLease {
        let set = format!("state = {DEAD}, reason = '{EXPIRED}', attempts = {TAKEN_OFF}");
        let applies = format!("({UNFINISHED} OR ({}))", is_dead("="));
        self.by_lease(&LeaseChange {
            kind: ChangeKind::Set(&set),
            applies: &applies,
            open_attempt: OpenAttempt::IsTakenOff,
        })
    }

    /// Releases leases. A READY delivery changes only its open attempt.
    pub(super) fn release(&self) -> ByLease {
        let set = format!(
            "state = {READY}, \
            due = CASE one.state WHEN {LEASED} THEN clock_timestamp() ELSE one.due END, \
            attempts = CASE one.state WHEN {LEASED} THEN {TAKEN_OFF} ELSE one.attempts END"
        );
        self.by_lease(&LeaseChange {
            kind: ChangeKind::Set(&set),
            applies: UNFINISHED,
            open_attempt: OpenAttempt::IsTakenOff,
        })
    }

    /// Counts attempts: raises the number of attempts to `attempt`. Opens the attempt.
    pub(super) fn start(&self) -> ByLease {
        let set = "attempts = greatest(one.attempts, asked.attempt), \
            started_at = coalesce(one.started_at, clock_timestamp()), \
            worker = CASE WHEN one.started_at IS NULL THEN asked.worker ELSE one.worker END";
        self.by_lease(&LeaseChange { kind: ChangeKind::Set(set), applies: IS_LEASED, open_attempt: OpenAttempt::Stays })
    }

    /// Extends leases to `seconds` from now.
    pub(super) fn extend(&self) -> String {
        self.extend_if("true")
    }

    /// Extends the leases that have expired.
    pub(super) fn extend_expired(&self) -> String {
        self.extend_if("due <= statement_timestamp()")
    }

    fn extend_if(&self, condition: &str) -> String {
        let set = format!("due = {IN_SECONDS}");
        let extended =
            LeaseChange { kind: ChangeKind::Set(&set), applies: IS_LEASED, open_attempt: OpenAttempt::Stays };
        self.many(&extended, condition)
    }

    /// Makes a DEAD delivery READY again, because its last attempt has failed after all. Like the following statements, has the
    /// parameters of [`ByLease::one`], and changes one row if it applies.
    ///
    /// Runs while nothing is leased, like every statement that brings deliveries back from DEAD.
    pub(super) fn bring_back(&self) -> String {
        self.for_dead(&rescheduled(), &is_dead("="), OpenAttempt::Ends)
    }

    /// Makes a DEAD delivery READY again, as [`bring_back`](Self::bring_back) does, without its ordering keys.
    pub(super) fn bring_back_unordered(&self) -> String {
        self.for_dead(&format!("{}, ordering_keys = NULL", rescheduled()), &is_dead("="), OpenAttempt::Ends)
    }

    /// Makes a DEAD delivery READY again, because its last attempt does not count.
    pub(super) fn bring_back_released(&self) -> String {
        let set = format!("state = {READY}, due = clock_timestamp(), attempts = {TAKEN_OFF}");
        self.for_dead(&set, &is_dead("="), OpenAttempt::IsTakenOff)
    }

    /// Ends the attempt of a DEAD delivery that stays as it is.
    pub(super) fn leave_dead(&self) -> String {
        self.for_dead(&format!("state = {DEAD}"), &is_dead("IS DISTINCT FROM"), OpenAttempt::Ends)
    }

    /// Takes off the attempt of a DEAD delivery that stays as it is.
    pub(super) fn leave_dead_released(&self) -> String {
        self.for_dead(&format!("state = {DEAD}"), &is_dead("IS DISTINCT FROM"), OpenAttempt::IsTakenOff)
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

    /// Returns a change that ends the open attempt.
    fn ending(&self, kind: ChangeKind<'_>, applies: &str) -> ByLease {
        self.by_lease(&LeaseChange { kind, applies, open_attempt: OpenAttempt::Ends })
    }

    fn for_dead(&self, set: &str, applies: &str, open_attempt: OpenAttempt) -> String {
        self.one(ONE, &LeaseChange { kind: ChangeKind::Set(set), applies, open_attempt })
    }

    fn by_lease(&self, change: &LeaseChange<'_>) -> ByLease {
        ByLease { one: Sql::new(self.one(ONE, change)), many: Sql::new(self.many(change, "true")) }
    }

    fn one(&self, asked: &str, change: &LeaseChange<'_>) -> String {
        let Self { inbox, body, .. } = self;
        // A separate lock reads the columns of the open attempt before the change clears them.
        let (free, from) = match change.open_attempt {
            OpenAttempt::Stays => (String::new(), asked.to_owned()),
            OpenAttempt::Ends | OpenAttempt::IsTakenOff => (
                format!(
                    r"
            free AS MATERIALIZED (
                SELECT id, started_at, worker
                FROM {inbox}
                WHERE id = $1::bigint
                FOR UPDATE
            ),"
                ),
                format!("{asked} JOIN free USING (id)"),
            ),
        };
        let end = match change.kind {
            ChangeKind::Delete => format!("DELETE FROM {body} AS old USING changed WHERE old.id = changed.id"),
            ChangeKind::Set(_) | ChangeKind::SetWithoutBody(_) => "SELECT FROM changed".into(),
        };
        let emptied = match change.kind {
            ChangeKind::SetWithoutBody(_) => self.emptied(change),
            ChangeKind::Delete | ChangeKind::Set(_) => String::new(),
        };
        format!(
            r"
            WITH{free}
            changed AS (
                {change}
            ){emptied}{recorded}
            {end}",
            recorded = self.recorded(change),
            change = change.statement(inbox, &from),
        )
    }

    fn many(&self, change: &LeaseChange<'_>, condition: &str) -> String {
        let Self { inbox, .. } = self;
        format!(
            r"
            WITH
            -- The leases
            asked AS MATERIALIZED (
                SELECT id, token, seconds, reason, attempt, status, history, worker, position
                FROM unnest(
                    $1::bigint[], $2::bigint[], $3::float8[], $4::text[],
                    $5::integer[], $6::integer[], $7::float8[], $8::text[]
                )
                    WITH ORDINALITY
                    AS asked (id, token, seconds, reason, attempt, status, history, worker, position)
            ),
            -- The deliveries that no other transaction has locked
            free AS MATERIALIZED (
                SELECT id, started_at, worker
                FROM {inbox}
                WHERE id = ANY($1::bigint[]) AND {condition}
                FOR UPDATE SKIP LOCKED
            ),
            -- The deliveries that still have the leases' tokens
            changed AS (
                {change}
            ){emptied}{recorded}
            -- All deliveries as they were before
            SELECT changed.id IS NOT NULL, before.token, before.state
            FROM asked
            LEFT JOIN changed ON changed.id = asked.id AND changed.token = asked.token
            LEFT JOIN {inbox} AS before ON before.id = asked.id
            ORDER BY asked.position",
            emptied = self.emptied(change),
            recorded = self.recorded(change),
            change = change.statement(inbox, "asked JOIN free USING (id)"),
        )
    }

    /// Returns the part that deletes bodies.
    fn emptied(&self, change: &LeaseChange<'_>) -> String {
        let emptied = match change.kind {
            ChangeKind::Delete => "DELETE FROM {body} AS old USING changed",
            ChangeKind::SetWithoutBody(_) => "UPDATE {body} AS old SET body = NULL FROM changed",
            ChangeKind::Set(_) => return String::new(),
        };
        format!(
            r",
            emptied AS (
                {emptied} WHERE old.id = changed.id
            )",
            emptied = emptied.replace("{body}", &self.body),
        )
    }

    /// Returns the part that changes the records of attempts.
    fn recorded(&self, change: &LeaseChange<'_>) -> String {
        let Self { attempt, .. } = self;
        match (&change.kind, change.open_attempt) {
            (ChangeKind::Delete, _) => format!(
                r",
            unrecorded AS (
                DELETE FROM {attempt} AS old USING changed WHERE old.id = changed.id
            )"
            ),
            (_, OpenAttempt::Stays) => String::new(),
            (_, OpenAttempt::Ends) => format!(
                r",
            recorded AS (
                INSERT INTO {attempt} (id, attempt, worker, started_at, ended_at, status, reason)
                SELECT id, greatest(attempt, 1), worker, started_at, clock_timestamp(), status, reason
                FROM changed
                WHERE started_at IS NOT NULL
                {REPLACE_RECORD}
            )"
            ),
            (_, OpenAttempt::IsTakenOff) => format!(
                r",
            unrecorded AS (
                DELETE FROM {attempt} AS old USING changed
                WHERE old.id = changed.id AND old.started_at = changed.started_at
            )"
            ),
        }
    }
}

/// The end of a statement that adds a record of an attempt. The attempt may have a record without an outcome.
const REPLACE_RECORD: &str = r"ON CONFLICT (id, started_at) DO UPDATE
                SET
                    attempt = excluded.attempt,
                    ended_at = excluded.ended_at,
                    status = excluded.status,
                    reason = excluded.reason";

impl LeaseChange<'_> {
    fn statement(&self, inbox: &str, from: &str) -> String {
        let Self { kind, applies, open_attempt } = self;
        let (closed, returned) = match open_attempt {
            OpenAttempt::Stays => ("", ""),
            OpenAttempt::Ends => (
                ", started_at = NULL, worker = NULL",
                ", free.started_at, free.worker, asked.attempt, asked.status, asked.reason",
            ),
            OpenAttempt::IsTakenOff => (", started_at = NULL, worker = NULL", ", free.started_at"),
        };
        let (change, using) = match kind {
            ChangeKind::Delete => (format!("DELETE FROM {inbox} AS one"), "USING"),
            ChangeKind::Set(columns) | ChangeKind::SetWithoutBody(columns) => {
                (format!("UPDATE {inbox} AS one SET {columns}{closed}"), "FROM")
            }
        };
        format!(
            r"{change}
                {using} {from}
                WHERE one.id = asked.id AND one.token = asked.token AND {applies}
                RETURNING one.id, one.token{returned}"
        )
    }
}

/// Returns the condition for the delivery `one` to be DEAD because its lease expired, or for another reason.
fn is_dead(because: &str) -> String {
    format!("one.state = {DEAD} AND one.reason {because} '{LEASE_EXPIRED}'")
}

/// Returns the columns of a delivery that is rescheduled.
fn rescheduled() -> String {
    format!("state = {READY}, due = {IN_SECONDS}, reason = asked.reason")
}

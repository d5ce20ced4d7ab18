//! Transactions and their time limits.

use std::time::Duration;

/// The time limit of a call that may read a whole table, as a multiple of the deadline of an ordinary call.
pub(crate) const LONG_CALL_DEADLINES: u32 = 30;

/// The time that a long call waits for a lock, as a multiple of the deadline of an ordinary call.
const LONG_CALL_LOCK_DEADLINES: u32 = 5;

pub(super) const COMMIT: &str = "COMMIT";

/// Returns the statements that begin a transaction with the time limit `limit`.
///
/// - They set the isolation level, because the database's default may differ.
/// - They set the server's timeouts. Otherwise a connection would wait for a lock indefinitely, and the server would keep the
///   locks of a node that has vanished.
/// - They enable warnings, because one warning means that a reported commit is in doubt.
pub(crate) fn begin(limit: Duration) -> String {
    // Postgres takes milliseconds as a 32-bit integer, and 0 as no limit.
    let millis = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1);
    format!(
        r"BEGIN ISOLATION LEVEL READ COMMITTED;
        SET LOCAL statement_timeout = {millis};
        SET LOCAL idle_in_transaction_session_timeout = {millis};
        SET LOCAL client_min_messages = warning"
    )
}

/// Returns the statements that begin a transaction that may read whole tables. It ends early if another session keeps a row
/// or a table locked.
pub(crate) fn begin_long(deadline: Duration) -> String {
    // Postgres takes 0 as no limit.
    let lock_millis = deadline.saturating_mul(LONG_CALL_LOCK_DEADLINES).as_millis().clamp(1, 1 << 30);
    format!("{}; SET LOCAL lock_timeout = {lock_millis}", begin(deadline.saturating_mul(LONG_CALL_DEADLINES)))
}

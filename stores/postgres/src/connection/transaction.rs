//! Transactions and their time limits.

use std::time::Duration;

/// The time limit of a call that may read a whole table, as a multiple of the deadline of an ordinary call.
pub(crate) const LONG_CALL_DEADLINES: u32 = 30;

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

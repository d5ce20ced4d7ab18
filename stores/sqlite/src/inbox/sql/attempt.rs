//! The statements on the records of attempts.

use super::tables::Tables;
use crate::inbox::state::DEAD;

/// The statements on the records of attempts.
///
/// An open attempt is in the delivery's own row, so an attempt that succeeds at once writes no record.
pub(in crate::inbox) struct AttemptSql {
    pub(in crate::inbox) record_end: String,
    pub(in crate::inbox) record_unknown: String,
    pub(in crate::inbox) record_superseded: String,
    pub(in crate::inbox) delete_record: String,
    pub(in crate::inbox) delete_records: String,
    pub(in crate::inbox) close: String,
    pub(in crate::inbox) list: String,
}

impl AttemptSql {
    pub(super) fn new(tables: &Tables) -> Self {
        let Tables { inbox, attempt, .. } = tables;
        Self {
            // The first three statements write nothing if no attempt is open. The open attempt has a record without an
            // outcome already if the delivery was dead-lettered because its lease expired. Only an outcome replaces it.
            record_end: record(tables, "REPLACE", ":attempt, worker, started_at, :ended_at, :status, :reason", ""),
            record_unknown: record(tables, "IGNORE", UNKNOWN, ""),

            // For a delivery that is about to be leased. The conditions are those of leasing.
            record_superseded: record(
                tables,
                "IGNORE",
                UNKNOWN,
                &format!("AND token = :token AND state < {DEAD} AND due <= :now"),
            ),

            delete_record: format!("DELETE FROM {attempt} WHERE id = ?1 AND token = ?2"),
            delete_records: format!("DELETE FROM {attempt} WHERE id = ?1"),

            close: format!(
                "
                UPDATE {inbox} SET
                    started_at = NULL,
                    started_token = NULL,
                    worker = NULL
                WHERE id = ?1
                "
            ),

            // Lists the last attempts, newest first. Tokens grow from attempt to attempt.
            list: format!(
                "
                SELECT attempt, worker, started_at, ended_at, status, reason, token
                FROM {attempt}
                WHERE id = ?1
                ORDER BY token DESC
                LIMIT ?2
                "
            ),
        }
    }
}

/// The values of an attempt whose outcome is unknown.
const UNKNOWN: &str = "max(attempts, 1), worker, started_at, NULL, NULL, :reason";

/// Returns the statement that writes the record of a delivery's open attempt, with these values after the token. If the
/// attempt has a record, `on_conflict` decides.
fn record(tables: &Tables, on_conflict: &str, values: &str, condition: &str) -> String {
    let Tables { inbox, attempt, .. } = tables;
    format!(
        "
        INSERT OR {on_conflict} INTO {attempt} (id, token, attempt, worker, started_at, ended_at, status, reason)
        SELECT id, started_token, {values}
        FROM {inbox}
        WHERE id = :id AND started_token IS NOT NULL AND started_at IS NOT NULL {condition}
        "
    )
}

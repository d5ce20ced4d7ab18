//! The statements that select and lease deliveries, and those that work with leases.

use super::tables::Tables;
use crate::inbox::state::{DEAD, LEASED};

/// The statements that select and lease deliveries, and those that work with leases.
pub(in crate::inbox) struct LeaseSql {
    pub(in crate::inbox) list_tenants_unordered: String,
    pub(in crate::inbox) list_tenants_ordered: String,
    pub(in crate::inbox) list_due_unordered: String,
    pub(in crate::inbox) list_due_ordered: String,
    pub(in crate::inbox) list_misdated: String,
    pub(in crate::inbox) find_due: String,
    pub(in crate::inbox) read_for_leasing: String,
    pub(in crate::inbox) read_held: String,
    pub(in crate::inbox) read_tenant: String,
    pub(in crate::inbox) read_labels: String,
    pub(in crate::inbox) find_head_of_queue: String,
    pub(in crate::inbox) find_next_queue: String,
    pub(in crate::inbox) list_leased_keys: String,
    pub(in crate::inbox) extend_expired: String,
    pub(in crate::inbox) lease: String,
    pub(in crate::inbox) take_over: String,
    pub(in crate::inbox) dead_letter_expired: String,
    pub(in crate::inbox) dead_letter_unreadable: String,
    pub(in crate::inbox) delete_stray_entries: String,
    pub(in crate::inbox) start: String,
    pub(in crate::inbox) extend: String,
}

/// Holds for READY and LEASED deliveries without ordering keys. They are in a partial index of their own.
pub(super) const UNORDERED: &str = "state < 2 AND ordering_keys IS NULL";
/// Holds for READY and LEASED deliveries with ordering keys. They are in a partial index of their own.
pub(super) const ORDERED: &str = "state < 2 AND ordering_keys IS NOT NULL";

impl LeaseSql {
    #[allow(clippy::too_many_lines, reason = "one statement after the other")]
    pub(super) fn new(tables: &Tables) -> Self {
        let Tables { inbox, body, queue, .. } = tables;
        Self {
            // The statements that select deliveries, on the reader's connection. READY deliveries are due at their
            // next attempt, and LEASED deliveries when their lease ends.

            // Each READY or LEASED delivery is in one of two partial indexes, which contain all columns that these
            // statements read.
            list_tenants_unordered: list_tenants(inbox, UNORDERED),
            list_tenants_ordered: list_tenants(inbox, ORDERED),
            list_due_unordered: list_due(inbox, UNORDERED),
            list_due_ordered: list_due(inbox, ORDERED),

            // Lists the tenant's deliveries whose time exceeds all integers, so that they would never be due. Such a
            // time is a text, a blob or a very large real: in SQLite's order, text and blobs come after all numbers.
            list_misdated: format!(
                "
                -- Two searches, one in each partial index.
                SELECT id, due
                FROM {inbox}
                WHERE {UNORDERED} AND tenant = ?1 AND due > {MAX}
                UNION ALL
                SELECT id, due
                FROM {inbox}
                WHERE {ORDERED} AND tenant = ?1 AND due > {MAX}
                ",
                MAX = i64::MAX,
            ),

            // Finds a delivery if it is READY or LEASED, and due. Returns the columns of `list_due_ordered`, and the
            // tenant.
            find_due: format!(
                "
                SELECT due, id, state, ordering_keys, tenant
                FROM {inbox}
                WHERE id = ?1 AND state < {DEAD} AND due <= ?2
                "
            ),

            // Reads all that leasing depends on. The id is NULL if the delivery has no row in the table of bodies.
            read_for_leasing: format!(
                "
                SELECT
                    i.token, i.attempts, i.due, i.ordering_keys, i.since, i.reason, i.started_token,
                    b.id, b.head, b.body
                FROM {inbox} AS i
                LEFT JOIN {body} AS b ON b.id = i.id
                WHERE i.id = ?1
                "
            ),

            // Reads the delivery of a held lease, and whether this is its current lease and has expired.
            read_held: format!(
                "
                SELECT tenant, ordering_keys, token = :token AND state = {LEASED} AND due <= :now
                FROM {inbox}
                WHERE id = :id
                "
            ),
            read_tenant: format!("SELECT tenant FROM {inbox} WHERE id = ?1"),
            read_labels: format!("SELECT tenant, event_type FROM {inbox} WHERE id = ?1"),

            find_head_of_queue: format!(
                "
                SELECT id
                FROM {queue}
                WHERE ordering_key = ?1
                ORDER BY id
                LIMIT 1
                "
            ),

            // Finds the first queue after this ordering key, and its head. The key is passed as a blob, since it may
            // not be UTF-8. The condition `< x''` excludes keys that were stored as blobs: those come after all texts.
            find_next_queue: format!(
                "
                SELECT ordering_key, id
                FROM {queue}
                WHERE ordering_key > CAST(?1 AS TEXT) AND ordering_key < x''
                ORDER BY ordering_key, id
                LIMIT 1
                "
            ),

            // Lists the ordering keys of all unexpired leases. Leases whose end exceeds all integers are left out.
            list_leased_keys: format!(
                "
                SELECT ordering_keys
                FROM {inbox}
                WHERE state = {LEASED} AND ordering_keys IS NOT NULL AND due > ?1 AND due <= {MAX}
                ",
                MAX = i64::MAX,
            ),

            // The statements that lease the selected deliveries, on the writer's connection. They check the token and
            // the state again, since the selection may be outdated.
            extend_expired: format!(
                "
                UPDATE {inbox} SET due = :until
                WHERE id = :id AND token = :token AND state = {LEASED} AND due <= :now
                "
            ),

            // Opens an attempt at `:started_at`, or no attempt if that is NULL.
            lease: format!(
                "
                UPDATE {inbox} SET
                    state = {LEASED},
                    due = :until,
                    attempts = attempts + :counted,
                    token = token + 1,
                    started_at = :started_at,
                    started_token = CASE WHEN :started_at IS NOT NULL THEN token + 1 END,
                    worker = CASE WHEN :started_at IS NOT NULL THEN :worker END
                WHERE id = :id AND token = :token AND state < {DEAD} AND due <= :now
                RETURNING attempts
                "
            ),

            // For a process that is still running the delivery's handler. An open attempt stays open.
            take_over: format!(
                "
                UPDATE {inbox} SET
                    state = {LEASED},
                    due = :until,
                    token = token + 1
                WHERE id = :id AND token = :token AND state < {DEAD} AND due <= :now
                RETURNING attempts
                "
            ),
            dead_letter_expired: format!(
                "
                UPDATE {inbox} SET state = {DEAD}, reason = :reason
                WHERE
                    id = :id
                    AND token = :token
                    AND state = {LEASED}
                    AND due <= :now
                    AND attempts >= :max_attempts
                RETURNING ordering_keys
                "
            ),

            // Does not check the token, which may be unreadable. A time that is not an integer is never due.
            dead_letter_unreadable: format!(
                "
                UPDATE {inbox} SET state = {DEAD}, reason = :reason
                WHERE
                    id = :id
                    AND state < {DEAD}
                    AND (due <= :now OR typeof(due) <> 'integer')
                "
            ),

            // If the id is NULL, deletes all entries of the queue whose id is not a number.
            delete_stray_entries: format!(
                "
                DELETE FROM {queue}
                WHERE ordering_key = ?1 AND (id = ?2 OR (?2 IS NULL AND typeof(id) <> 'integer'))
                "
            ),

            // The statements for a worker that holds a lease. The lease is current, although it may have expired, until
            // another lease changes the token.

            // Leasing may have counted the attempt already. Opens an attempt at `:started_at`, unless one is open or
            // that is NULL.
            start: format!(
                "
                UPDATE {inbox} SET
                    attempts = max(attempts, :attempt),
                    started_at = CASE WHEN started_token IS NULL THEN :started_at ELSE started_at END,
                    started_token = CASE WHEN :started_at IS NULL THEN started_token ELSE coalesce(started_token, token) END,
                    worker = CASE WHEN started_token IS NULL AND :started_at IS NOT NULL THEN :worker ELSE worker END
                WHERE id = :id AND token = :token AND state = {LEASED}
                "
            ),
            extend: format!(
                "
                UPDATE {inbox} SET due = :until
                WHERE id = :id AND token = :token AND state = {LEASED}
                "
            ),
        }
    }
}

/// Returns the statement that lists the tenants of the deliveries for which `condition` holds. It searches the index
/// once for each tenant.
fn list_tenants(inbox: &str, condition: &str) -> String {
    format!(
        "
        WITH RECURSIVE tenants (tenant) AS (
            SELECT min(tenant)
            FROM {inbox}
            WHERE {condition}
            UNION ALL
            SELECT (
                SELECT min(i.tenant)
                FROM {inbox} AS i
                WHERE {condition} AND i.tenant > t.tenant
            )
            FROM tenants AS t
            WHERE t.tenant IS NOT NULL
        )
        SELECT tenant
        FROM tenants
        WHERE tenant IS NOT NULL
        "
    )
}

/// Returns the statement that lists the due deliveries of a tenant for which `condition` holds, longest due first.
/// Starts after the delivery that is due at `?3` and has the id `?4`.
fn list_due(inbox: &str, condition: &str) -> String {
    format!(
        "
        SELECT due, id, state, ordering_keys
        FROM {inbox}
        WHERE {condition} AND tenant = ?1 AND due <= ?2 AND (due, id) > (?3, ?4)
        ORDER BY due, id
        "
    )
}

//! The statements that accept deliveries.

use super::tables::Tables;
use crate::inbox::state::READY;

/// The statements that accept deliveries.
pub(in crate::inbox) struct AcceptSql {
    pub(in crate::inbox) find_by_key: String,
    pub(in crate::inbox) find_state_by_key: String,
    pub(in crate::inbox) insert: String,
    pub(in crate::inbox) insert_body: String,
    pub(in crate::inbox) revive: String,
    pub(in crate::inbox) replace_body: String,
}

impl AcceptSql {
    pub(super) fn new(tables: &Tables) -> Self {
        let Tables { inbox, body, .. } = tables;
        Self {
            // Returns only the type of the body, since reading a long body takes time. The second id is NULL if the
            // delivery has no row in the table of bodies.
            find_by_key: format!(
                "
                SELECT i.id, i.state, b.id, b.digest, b.head, typeof(b.body)
                FROM {inbox} AS i
                LEFT JOIN {body} AS b ON b.id = i.id
                WHERE i.key = ?1
                "
            ),

            // For a delivery whose row in the table of bodies is on a damaged page.
            find_state_by_key: format!("SELECT id, state FROM {inbox} WHERE key = ?1"),

            insert: format!(
                "
                INSERT INTO {inbox} (
                    key, event_key, state, due, attempts, token, accepted_at, since,
                    event_id, event_type, tenant, ordering_keys, branch, orders
                )
                VALUES (
                    :key, :event_key, {READY}, :now, 0, 0, :system_time, :now,
                    :event_id, :event_type, :tenant, :ordering_keys, :branch, :orders
                )
                "
            ),
            insert_body: format!(
                "
                INSERT INTO {body} (id, digest, head, body)
                VALUES (?1, ?2, ?3, ?4)
                "
            ),

            // Makes a finished delivery ready again with a new request. The new token invalidates selections and leases
            // of the previous request. The trigger of the schema returns the delivery to its queues.
            revive: format!(
                "
                UPDATE {inbox} SET
                    state = {READY},
                    due = :now,
                    attempts = 0,
                    token = token + 1,
                    reason = NULL,
                    event_id = :event_id,
                    event_type = :event_type,
                    tenant = :tenant,
                    ordering_keys = :ordering_keys,
                    branch = :branch,
                    orders = :orders
                WHERE id = :id
                "
            ),

            // An upsert, since the row of the previous request may be missing.
            replace_body: format!(
                "
                INSERT INTO {body} (id, digest, head, body)
                VALUES (?1, ?2, ?3, ?4)
                ON CONFLICT (id) DO UPDATE SET
                    digest = excluded.digest,
                    head = excluded.head,
                    body = excluded.body
                "
            ),
        }
    }
}

//! The statements on the rows of one delivery that several calls use.

use super::tables::Tables;

/// The statements on the rows of one delivery that several calls use.
pub(in crate::inbox) struct RowSql {
    pub(in crate::inbox) read_state_and_keys: String,
    pub(in crate::inbox) read_token_and_attempts: String,
    pub(in crate::inbox) read_digest_and_head: String,
    pub(in crate::inbox) read_head: String,
    pub(in crate::inbox) read_body: String,
    pub(in crate::inbox) enqueue: String,
    pub(in crate::inbox) dequeue: String,
    pub(in crate::inbox) delete: String,
    pub(in crate::inbox) delete_body: String,
    pub(in crate::inbox) drop_body: String,
}

impl RowSql {
    pub(super) fn new(tables: &Tables) -> Self {
        let Tables { inbox, body, queue, .. } = tables;
        Self {
            read_state_and_keys: format!("SELECT state, ordering_keys FROM {inbox} WHERE id = ?1"),
            read_token_and_attempts: format!("SELECT token, attempts FROM {inbox} WHERE id = ?1"),
            // Returns only the type of the body, since reading a long body takes time.
            read_digest_and_head: format!("SELECT digest, head, typeof(body) FROM {body} WHERE id = ?1"),
            read_head: format!("SELECT head FROM {body} WHERE id = ?1"),
            read_body: format!("SELECT body FROM {body} WHERE id = ?1"),

            // The entry may exist already, if it is stray or if another process has added it.
            enqueue: format!(
                "
                INSERT OR IGNORE INTO {queue} (ordering_key, id)
                VALUES (?1, ?2)
                "
            ),
            dequeue: format!(
                "
                DELETE FROM {queue}
                WHERE ordering_key = ?1 AND id = ?2
                "
            ),

            // Leaves the delivery's rows in the other tables, which have statements of their own.
            delete: format!("DELETE FROM {inbox} WHERE id = ?1"),
            delete_body: format!("DELETE FROM {body} WHERE id = ?1"),

            // Keeps the head, which the history needs. A text stands for a body that is gone, since the column must not
            // be NULL and a body may be empty.
            drop_body: format!("UPDATE {body} SET body = '' WHERE id = ?1"),
        }
    }
}

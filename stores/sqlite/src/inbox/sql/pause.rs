//! The statements on pauses.

use super::{
    lease::{ORDERED, UNORDERED},
    tables::Tables,
};
use crate::inbox::state::{LEASED, READY};

/// The statements on pauses.
pub(in crate::inbox) struct PauseSql {
    pub(in crate::inbox) list: String,
    pub(in crate::inbox) add: String,
    pub(in crate::inbox) remove: String,
    pub(in crate::inbox) list_leased: String,
    pub(in crate::inbox) release: String,
}

impl PauseSql {
    pub(super) fn new(tables: &Tables) -> Self {
        let Tables { inbox, pause, .. } = tables;
        Self {
            list: format!(
                "
                SELECT tenant, event_type, operator, since
                FROM {pause}
                ORDER BY tenant, event_type
                "
            ),

            // Does nothing if there is an equal pause. `IS` also compares NULL.
            add: format!(
                "
                INSERT INTO {pause} (tenant, event_type, operator, since)
                SELECT :tenant, :event_type, :operator, :system_time
                WHERE NOT EXISTS (
                    SELECT 1
                    FROM {pause}
                    WHERE tenant IS :tenant AND event_type IS :event_type
                )
                "
            ),
            remove: format!("DELETE FROM {pause} WHERE tenant IS ?1 AND event_type IS ?2"),

            // Scans the two partial indexes of READY and LEASED deliveries.
            list_leased: format!(
                "
                SELECT id
                FROM {inbox}
                WHERE {UNORDERED} AND state = {LEASED}
                UNION ALL
                SELECT id
                FROM {inbox}
                WHERE {ORDERED} AND state = {LEASED}
                "
            ),

            // Makes a leased delivery READY that has no open attempt, if the pause selects it.
            release: format!(
                "
                UPDATE {inbox} SET state = {READY}, due = :now
                WHERE
                    id = :id
                    AND state = {LEASED}
                    AND started_token IS NULL
                    AND (:tenant IS NULL OR tenant = :tenant)
                    AND (:event_type IS NULL OR event_type = :event_type)
                "
            ),
        }
    }
}

//! The statements on pauses.

use super::{
    states::{LEASED, PENDING, READY},
    tables::Tables,
};

/// The condition for the pause of a tenant and an event type, or NULLs.
const IS_PAUSE: &str = "tenant IS NOT DISTINCT FROM $1::text AND event_type IS NOT DISTINCT FROM $2::text";

impl Tables {
    /// Adds a pause, unless it is in force.
    pub(super) fn pause(&self) -> String {
        let Self { pause, .. } = self;
        format!(
            r"
            INSERT INTO {pause} (tenant, event_type, operator, since)
            SELECT $1::text, $2::text, $3::text, clock_timestamp()
            WHERE NOT EXISTS (SELECT FROM {pause} WHERE {IS_PAUSE})"
        )
    }

    /// Releases the LEASED deliveries that a pause selects and that have no open attempt. Returns their number.
    ///
    /// Runs while nothing is leased.
    pub(super) fn release_paused(&self) -> String {
        let Self { inbox, .. } = self;
        let is_waiting = format!("state = {LEASED} AND started_at IS NULL");
        // Each half uses one of the indexes that leasing searches.
        let waiting = |keys: &str| {
            format!(
                r#"
                SELECT id
                FROM {inbox}
                WHERE
                    {PENDING}
                    AND {is_waiting}
                    AND ordering_keys {keys}
                    AND ($1::text IS NULL OR tenant COLLATE "C" = $1::text)
                    AND ($2::text IS NULL OR event_type = $2::text)"#
            )
        };
        format!(
            r"
            WITH
            waiting AS MATERIALIZED ({loose}
                UNION ALL{ordered}
            ),
            -- Those that do not start while this statement waits for their locks
            unstarted AS MATERIALIZED (
                SELECT id
                FROM {inbox}
                WHERE id = ANY (ARRAY(SELECT id FROM waiting)) AND {is_waiting}
                ORDER BY id
                FOR UPDATE
            ),
            released AS (
                UPDATE {inbox} AS leased
                SET state = {READY}, due = clock_timestamp()
                FROM unstarted
                WHERE leased.id = unstarted.id
                RETURNING leased.id
            )
            SELECT count(*) FROM released",
            loose = waiting("IS NULL"),
            ordered = waiting("IS NOT NULL"),
        )
    }

    /// Lifts a pause.
    pub(super) fn resume(&self) -> String {
        format!("DELETE FROM {} WHERE {IS_PAUSE}", self.pause)
    }

    /// Reads the pauses.
    pub(super) fn pauses(&self) -> String {
        format!(
            r"
            SELECT tenant, event_type, operator, since
            FROM {pause}
            ORDER BY tenant NULLS FIRST, event_type NULLS FIRST",
            pause = self.pause,
        )
    }
}

//! The search for the usual case.

use super::{COLUMNS, Search, has_died, is_due};
use crate::inbox::sql::tables::Tables;

impl Tables {
    /// Returns the search for the usual case: there are one tenant, no pauses, and no due deliveries with ordering keys. In any
    /// other case, it finds nothing and is not complete.
    ///
    /// The server plans the statement for each call, and that takes a multiple of the time for the
    /// [fair search](Self::search_fairly).
    pub(super) fn search_simply(&self) -> Search {
        let Self { inbox, tenant, pause, .. } = self;
        let (is_due, has_died) = (is_due(), has_died());
        let tables = format!(
            r"
            -- The only tenant, in the usual case
            usual AS MATERIALIZED (
                SELECT tenant
                FROM {tenant} AS known
                WHERE
                    (SELECT count(*) FROM (SELECT FROM {tenant} LIMIT 2) AS known) = 1
                    AND NOT EXISTS (SELECT FROM {pause})
                    AND NOT EXISTS (
                        SELECT
                        FROM {inbox}
                        WHERE
                            {is_due}
                            AND ordering_keys IS NOT NULL
                            AND tenant = known.tenant
                            AND due >= coalesce($8::timestamptz, '-infinity')
                    )
            ),
            loose AS MATERIALIZED (
                SELECT {COLUMNS}
                FROM {inbox}
                WHERE
                    {is_due}
                    AND ordering_keys IS NULL
                    AND tenant = (SELECT tenant FROM usual)
                    AND due >= coalesce($7::timestamptz, '-infinity')
                ORDER BY due, id
                LIMIT $1::bigint
                FOR UPDATE SKIP LOCKED
            ),
            -- Held leases are left out. One can be found only if it was locked when this transaction tried to extend it.
            first AS MATERIALIZED (
                SELECT
                    loose.*,
                    row_number() OVER by_due AS turn,
                    count(*) FILTER (WHERE NOT ({has_died})) OVER by_due AS position
                FROM loose
                WHERE NOT EXISTS (SELECT FROM held WHERE held.id = loose.id AND held.token = loose.token)
                WINDOW by_due AS (ORDER BY due, id)
            ),"
        );
        Search { tables, first_ordered: "NULL::timestamptz", is_complete: "EXISTS (SELECT FROM usual)" }
    }
}

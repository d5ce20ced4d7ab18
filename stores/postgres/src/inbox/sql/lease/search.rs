//! The searches for due deliveries.
//!
//! **Locks.** A search waits for no locks. It skips deliveries that another transaction has locked before it applies the
//! limit, so that two nodes lease different parts of a backlog.
//!
//! **Sharing.** The deliveries of each tenant are searched by themselves. A tenant's share is the number of places that it has
//! among the first ones, if each tenant's due deliveries take turns. A search locks no more than the share.
//!
//! **Floors.** A search begins at a floor, if there is one.

use crate::inbox::sql::{
    states::{LEASED, PENDING},
    tables::Tables,
};

/// The columns that a search returns.
pub(super) const COLUMNS: &str = "id, due, tenant, state, attempts, token, started_at, worker";

/// The part of the statement that finds and locks due deliveries.
pub(super) struct Search {
    /// The table expressions of the search. `first` has the deliveries to lease or dead-letter, each with its `turn` and with
    /// its `position` among those that are not dead-lettered. `loose` has the found deliveries without ordering keys. `turns`
    /// has the tenants, each with the due time of its first delivery with ordering keys, also if it is blocked.
    pub(super) tables: String,
    /// Whether the search has considered all deliveries. If not, `first` is empty.
    pub(super) is_complete: &'static str,
}

impl Tables {
    /// Returns the search for deliveries without ordering keys. It is complete if no others are due.
    ///
    /// The server plans the statement for each call, and plans this one in less than half the time.
    pub(super) fn search_loose(&self) -> Search {
        const IS_COMPLETE: &str = "NOT EXISTS (SELECT FROM turns WHERE first_ordered IS NOT NULL)";
        let tables = [self.turns("0"), self.loose(IS_COMPLETE), first(&format!("SELECT {COLUMNS} FROM loose"))];
        Search { tables: tables.concat(), is_complete: IS_COMPLETE }
    }

    /// Returns the search for all deliveries.
    pub(super) fn search_all(&self) -> Search {
        let found = ["loose", "near_and_free", "far_and_free"].map(|table| format!("SELECT {COLUMNS} FROM {table}"));
        let tables =
            [self.turns(&self.count(&is_ordered())), self.loose("true"), self.ordered(), first(&found.join(UNION))];
        Search { tables: tables.concat(), is_complete: "true" }
    }

    /// Returns the table expressions of the tenants and their turns. `ordered` is the number of due deliveries with ordering
    /// keys.
    fn turns(&self, ordered: &str) -> String {
        let Self { inbox, tenant, pause, .. } = self;
        format!(
            r"
            -- The tenants that are not paused, in a random order
            tenants AS MATERIALIZED (
                SELECT
                    tenant,
                    random() AS draw,
                    ARRAY(
                        SELECT event_type
                        FROM {pause} AS pause
                        WHERE event_type IS NOT NULL AND (pause.tenant IS NULL OR pause.tenant = known.tenant)
                    ) AS paused_types
                FROM {tenant} AS known
                WHERE NOT EXISTS (
                    SELECT
                    FROM {pause} AS pause
                    WHERE event_type IS NULL AND (pause.tenant IS NULL OR pause.tenant = known.tenant)
                )
            ),
            held_of_tenants AS MATERIALIZED (
                SELECT tenant, count(*) AS held
                FROM {inbox}
                WHERE id = ANY($4::bigint[]) AND (SELECT count(*) FROM tenants) > 1
                GROUP BY tenant
            ),
            -- The numbers of each tenant's held and due deliveries
            turns AS MATERIALIZED (
                SELECT
                    turns.*,
                    {loose_count} AS loose,
                    {ordered} AS ordered,
                    -- Also if it is blocked
                    (
                        SELECT due
                        FROM {inbox}
                        WHERE {is_ordered}
                        ORDER BY due, id
                        LIMIT 1
                    ) AS first_ordered
                FROM (
                    SELECT tenants.*, coalesce(held, 0) AS held
                    FROM tenants
                    LEFT JOIN held_of_tenants USING (tenant)
                ) AS turns
            ),",
            loose_count = self.count(&is_loose()),
            is_ordered = is_ordered(),
        )
    }

    /// Returns the table expressions of the deliveries without ordering keys. If `condition` does not hold, the search finds nothing.
    fn loose(&self, condition: &str) -> String {
        let Self { inbox, .. } = self;
        format!(
            r"
            -- The tenants that have the first places
            loose_places AS MATERIALIZED (
                SELECT tenant
                FROM turns, generate_series(1, loose) AS place
                WHERE {condition}
                ORDER BY held + place, draw
                LIMIT $1::bigint
            ),
            -- Deliveries without ordering keys
            loose AS MATERIALIZED (
                SELECT found.*
                FROM turns
                CROSS JOIN LATERAL (
                    SELECT {COLUMNS}
                    FROM {inbox}
                    WHERE {is_loose}
                    ORDER BY due, id
                    LIMIT {share}
                    FOR UPDATE SKIP LOCKED
                ) AS found
            ),",
            is_loose = is_loose(),
            share = share("loose_places"),
        )
    }

    /// Returns the number of due deliveries that match a condition, up to the limit. Counting is left out if there is one
    /// tenant, which has all places.
    fn count(&self, is_of_turn: &str) -> String {
        format!(
            r"CASE
                        WHEN (SELECT count(*) FROM tenants) = 1 THEN $1::bigint
                        ELSE (
                            SELECT count(*)
                            FROM (SELECT FROM {inbox} WHERE {is_of_turn} LIMIT $1::bigint) AS due
                        )
                    END",
            inbox = self.inbox,
        )
    }
}

/// Separates the selections of deliveries that were found.
const UNION: &str = "
                    UNION ALL
                    ";

/// Returns the table expressions that rank the deliveries in `found`, and select the first ones.
fn first(found: &str) -> String {
    format!(
        r"
            -- All found deliveries, with their ranks. Held leases are left out. One can be found only if it was locked when
            -- this transaction tried to extend it.
            ranked AS (
                SELECT
                    found.*,
                    draw,
                    held + count(*) FILTER (WHERE NOT ({has_died})) OVER (PARTITION BY found.tenant ORDER BY due, id)
                        AS rank
                FROM (
                    {found}
                ) AS found
                JOIN turns ON turns.tenant = found.tenant
                WHERE NOT EXISTS (SELECT FROM held WHERE held.id = found.id AND held.token = found.token)
            ),
            -- The first ones, and their positions among those that are not dead-lettered
            first AS MATERIALIZED (
                SELECT *
                FROM (
                    SELECT
                        ranked.*,
                        row_number() OVER by_rank AS turn,
                        count(*) FILTER (WHERE NOT ({has_died})) OVER by_rank AS position
                    FROM ranked
                    WINDOW by_rank AS (ORDER BY rank, draw, due, id)
                ) AS ordered
                ORDER BY turn
                LIMIT $1::bigint
            ),",
        has_died = has_died(),
    )
}

/// Returns the condition for a due delivery of the tenant in `turns` without ordering keys.
fn is_loose() -> String {
    is_of_turn("IS NULL", 7)
}

/// Returns the condition for a due delivery of the tenant in `turns` with ordering keys.
pub(super) fn is_ordered() -> String {
    is_of_turn("IS NOT NULL", 8)
}

/// Returns the condition for a due delivery of the tenant in `turns`. `floor` is the parameter with the floor.
fn is_of_turn(keys: &str, floor: u8) -> String {
    format!(
        r"{is_due}
                        AND ordering_keys {keys}
                        AND tenant = turns.tenant
                        AND due >= coalesce(${floor}::timestamptz, '-infinity')
                        AND {IS_NOT_PAUSED}",
        is_due = is_due(),
    )
}

/// The condition for a delivery of the tenant in `turns` that is not paused.
pub(super) const IS_NOT_PAUSED: &str = "(event_type IS NULL OR event_type <> ALL (turns.paused_types))";

/// Returns the condition for a delivery that is due, in the same form as in the indexes.
pub(super) fn is_due() -> String {
    format!("{PENDING} AND due <= statement_timestamp()")
}

/// Returns the share of the tenant in `turns`.
pub(super) fn share(places: &str) -> String {
    format!("(SELECT count(*) FROM {places} AS place WHERE place.tenant = turns.tenant)")
}

/// Returns the condition for a delivery whose lease has expired during its last attempt.
pub(super) fn has_died() -> String {
    format!("state = {LEASED} AND attempts >= $3::bigint")
}

//! The statement on the table of tenants.

use super::{states::PENDING, tables::Tables};

impl Tables {
    /// Adds the tenants of pending deliveries that are missing from the table of tenants: a node of an earlier release has
    /// accepted the deliveries, they were written by hand, or the tenant's row was deleted by hand while a store knew the
    /// tenant. Reads one index entry for each tenant.
    pub(super) fn add_tenants(&self) -> String {
        let Self { inbox, tenant, .. } = self;
        let first = |keys: &str, after: &str| {
            format!(
                r#"
                    SELECT tenant COLLATE "C" AS tenant
                    FROM {inbox}
                    WHERE {PENDING} AND ordering_keys {keys}{after}
                    ORDER BY tenant COLLATE "C"
                    LIMIT 1"#
            )
        };
        let each = |name: &str, keys: &str| {
            format!(
                r"{name} AS (
                ({first}
                )
                UNION ALL
                SELECT next.tenant
                FROM {name}, LATERAL ({next}
                ) AS next
            )",
                first = first(keys, ""),
                next = first(keys, &format!(r#" AND tenant COLLATE "C" > {name}.tenant"#)),
            )
        };
        format!(
            r"
            WITH RECURSIVE
            {loose},
            {ordered}
            INSERT INTO {tenant}
            SELECT tenant FROM loose
            UNION
            SELECT tenant FROM ordered
            ON CONFLICT DO NOTHING",
            loose = each("loose", "IS NULL"),
            ordered = each("ordered", "IS NOT NULL"),
        )
    }
}

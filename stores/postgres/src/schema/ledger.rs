//! The migration steps of the ledger's tables. Never change a released step: add another one.

use crate::names::Names;

/// Returns the statements of each version.
pub(super) fn steps(names: &Names) -> Vec<String> {
    vec![create(names)]
}

/// Returns the statements of version 1. Wide columns come first, so that alignment wastes no space. There is no index on
/// `until`, which every completion changes: an update that changes no indexed column does not write to the indexes.
fn create(names: &Names) -> String {
    format!(
        r"CREATE TABLE {schema} (
    -- 'ledger' or 'inbox'
    part text PRIMARY KEY,
    version integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE {ledger} (
    claimed_at timestamptz NOT NULL,
    -- claimed: end of the lease; done: end of the retention
    until timestamptz NOT NULL,
    -- claimed: end of the grace; done: NULL
    kept_until timestamptz,
    key uuid PRIMARY KEY,
    -- NULL unless the entry is a conflict, which keeps the index small
    event_key uuid,
    token uuid NOT NULL,
    -- 0 claimed, 1 done
    state smallint NOT NULL,
    digest bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX {event_key} ON {ledger} (event_key) WHERE event_key IS NOT NULL;",
        schema = names.of("schema"),
        ledger = names.of("ledger"),
        event_key = names.unqualified("ledger_event_key_idx"),
    )
}

//! The tables.

use std::time::Duration;

use super::{
    super::super::{
        connection::begin,
        sql::{CREATE_LOCK, TableName},
    },
    DEAD, DONE, LEASED, LEASING_LOCKS, UNFINISHED,
};

/// Their names, as they stand in a statement.
pub(super) struct Tables {
    pub(super) ledger: String,
    /// Short rows that change: where each delivery stands.
    pub(super) inbox: String,
    /// Long rows that stay: what it is. Apart, so that a lease does not write the body anew.
    pub(super) delivery: String,
    /// The ordering keys of those that are ready or leased.
    pub(super) ordering: String,
}

impl Tables {
    pub(super) fn beside(name: &TableName) -> Self {
        Self {
            ledger: name.quoted(),
            inbox: name.with("_inbox"),
            delivery: name.with("_inbox_delivery"),
            ordering: name.with("_inbox_ordering"),
        }
    }

    pub(super) fn create(&self, name: &TableName) -> String {
        let Self { inbox, delivery, ordering, .. } = self;
        // `due` is when a ready one may be leased, when a lease runs out, and when a done one is deleted. `retried` is set once
        // a delivery was brought back from the dead.
        format!(
            "SELECT pg_advisory_xact_lock({CREATE_LOCK}); \
             CREATE TABLE IF NOT EXISTS {inbox} (\
             id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, due timestamptz NOT NULL, accepted timestamptz NOT NULL, \
             token bigint NOT NULL, key uuid NOT NULL UNIQUE, event uuid, attempts integer NOT NULL, state smallint NOT NULL, \
             ordered boolean NOT NULL, retried boolean NOT NULL, reason text\
             ) WITH (autovacuum_vacuum_scale_factor = 0.05); \
             CREATE INDEX IF NOT EXISTS {due} ON {inbox} (due, id) WHERE {UNFINISHED} AND NOT ordered; \
             CREATE INDEX IF NOT EXISTS {ordered} ON {inbox} (due, id) WHERE {UNFINISHED} AND ordered; \
             CREATE INDEX IF NOT EXISTS {dead} ON {inbox} (id) WHERE state = {DEAD}; \
             CREATE INDEX IF NOT EXISTS {done} ON {inbox} (due) WHERE state = {DONE}; \
             CREATE INDEX IF NOT EXISTS {event} ON {inbox} (event) WHERE event IS NOT NULL; \
             CREATE TABLE IF NOT EXISTS {delivery} (\
             id bigint PRIMARY KEY, digest bytea NOT NULL, head text NOT NULL, ordering uuid[] NOT NULL, body bytea NOT NULL); \
             CREATE TABLE IF NOT EXISTS {ordering} (key uuid, id bigint, PRIMARY KEY (key, id)); \
             CREATE INDEX IF NOT EXISTS {by_id} ON {ordering} (id)",
            due = name.index("_inbox_due_idx"),
            ordered = name.index("_inbox_odue_idx"),
            dead = name.index("_inbox_dead_idx"),
            done = name.index("_inbox_done_idx"),
            event = name.index("_inbox_evt_idx"),
            by_id = name.index("_inbox_ord_idx"),
        )
    }

    /// Begins a transaction that leases. The plan of a statement is made once for each connection, mostly while the tables are
    /// next to empty, where reading a table through looks cheap. Compiling the statement would take longer than running it.
    pub(super) fn begin_leasing(&self, limit: Duration) -> String {
        let begin = self.begin("pg_advisory_xact_lock_shared", limit);
        format!("{begin}; SET LOCAL enable_seqscan = off; SET LOCAL jit = off")
    }

    /// Begins a transaction by taking the lock on leasing in this way.
    pub(super) fn begin(&self, lock: &str, limit: Duration) -> String {
        format!("{}; SELECT {lock}({LEASING_LOCKS}, '{}'::regclass::oid::integer)", begin(limit), self.inbox)
    }

    /// The expression by which one that was leased goes on, if the lease is still held.
    pub(super) fn held() -> String {
        format!("id = $1::bigint AND state = {LEASED} AND token = $2::bigint")
    }
}

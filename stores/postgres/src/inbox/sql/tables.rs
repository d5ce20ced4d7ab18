//! The inbox's tables.

use std::time::Duration;

use super::{
    super::super::{connection::begin, sql::CREATE_LOCK, table_name::TableName},
    DEAD, DONE, LEASING_LOCKS, UNFINISHED,
};

/// The tables' names, as they stand in a statement.
pub(super) struct Tables {
    pub(super) ledger: String,
    /// Short rows that change: the state of each delivery.
    pub(super) inbox: String,
    /// Long rows that stay: the content of each delivery. Apart, so that a lease does not write the body anew.
    pub(super) delivery: String,
    /// The ordering keys of the deliveries that are READY or LEASED.
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
        format!(
            r"
            SELECT pg_advisory_xact_lock({CREATE_LOCK});

            CREATE TABLE IF NOT EXISTS {inbox} (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                -- READY: when it may be leased; LEASED: end of the lease; DONE: when it may be deleted
                due timestamptz NOT NULL,
                accepted timestamptz NOT NULL,
                token bigint NOT NULL,
                key uuid NOT NULL UNIQUE,
                -- NULL unless the delivery is a conflict
                event uuid,
                attempts integer NOT NULL,
                state smallint NOT NULL,
                -- whether it has ordering keys
                ordered boolean NOT NULL,
                -- whether it was DEAD and is READY again, so that a later one that shares a key may be leased
                retried boolean NOT NULL,
                reason text
            ) WITH (autovacuum_vacuum_scale_factor = 0.05);

            CREATE INDEX IF NOT EXISTS {due} ON {inbox} (due, id) WHERE {UNFINISHED} AND NOT ordered;
            CREATE INDEX IF NOT EXISTS {ordered} ON {inbox} (due, id) WHERE {UNFINISHED} AND ordered;
            CREATE INDEX IF NOT EXISTS {dead} ON {inbox} (id) WHERE state = {DEAD};
            CREATE INDEX IF NOT EXISTS {done} ON {inbox} (due) WHERE state = {DONE};
            CREATE INDEX IF NOT EXISTS {event} ON {inbox} (event) WHERE event IS NOT NULL;

            CREATE TABLE IF NOT EXISTS {delivery} (
                id bigint PRIMARY KEY,
                digest bytea NOT NULL,
                head text NOT NULL,
                ordering uuid[] NOT NULL,
                body bytea NOT NULL
            );

            CREATE TABLE IF NOT EXISTS {ordering} (
                key uuid,
                id bigint,
                PRIMARY KEY (key, id)
            );

            CREATE INDEX IF NOT EXISTS {by_id} ON {ordering} (id)",
            due = name.index("_inbox_due_idx"),
            ordered = name.index("_inbox_odue_idx"),
            dead = name.index("_inbox_dead_idx"),
            done = name.index("_inbox_done_idx"),
            event = name.index("_inbox_evt_idx"),
            by_id = name.index("_inbox_ord_idx"),
        )
    }

    /// Begins a transaction that leases.
    pub(super) fn begin_leasing(&self, limit: Duration) -> String {
        let begin = self.begin_locked("pg_advisory_xact_lock_shared", limit);
        format!("{begin};{ONLY_INDEXES}")
    }

    /// Begins a transaction that takes the lock on leasing with the function `lock`.
    pub(super) fn begin_locked(&self, lock: &str, limit: Duration) -> String {
        format!("{}; SELECT {lock}({LEASING_LOCKS}, '{}'::regclass::oid::integer)", begin(limit), self.inbox)
    }
}

/// Begins a transaction that changes many deliveries.
pub(super) fn begin_many(limit: Duration) -> String {
    format!("{};{ONLY_INDEXES}", begin(limit))
}

/// A connection plans a statement once, mostly while the tables are almost empty, when reading through a table looks cheap. Compiling the
/// statement would take longer than running it.
const ONLY_INDEXES: &str = r"
        SET LOCAL enable_seqscan = off;
        SET LOCAL jit = off";

//! The names of the tables, and the statements that begin transactions on them.

use std::time::Duration;

use crate::{
    connection::{begin, begin_long},
    names::Names,
    sql::LEASING_LOCKS,
};

/// The quoted names of the tables.
pub(super) struct Tables {
    pub(super) ledger: String,
    /// Short rows that change: the state and the labels of each delivery.
    pub(super) inbox: String,
    /// Long rows that do not change: the content of each delivery. Separate, so that a lease does not rewrite the body.
    pub(super) body: String,
    /// The queue of each ordering key: the deliveries that are READY or LEASED. A trigger on the inbox keeps it.
    pub(super) queue: String,
    /// The records of attempts that have ended.
    pub(super) attempt: String,
    /// The tenants that have had deliveries.
    pub(super) tenant: String,
    /// The pauses that are in force.
    pub(super) pause: String,
    /// The indexes that leasing searches.
    pub(super) searched: [String; 2],
}

impl Tables {
    pub(super) fn new(names: &Names) -> Self {
        Self {
            ledger: names.of("ledger"),
            inbox: names.of("inbox"),
            body: names.of("inbox_body"),
            queue: names.of("inbox_key"),
            attempt: names.of("inbox_attempt"),
            tenant: names.of("inbox_tenant"),
            pause: names.of("inbox_pause"),
            searched: ["inbox_due_idx", "inbox_ordered_idx"].map(|name| names.of(name)),
        }
    }

    /// Returns the statements that begin a transaction that leases.
    pub(super) fn begin_leasing(&self, limit: Duration) -> String {
        let begin = self.locking_leases("pg_advisory_xact_lock_shared", &begin(limit));
        format!("{begin};{ONLY_INDEXES}")
    }

    /// Returns the statements that begin a transaction during which nothing is leased.
    pub(super) fn begin_alone(&self, limit: Duration) -> String {
        format!("{};{ONLY_INDEXES}", self.locking_leases("pg_advisory_xact_lock", &begin(limit)))
    }

    /// Returns the statements that begin a transaction during which nothing is leased, and which may read whole tables.
    pub(super) fn begin_long(&self, deadline: Duration) -> String {
        self.locking_leases("pg_advisory_xact_lock", &begin_long(deadline))
    }

    /// Adds the statement that takes the leasing lock with the function `lock`.
    fn locking_leases(&self, lock: &str, begin: &str) -> String {
        format!("{begin}; SELECT {lock}({LEASING_LOCKS}, '{}'::regclass::oid::integer)", self.inbox)
    }
}

/// Returns the statements that begin a transaction that changes many deliveries.
pub(super) fn begin_many(limit: Duration) -> String {
    format!("{};{ONLY_INDEXES}", begin(limit))
}

/// Returns the statements that begin a transaction of a batch, which waits up to a quarter of `limit` for locks.
pub(super) fn begin_together(limit: Duration) -> String {
    // Postgres takes 0 as no limit.
    let millis = (limit / 4).as_millis().clamp(1, 1 << 30);
    format!("{}; SET LOCAL lock_timeout = {millis}", begin_many(limit))
}

/// Returns the statements that begin a transaction that counts attempts.
pub(super) fn begin_starting(limit: Duration) -> String {
    format!("{}; SET LOCAL synchronous_commit = off", begin_many(limit))
}

/// Settings that make the planner use indexes, and switch off compilation.
///
/// A connection plans a statement once, usually while the tables are almost empty and a sequential scan looks cheap.
/// Compiling the statement would take longer than running it.
const ONLY_INDEXES: &str = r"
        SET LOCAL enable_seqscan = off;
        SET LOCAL jit = off";

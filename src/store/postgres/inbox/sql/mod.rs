//! The inbox's tables, and every statement on them.
//!
//! What is stored goes by `clock_timestamp()`, as in the ledger. What is looked for goes by `statement_timestamp()`, which an
//! index can be searched by, and only where nothing is waited for.

mod accepting;
mod leasing;
mod operating;
mod tables;

use std::time::Duration;

use self::tables::Tables;
use super::super::{connection::begin, sql::TableName, store::PATIENCE};
use crate::inbox::DeliveryState;

const READY: i16 = DeliveryState::Ready.code();
const LEASED: i16 = DeliveryState::Leased.code();
const DEAD: i16 = DeliveryState::Dead.code();
const DONE: i16 = DeliveryState::Done.code();

/// Ready or leased, in the words of the index.
const UNFINISHED: &str = "state < 2";

/// Of the advisory locks that leasing shares with what brings dead deliveries back. Any number does that nobody else uses:
/// these are the letters "klkl".
const LEASING_LOCKS: i32 = 0x6b6c_6b6c;

/// The statements, for the tables beside one ledger.
///
/// Keys and digests are `bytea` as parameters, as in the ledger's statements. Those that say no more change, or give, one row
/// when they have done what they are for.
#[derive(Debug)]
pub(in super::super) struct InboxSql {
    /// No parameters, no rows.
    pub(in super::super) create: String,
    /// Key, event, token, digest, retention in seconds, head, body, ordering keys, the locks on them.
    pub(in super::super) accept: String,
    /// Key, event, token, digest, retention in seconds. Only the ledger's row of what is accepted.
    pub(super) remember: String,
    /// The same, and the digest that the dead one has: deletes that.
    pub(super) take_out: String,
    /// Key. One row: the state of the delivery and its digest, or nulls; whether the ledger's row is done, its digest and the
    /// seconds that remain, or nulls.
    pub(super) read: String,
    /// Key, token, retention in seconds. For a delivery that waits and whose row in the ledger has gone.
    pub(super) remember_again: String,
    /// Key, event, token, digest, retention in seconds, head, body, ordering keys, the
    /// digest that the dead one has.
    pub(super) revive: String,
    /// Begins a transaction that takes no lock before its first statement.
    pub(super) begin: String,
    /// Begins a transaction that leases.
    pub(super) begin_leasing: String,
    /// Begins a transaction during which nothing is leased, and which no other of its kind overlaps.
    pub(super) begin_alone: String,
    /// The same for what may look at the whole table.
    pub(super) begin_long: String,
    /// Limit, lease in seconds, the most attempts. Rows: id, token, attempts, head, body, and whether a lease on it ran out;
    /// token to body are null where it was buried.
    pub(super) lease: String,
    /// Id, token, lease in seconds.
    pub(super) extend: String,
    /// Id, token.
    pub(super) finish: String,
    /// Id, token, seconds to keep it.
    pub(super) keep: String,
    /// Id, token, pause in seconds, reason.
    pub(super) postpone: String,
    /// Id, token, reason.
    pub(super) bury: String,
    /// Id, token.
    pub(super) give_back: String,
    /// One row: how many are ready, leased, dead and done, and the seconds since the oldest was accepted.
    pub(super) counts: String,
    /// Limit. One row: how many are ready or leased.
    pub(super) backlog: String,
    /// After which id, limit. Rows: id, state, accepted, head, attempts, reason.
    pub(super) dead: String,
    /// Id. The same and the body.
    pub(super) show: String,
    /// Id.
    pub(super) retry: String,
    /// Event. One row: how many keys were forgotten.
    pub(super) forget_event: String,
    /// Start and end. One row: how many keys were forgotten.
    pub(super) forget_accepted: String,
    /// Limit. One row: how many there were.
    pub(super) purge_done: String,
}

impl InboxSql {
    pub(in super::super) fn new(name: &TableName, deadline: Duration) -> Self {
        const ALONE: &str = "pg_advisory_xact_lock";
        let tables = Tables::beside(name);
        Self {
            create: tables.create(name),
            accept: tables.accept(),
            remember: tables.remember(),
            take_out: tables.take_out(),
            read: tables.read(),
            remember_again: tables.remember_again(),
            revive: tables.revive(),
            begin: begin(deadline),
            begin_leasing: tables.begin_leasing(deadline),
            begin_alone: tables.begin(ALONE, deadline),
            begin_long: tables.begin(ALONE, deadline.saturating_mul(PATIENCE)),
            lease: tables.lease(),
            extend: tables.extend(),
            finish: tables.finish(),
            keep: tables.keep(),
            postpone: tables.postpone(),
            bury: tables.bury(),
            give_back: tables.give_back(),
            counts: tables.counts(),
            backlog: tables.backlog(),
            dead: tables.dead(),
            show: tables.show(),
            retry: tables.retry(),
            forget_event: tables.forget_event(),
            forget_accepted: tables.forget_accepted(),
            purge_done: tables.purge_done(),
        }
    }

    /// All that are prepared, for trying them out when the tables are opened.
    pub(in super::super) fn each(&self) -> [&str; 21] {
        [
            &self.accept,
            &self.remember,
            &self.take_out,
            &self.read,
            &self.remember_again,
            &self.revive,
            &self.lease,
            &self.extend,
            &self.finish,
            &self.keep,
            &self.postpone,
            &self.bury,
            &self.give_back,
            &self.counts,
            &self.backlog,
            &self.dead,
            &self.show,
            &self.retry,
            &self.forget_event,
            &self.forget_accepted,
            &self.purge_done,
        ]
    }
}

/// A key, as it lies in a column, from a parameter.
fn uuid(parameter: u8) -> String {
    format!("encode(${parameter}::bytea, 'hex')::uuid")
}

/// The time after so many seconds, from a parameter.
fn after(parameter: u8) -> String {
    format!("clock_timestamp() + make_interval(secs => ${parameter}::float8)")
}

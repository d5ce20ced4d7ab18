//! All statements on the inbox's tables.
//!
//! Times that are stored come from `clock_timestamp()`, as in the ledger. Times that rows are searched by come from
//! `statement_timestamp()`, because an index can be searched by it, and only in statements that wait for nothing.

mod accept;
mod admin;
mod lease;
mod settle;
mod tables;

use std::time::Duration;

use tower_klikit::inbox::DeliveryState;

use self::tables::{Tables, begin_many};
pub(super) use self::{lease::CONTENT_MISSING, settle::ByLease};
use super::super::{
    connection::begin,
    sql::{after, uuid},
    store::PATIENCE,
    table_name::TableName,
};

const READY: i16 = DeliveryState::Ready.code();
const LEASED: i16 = DeliveryState::Leased.code();
const DEAD: i16 = DeliveryState::Dead.code();
const DONE: i16 = DeliveryState::Done.code();

/// READY or LEASED, as the indexes spell it.
const UNFINISHED: &str = "state < 2";

/// The class of the advisory lock that leasing takes shared, and that statements take alone that bring DEAD deliveries back. It can be any
/// number that nobody else uses: these are the letters "klkl".
const LEASING_LOCKS: i32 = 0x6b6c_6b6c;

/// The statements on the tables of one inbox.
///
/// Keys and digests are `bytea` as parameters, as in the ledger's statements. Where nothing else is said, a statement changes or returns
/// one row if it did what it is for.
#[derive(Debug)]
pub(crate) struct InboxSql {
    /// Creates the tables. No parameters.
    pub(crate) create: String,
    /// Key, event, token, digest, seconds of the retention, head, body, ordering keys, the locks on them.
    pub(super) accept: String,
    /// Key, event, token, digest, seconds of the retention.
    pub(super) remember: String,
    /// Key, event, token, digest, seconds of the retention, digest of the DEAD delivery or NULL.
    pub(super) take_out: String,
    /// Key. Returns one row: state and digest of the delivery, or NULLs; whether the ledger row is done, its digest and the seconds
    /// until it can be claimed, or NULLs.
    pub(super) read: String,
    /// Key, digest. Returns the body.
    pub(super) read_body: String,
    /// Key, token, seconds of the retention.
    pub(super) remember_again: String,
    /// Key, event, token, digest, seconds of the retention, head, body, ordering keys, digest of the DEAD delivery or NULL.
    pub(super) revive: String,
    /// Begins a transaction that takes no lock.
    pub(super) begin: String,
    /// Begins a transaction that leases.
    pub(super) begin_leasing: String,
    /// Begins a transaction that changes many deliveries.
    pub(super) begin_many: String,
    /// Begins a transaction during which nothing is leased.
    pub(super) begin_alone: String,
    /// Begins such a transaction that may look at whole tables.
    pub(super) begin_long: String,
    /// Limit, seconds of the leases, most attempts, ids that are held, their tokens. Returns rows: id, token, attempts, head, body,
    /// ordering keys, whether the last lease expired, and why it was dead-lettered. Token and body are NULL if it was.
    pub(super) lease: String,
    /// The same parameters and rows, but head, body and ordering keys are NULL.
    pub(super) lease_unread: String,
    /// Id. Returns head, body and ordering keys.
    pub(super) read_content: String,
    /// The parameters of [`ByLease::many`].
    pub(super) extend: String,
    /// The parameters of [`ByLease::many`].
    pub(super) extend_expired: String,
    pub(super) delete: ByLease,
    pub(super) keep: ByLease,
    pub(super) reschedule: ByLease,
    pub(super) dead_letter: ByLease,
    pub(super) release: ByLease,
    /// Id, token, seconds, reason or NULL, by how many the attempts decrease.
    pub(super) bring_back: String,
    /// Id, token.
    pub(super) finish: String,
    /// Id. Returns its token and state.
    pub(super) look: String,
    /// Returns one row: how many deliveries are READY, LEASED, DEAD and DONE, and the seconds since the oldest was accepted.
    pub(super) counts: String,
    /// Limit. Returns one row: how many deliveries are READY or LEASED.
    pub(super) backlog: String,
    /// Id to start after, limit. Returns rows: id, state, accepted, head, attempts, reason.
    pub(super) dead: String,
    /// Id. Returns the same and the body.
    pub(super) show: String,
    /// Id.
    pub(super) retry: String,
    /// Event. Returns one row: how many keys were forgotten.
    pub(super) forget_event: String,
    /// Start and end. Returns one row: how many keys were forgotten.
    pub(super) forget_accepted: String,
    /// Limit. Returns one row: how many deliveries were deleted.
    pub(super) purge_done: String,
}

impl InboxSql {
    pub(crate) fn new(name: &TableName, deadline: Duration) -> Self {
        const ALONE: &str = "pg_advisory_xact_lock";
        let tables = Tables::beside(name);
        Self {
            create: tables.create(name),
            accept: tables.accept(),
            remember: tables.remember(),
            take_out: tables.take_out(),
            read: tables.read(),
            read_body: tables.read_body(),
            remember_again: tables.remember_again(),
            revive: tables.revive(),
            begin: begin(deadline),
            begin_leasing: tables.begin_leasing(deadline),
            begin_many: begin_many(deadline),
            begin_alone: tables.begin_locked(ALONE, deadline),
            begin_long: tables.begin_locked(ALONE, deadline.saturating_mul(PATIENCE)),
            lease: tables.lease(),
            lease_unread: tables.lease_unread(),
            read_content: tables.read_content(),
            extend: tables.extend(),
            extend_expired: tables.extend_expired(),
            delete: tables.delete(),
            keep: tables.keep(),
            reschedule: tables.reschedule(),
            dead_letter: tables.dead_letter(),
            release: tables.release(),
            bring_back: tables.bring_back(),
            finish: tables.finish(),
            look: tables.look(),
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

    /// The statements to check when the store is opened: all that take parameters.
    pub(crate) fn each(&self) -> Vec<&str> {
        let by_lease = [&self.delete, &self.keep, &self.reschedule, &self.dead_letter, &self.release];
        let by_lease = by_lease.into_iter().flat_map(|sql| [&sql.one, &sql.many]);
        let others = [
            &self.accept,
            &self.remember,
            &self.take_out,
            &self.read,
            &self.read_body,
            &self.remember_again,
            &self.revive,
            &self.lease,
            &self.lease_unread,
            &self.read_content,
            &self.extend,
            &self.extend_expired,
            &self.bring_back,
            &self.finish,
            &self.look,
            &self.counts,
            &self.backlog,
            &self.dead,
            &self.show,
            &self.retry,
            &self.forget_event,
            &self.forget_accepted,
            &self.purge_done,
        ];
        others.into_iter().chain(by_lease).map(String::as_str).collect()
    }
}

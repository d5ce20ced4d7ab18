//! The statements of one inbox.

use std::time::Duration;

use super::{
    settle::ByLease,
    tables::{Tables, begin_many, begin_starting, begin_together},
};
use crate::{
    connection::{PATIENCE, Sql},
    names::Names,
};

/// The statements on the tables of one inbox.
///
/// Keys and digests are `bytea` as parameters, as in the ledger's statements. Where nothing else is said, a statement
/// changes or returns one row if it did what it is for.
#[derive(Debug)]
pub(crate) struct InboxSql {
    /// Ten arrays with the key, event, token, digest, seconds of the retention, head, body, event id, event type and
    /// tenant of each delivery. Two arrays with the text of each ordering key and the position of its delivery. The locks
    /// on these keys. Returns the positions of the deliveries that were new, from 1.
    pub(crate) accept: Sql,
    /// Key, event, token, digest, seconds of the retention.
    pub(crate) remember: Sql,
    /// Key, event, token, digest, seconds of the retention, digest of the DEAD delivery or NULL.
    pub(crate) take_out: Sql,
    /// Key.
    pub(crate) lock: Sql,
    /// Key. Returns one row: state and digest of the delivery, or NULLs; whether the ledger row is done, its digest and
    /// the seconds until it can be claimed, or NULLs.
    pub(crate) read: Sql,
    /// Key, digest. Returns the body.
    pub(crate) read_body: Sql,
    /// Key, digest. Returns the head.
    pub(crate) read_head: Sql,
    /// Key, token, seconds of the retention.
    pub(crate) remember_again: Sql,
    /// Key, event, token, digest, seconds of the retention, head, body, event id, event type, tenant, ordering keys,
    /// digest of the DEAD delivery or NULL.
    pub(crate) revive: Sql,
    /// Begins a transaction of calls that arrived together. It does not wait long for a lock, so that the calls can then
    /// run alone.
    pub(crate) begin_together: String,
    /// Begins a transaction that counts attempts. The counts may be lost together with the server's machine.
    pub(crate) begin_starting: String,
    /// Begins a transaction that leases.
    pub(crate) begin_leasing: String,
    /// Begins a transaction that changes many deliveries.
    pub(crate) begin_many: String,
    /// Begins a transaction during which nothing is leased.
    pub(crate) begin_alone: String,
    /// Begins such a transaction that may look at whole tables.
    pub(crate) begin_long: String,
    /// Limit, seconds of the leases, most attempts, ids that are held, their tokens, number of free handlers. Then the
    /// times before which no delivery without or with ordering keys is due, or NULLs.
    ///
    /// Returns rows: id, token, number of the attempt, head, body, ordering keys. Then whether the last lease expired, why
    /// the delivery was dead-lettered, and whether the attempt is counted. Then, the same in all rows, when the first
    /// delivery without or with ordering keys was due. Token, body and ordering keys are NULL if it was dead-lettered.
    pub(crate) lease: Sql,
    /// The same parameters and rows, but head, body and ordering keys are NULL.
    pub(crate) lease_unread: Sql,
    /// Returns one row: how many index entries were read.
    pub(crate) entries_read: Sql,
    /// Id. Returns head, body and ordering keys.
    pub(crate) read_content: Sql,
    /// The parameters of [`ByLease::many`].
    pub(crate) extend: Sql,
    /// The parameters of [`ByLease::many`].
    pub(crate) extend_expired: Sql,
    pub(crate) delete: ByLease,
    pub(crate) keep: ByLease,
    pub(crate) reschedule: ByLease,
    pub(crate) reschedule_unordered: ByLease,
    pub(crate) dead_letter: ByLease,
    pub(crate) release: ByLease,
    pub(crate) start: ByLease,
    /// Id, token, seconds, reason or NULL, how many attempts there are at most.
    pub(crate) bring_back: Sql,
    /// The same parameters.
    pub(crate) bring_back_unordered: Sql,
    /// Id, token. Returns a row if the delivery is.
    pub(crate) is_dead_for_good: Sql,
    /// Id, token.
    pub(crate) finish: Sql,
    /// Id. Returns its token and state.
    pub(crate) look: Sql,
    /// Returns one row: how many deliveries are READY, LEASED, DEAD and DONE, and the seconds since the oldest was
    /// accepted.
    pub(crate) counts: Sql,
    /// Limit. Returns one row: how many deliveries are READY or LEASED.
    pub(crate) backlog: Sql,
    /// Limit. Returns one row: how many deliveries there are.
    pub(crate) stored: Sql,
    /// Id to start after, how many deliveries to look at, and what they must have, or NULL: states, tenant, event id, digest,
    /// start and end of a window. Limit. Returns rows: the last id that was looked at and how many deliveries were, and
    /// id, state, accepted_at, head, attempts, reason, digest of a delivery, or NULLs.
    pub(crate) find: Sql,
    /// The same, of DEAD deliveries alone.
    pub(crate) find_dead: Sql,
    /// Id. Returns id, state, accepted_at, head, attempts, reason, digest and body.
    pub(crate) show: Sql,
    /// Id.
    pub(crate) retry: Sql,
    /// Ids, states, reason. Returns one row: how many deliveries were dead-lettered.
    pub(crate) dead_letter_chosen: Sql,
    /// Ids.
    pub(crate) lock_ledger: Sql,
    /// Ids, states.
    pub(crate) lock_chosen: Sql,
    /// Ids, states. Returns one row: how many deliveries were forgotten.
    pub(crate) forget_chosen: Sql,
    /// Event. Returns one row: how many keys were forgotten.
    pub(crate) forget_event: Sql,
    /// Start and end. Returns one row: how many keys were forgotten.
    pub(crate) forget_accepted: Sql,
    /// Limit. Returns one row: how many deliveries were deleted.
    pub(crate) purge_done: Sql,
    /// The same.
    pub(crate) evict_done: Sql,
    /// Limit, seconds. Returns one row: how many deliveries were deleted.
    pub(crate) purge_dead: Sql,
}

impl InboxSql {
    pub(crate) fn new(names: &Names, deadline: Duration) -> Self {
        const ALONE: &str = "pg_advisory_xact_lock";
        let tables = Tables::new(names);
        Self {
            accept: Sql::new(tables.accept()),
            remember: Sql::new(tables.remember()),
            take_out: Sql::new(tables.take_out()),
            lock: Sql::new(tables.lock()),
            read: Sql::new(tables.read()),
            read_body: Sql::new(tables.read_body()),
            read_head: Sql::new(tables.read_head()),
            remember_again: Sql::new(tables.remember_again()),
            revive: Sql::new(tables.revive()),
            begin_together: begin_together(deadline),
            begin_starting: begin_starting(deadline),
            // Less than the caller waits: what is leased without an answer waits for its lease to expire.
            begin_leasing: tables.begin_leasing(deadline.mul_f64(0.75)),
            begin_many: begin_many(deadline),
            begin_alone: tables.begin_locked(ALONE, deadline),
            begin_long: tables.begin_locked(ALONE, deadline.saturating_mul(PATIENCE)),
            lease: Sql::new(tables.lease()),
            lease_unread: Sql::new(tables.lease_unread()),
            entries_read: Sql::new(tables.entries_read()),
            read_content: Sql::new(tables.read_content()),
            extend: Sql::new(tables.extend()),
            extend_expired: Sql::new(tables.extend_expired()),
            delete: tables.delete(),
            keep: tables.keep(),
            reschedule: tables.reschedule(),
            reschedule_unordered: tables.reschedule_unordered(),
            dead_letter: tables.dead_letter(),
            release: tables.release(),
            start: tables.start(),
            bring_back: Sql::new(tables.bring_back()),
            bring_back_unordered: Sql::new(tables.bring_back_unordered()),
            is_dead_for_good: Sql::new(tables.is_dead_for_good()),
            finish: Sql::new(tables.finish()),
            look: Sql::new(tables.look()),
            counts: Sql::new(tables.counts()),
            backlog: Sql::new(tables.backlog()),
            stored: Sql::new(tables.stored()),
            find: Sql::new(tables.find()),
            find_dead: Sql::new(tables.find_dead()),
            show: Sql::new(tables.show()),
            retry: Sql::new(tables.retry()),
            dead_letter_chosen: Sql::new(tables.dead_letter_chosen()),
            lock_ledger: Sql::new(tables.lock_ledger()),
            lock_chosen: Sql::new(tables.lock_chosen()),
            forget_chosen: Sql::new(tables.forget_chosen()),
            forget_event: Sql::new(tables.forget_event()),
            forget_accepted: Sql::new(tables.forget_accepted()),
            purge_done: Sql::new(tables.purge_done()),
            evict_done: Sql::new(tables.evict_done()),
            purge_dead: Sql::new(tables.purge_dead()),
        }
    }

    /// The statements to check when the store is opened: all that take parameters.
    pub(crate) fn each(&self) -> Vec<&Sql> {
        let by_lease = [
            &self.delete,
            &self.keep,
            &self.reschedule,
            &self.reschedule_unordered,
            &self.dead_letter,
            &self.release,
            &self.start,
        ];
        let by_lease = by_lease.into_iter().flat_map(|sql| [&sql.one, &sql.many]);
        let others = [
            &self.accept,
            &self.remember,
            &self.take_out,
            &self.lock,
            &self.read,
            &self.read_body,
            &self.read_head,
            &self.remember_again,
            &self.revive,
            &self.lease,
            &self.lease_unread,
            &self.entries_read,
            &self.read_content,
            &self.extend,
            &self.extend_expired,
            &self.bring_back,
            &self.bring_back_unordered,
            &self.is_dead_for_good,
            &self.finish,
            &self.look,
            &self.counts,
            &self.backlog,
            &self.stored,
            &self.find,
            &self.find_dead,
            &self.show,
            &self.retry,
            &self.dead_letter_chosen,
            &self.lock_ledger,
            &self.lock_chosen,
            &self.forget_chosen,
            &self.forget_event,
            &self.forget_accepted,
            &self.purge_done,
            &self.evict_done,
            &self.purge_dead,
        ];
        others.into_iter().chain(by_lease).collect()
    }
}

//! The statements of one inbox.

use std::time::Duration;

use super::{
    settle::ByLease,
    tables::{Tables, begin_many, begin_starting, begin_together},
};
use crate::{connection::Sql, names::Names};

/// The statements on the tables of one inbox.
///
/// Each field's comment lists the statement's parameters in order, and its results. Keys and digests are passed as `bytea`,
/// as in the ledger's statements. Unless the comment says otherwise, a statement changes or returns one row if it succeeds.
#[derive(Debug)]
pub(crate) struct InboxSql {
    /// Twelve arrays with the key, event, token, digest, seconds of the retention, head, body, event id, event type, tenant,
    /// term of the branch and terms of the orders, in lines, of each delivery. Two arrays with the text of each ordering key
    /// and the position of its delivery. The locks on these keys. Returns the positions of the deliveries that were new,
    /// from 1.
    pub(crate) accept: Sql,
    /// The first twelve parameters of [`accept`](Self::accept). Returns the positions of the deliveries that were stored,
    /// from 1.
    pub(crate) accept_usual: Sql,
    /// Key, event, token, digest, seconds of the retention.
    pub(crate) remember: Sql,
    /// Key, event, token, digest, seconds of the retention, digest of the DEAD delivery or NULL.
    pub(crate) move_to_queue: Sql,
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
    pub(crate) restore_ledger_row: Sql,
    /// Key, event, token, digest, seconds of the retention, head, body, event id, event type, tenant, ordering keys,
    /// digest of the DEAD delivery or NULL, term of the branch, terms of the orders in lines.
    pub(crate) revive: Sql,
    /// Begins a transaction of a batch. It waits only a short time for locks, so that the calls can then run by themselves.
    pub(crate) begin_together: String,
    /// Begins a transaction that counts attempts. A crash of the server may lose the latest counts.
    pub(crate) begin_starting: String,
    /// Begins a transaction that leases.
    pub(crate) begin_leasing: String,
    /// Begins a transaction that changes many deliveries.
    pub(crate) begin_many: String,
    /// Begins a transaction during which nothing is leased.
    pub(crate) begin_alone: String,
    /// Begins a transaction during which nothing is leased, and which may read whole tables.
    pub(crate) begin_long: String,
    /// Changes nothing if all tenants are known.
    pub(crate) add_tenants: Sql,
    /// Limit, seconds of the leases, maximum of attempts, ids of the held leases, their tokens, number of free handlers. Then
    /// the floors for deliveries without and with ordering keys, or NULLs. Then the worker's name.
    ///
    /// Returns rows: id, token, number of the attempt, head, body, ordering keys. Then whether the previous lease expired, the
    /// reason of a dead letter, and whether the attempt is counted. Then the age in seconds, whether the delivery was retried
    /// after it had expired, and the place in the order. Then, equal in all rows, the due times of the first deliveries
    /// without and with ordering keys, and the time of the search. Then, also equal, a text that changes with the pauses,
    /// and whether the search has considered all deliveries.
    ///
    /// Token, body, ordering keys and age are NULL if the delivery was dead-lettered. Without a delivery, there is one row
    /// whose id is NULL.
    pub(crate) lease: Sql,
    /// The parameters and rows of [`lease`](Self::lease). Leases nothing if deliveries with ordering keys are due.
    pub(crate) lease_loose: Sql,
    /// The parameters and rows of [`lease`](Self::lease), but head, body and ordering keys are NULL.
    pub(crate) lease_unread: Sql,
    /// Returns one row: the number of index entries read.
    pub(crate) entries_read: Sql,
    /// Id. Returns head, body and ordering keys.
    pub(crate) read_content: Sql,
    /// The parameters of [`ByLease::many`].
    pub(crate) extend: Sql,
    /// The parameters of [`ByLease::many`].
    pub(crate) extend_expired: Sql,
    pub(crate) delete: ByLease,
    pub(crate) keep: ByLease,
    pub(crate) keep_history: ByLease,
    pub(crate) reschedule: ByLease,
    pub(crate) reschedule_unordered: ByLease,
    pub(crate) dead_letter: ByLease,
    pub(crate) expire: ByLease,
    pub(crate) release: ByLease,
    pub(crate) start: ByLease,
    /// The parameters of [`ByLease::one`], as those of the following four.
    pub(crate) bring_back: Sql,
    pub(crate) bring_back_unordered: Sql,
    pub(crate) bring_back_released: Sql,
    pub(crate) leave_dead: Sql,
    pub(crate) leave_dead_released: Sql,
    /// Id, token.
    pub(crate) finish: Sql,
    /// Id. Returns its token and state.
    pub(crate) read_token_and_state: Sql,
    /// Returns one row: the numbers of READY, LEASED, DEAD and DONE deliveries, and the seconds since the oldest pending one
    /// was accepted.
    pub(crate) counts: Sql,
    /// Limit. Returns one row: the number of READY and LEASED deliveries.
    pub(crate) backlog: Sql,
    /// Limit. Returns one row: the number of all deliveries.
    pub(crate) stored: Sql,
    /// Id to start after, number of deliveries to examine. Then the filter's values, or NULLs: states, tenant, event id,
    /// digest, start and end of a window. Then the limit, and more values of the filter: id, event type, terms of an order
    /// and of a branch, part of the reason, least and largest number of attempts, least and largest age in seconds.
    ///
    /// Returns rows: the last examined id and the number of examined deliveries. Then the columns of an entry, or NULLs: id,
    /// state, accepted_at, head, attempts, reason, digest, age in seconds, whether there is a body, terms of the branch and
    /// of the orders.
    pub(crate) find: Sql,
    /// The parameters and rows of [`find`](Self::find), for DEAD deliveries only. In the same way, the following four
    /// examine only the deliveries with the id, event id, order or branch of the filter.
    pub(crate) find_dead: Sql,
    pub(crate) find_id: Sql,
    pub(crate) find_event_id: Sql,
    pub(crate) find_order: Sql,
    pub(crate) find_branch: Sql,
    /// Id, whether to read the body. Returns the columns of an entry. Then the body, and start and worker of the open attempt.
    pub(crate) show: Sql,
    /// Id, limit. Returns number, worker, started_at, ended_at, status and reason.
    pub(crate) read_records: Sql,
    /// Ids, states. Returns one row: the number of deliveries that are READY now.
    pub(crate) requeue: Sql,
    /// Ids, states, reason. Returns one row: the number of deliveries that were dead-lettered.
    pub(crate) dead_letter_chosen: Sql,
    /// Ids.
    pub(crate) lock_ledger: Sql,
    /// Ids, states.
    pub(crate) lock_chosen: Sql,
    /// Ids, states. Returns one row: how many deliveries were deleted.
    pub(crate) delete_locked: Sql,
    /// Ids, states. Returns one row: how many deliveries were forgotten.
    pub(crate) forget_locked: Sql,
    /// Event. Returns one row: the number of keys that would be forgotten.
    pub(crate) count_event: Sql,
    /// Start and end. Returns one row: the number of keys that would be forgotten.
    pub(crate) count_accepted: Sql,
    /// Event. Returns one row: the number of keys that were forgotten.
    pub(crate) forget_event: Sql,
    /// Start and end. Returns one row: the number of keys that were forgotten.
    pub(crate) forget_accepted: Sql,
    /// Tenant and event type, or NULLs. Then the operator.
    pub(crate) pause: Sql,
    /// Tenant and event type, or NULLs. Returns one row: the number of deliveries that are READY now.
    pub(crate) release_paused: Sql,
    /// Tenant and event type, or NULLs.
    pub(crate) resume: Sql,
    /// Returns tenant, event type, operator and start of each pause.
    pub(crate) pauses: Sql,
    /// Limit. Returns one row: the number of deliveries that were deleted or lost their body.
    pub(crate) purge_done: Sql,
    /// Limit. Returns one row: the number of deliveries that were deleted.
    pub(crate) evict_done: Sql,
    /// Limit, seconds. Returns one row: the number of deliveries that were deleted.
    pub(crate) purge_dead: Sql,
}

impl InboxSql {
    pub(crate) fn new(names: &Names, deadline: Duration) -> Self {
        let tables = Tables::new(names);
        Self {
            accept: Sql::new(tables.accept()),
            accept_usual: Sql::new(tables.accept_usual()),
            remember: Sql::new(tables.remember()),
            move_to_queue: Sql::new(tables.move_to_queue()),
            lock: Sql::new(tables.lock()),
            read: Sql::new(tables.read()),
            read_body: Sql::new(tables.read_body()),
            read_head: Sql::new(tables.read_head()),
            restore_ledger_row: Sql::new(tables.restore_ledger_row()),
            revive: Sql::new(tables.revive()),
            begin_together: begin_together(deadline),
            begin_starting: begin_starting(deadline),
            // Shorter than the caller's deadline: deliveries that are leased without a response wait until the lease expires.
            begin_leasing: tables.begin_leasing(deadline.mul_f64(0.75)),
            begin_many: begin_many(deadline),
            begin_alone: tables.begin_alone(deadline),
            begin_long: tables.begin_long(deadline),
            add_tenants: Sql::new(tables.add_tenants()),
            lease: Sql::new(tables.lease()),
            lease_loose: Sql::new(tables.lease_loose()),
            lease_unread: Sql::new(tables.lease_unread()),
            entries_read: Sql::new(tables.entries_read()),
            read_content: Sql::new(tables.read_content()),
            extend: Sql::new(tables.extend()),
            extend_expired: Sql::new(tables.extend_expired()),
            delete: tables.delete(),
            keep: tables.keep(),
            keep_history: tables.keep_history(),
            reschedule: tables.reschedule(),
            reschedule_unordered: tables.reschedule_unordered(),
            dead_letter: tables.dead_letter(),
            expire: tables.expire(),
            release: tables.release(),
            start: tables.start(),
            bring_back: Sql::new(tables.bring_back()),
            bring_back_unordered: Sql::new(tables.bring_back_unordered()),
            bring_back_released: Sql::new(tables.bring_back_released()),
            leave_dead: Sql::new(tables.leave_dead()),
            leave_dead_released: Sql::new(tables.leave_dead_released()),
            finish: Sql::new(tables.finish()),
            read_token_and_state: Sql::new(tables.read_token_and_state()),
            counts: Sql::new(tables.counts()),
            backlog: Sql::new(tables.backlog()),
            stored: Sql::new(tables.stored()),
            find: Sql::new(tables.find()),
            find_dead: Sql::new(tables.find_dead()),
            find_id: Sql::new(tables.find_id()),
            find_event_id: Sql::new(tables.find_event_id()),
            find_order: Sql::new(tables.find_order()),
            find_branch: Sql::new(tables.find_branch()),
            show: Sql::new(tables.show()),
            read_records: Sql::new(tables.read_records()),
            requeue: Sql::new(tables.requeue()),
            dead_letter_chosen: Sql::new(tables.dead_letter_chosen()),
            lock_ledger: Sql::new(tables.lock_ledger()),
            lock_chosen: Sql::new(tables.lock_chosen()),
            delete_locked: Sql::new(tables.delete_locked()),
            forget_locked: Sql::new(tables.forget_locked()),
            count_event: Sql::new(tables.count_event()),
            count_accepted: Sql::new(tables.count_accepted()),
            forget_event: Sql::new(tables.forget_event()),
            forget_accepted: Sql::new(tables.forget_accepted()),
            pause: Sql::new(tables.pause()),
            release_paused: Sql::new(tables.release_paused()),
            resume: Sql::new(tables.resume()),
            pauses: Sql::new(tables.pauses()),
            purge_done: Sql::new(tables.purge_done()),
            evict_done: Sql::new(tables.evict_done()),
            purge_dead: Sql::new(tables.purge_dead()),
        }
    }

    /// Returns the statements that are checked when the store is opened.
    pub(crate) fn each(&self) -> Vec<&Sql> {
        let by_lease = [
            &self.delete,
            &self.keep,
            &self.keep_history,
            &self.reschedule,
            &self.reschedule_unordered,
            &self.dead_letter,
            &self.expire,
            &self.release,
            &self.start,
        ];
        let by_lease = by_lease.into_iter().flat_map(|sql| [&sql.one, &sql.many]);
        let others = [
            &self.accept,
            &self.accept_usual,
            &self.remember,
            &self.move_to_queue,
            &self.lock,
            &self.read,
            &self.read_body,
            &self.read_head,
            &self.restore_ledger_row,
            &self.revive,
            &self.add_tenants,
            &self.lease,
            &self.lease_loose,
            &self.lease_unread,
            &self.entries_read,
            &self.read_content,
            &self.extend,
            &self.extend_expired,
            &self.bring_back,
            &self.bring_back_unordered,
            &self.bring_back_released,
            &self.leave_dead,
            &self.leave_dead_released,
            &self.finish,
            &self.read_token_and_state,
            &self.counts,
            &self.backlog,
            &self.stored,
            &self.find,
            &self.find_dead,
            &self.find_id,
            &self.find_event_id,
            &self.find_order,
            &self.find_branch,
            &self.show,
            &self.read_records,
            &self.requeue,
            &self.dead_letter_chosen,
            &self.lock_ledger,
            &self.lock_chosen,
            &self.delete_locked,
            &self.forget_locked,
            &self.count_event,
            &self.count_accepted,
            &self.forget_event,
            &self.forget_accepted,
            &self.pause,
            &self.release_paused,
            &self.resume,
            &self.pauses,
            &self.purge_done,
            &self.evict_done,
            &self.purge_dead,
        ];
        others.into_iter().chain(by_lease).collect()
    }
}

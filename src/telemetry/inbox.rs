//! The inbox's log messages and counters.

use std::{error::Error, time::Duration};

use http::{Method, StatusCode};

use super::{
    LogContext, LogLimits, counts,
    log::{INBOX, STORE, error, info, source_of, warn},
    span,
};
use crate::{
    event::Delivery,
    inbox::{Counts, DeliveryId},
    visible::Escaped,
};

/// Runs one attempt of an inbox's worker in a span of its own.
pub(crate) fn in_attempt<F: Future>(
    context: LogContext<'_>,
    delivery_id: DeliveryId,
    attempt: u32,
    future: F,
) -> impl Future<Output = F::Output> {
    span::in_attempt(context, delivery_id.get(), attempt, future)
}

/// Records how many deliveries are in each state, and how long ago the oldest pending one was accepted.
#[cfg(feature = "metrics")]
pub(crate) fn inbox(states: &[(&'static str, u64)], oldest: Option<Duration>) {
    counts::inbox(states, oldest);
}

/// A store failed to do `what` for an acceptor, which may try again for each delivery.
pub(crate) fn acceptor_store_failed(what: &'static str, error: &dyn Error, limits: &LogLimits) {
    if let Some(left_out) = limits.admit(what) {
        let (source, error) = (source_of(error), Escaped(error));
        warn!(target: STORE, source, left_out, "cannot {what} deliveries: {error}");
    }
}

/// A store failed to do `what` for a worker.
pub(crate) fn inbox_store_failed(what: &str, error: &dyn Error) {
    let (source, error) = (source_of(error), Escaped(error));
    warn!(target: STORE, source, "cannot {what} deliveries: {error}");
}

/// A worker's handler kept its thread for so long that no lease could be extended on it.
pub(crate) fn attempt_blocked(
    LogContext { event_id, tenant }: LogContext<'_>,
    delivery_id: DeliveryId,
    blocked: Duration,
) {
    let (delivery_id, seconds) = (delivery_id.get(), blocked.as_secs_f64());
    warn!(target: INBOX, event_id, tenant, delivery_id,
        "the handler blocked its thread for {seconds:.1} s; use spawn_blocking"
    );
}

/// The acceptor got a request from a worker.
pub(crate) fn acceptor_is_handler() {
    error!(target: INBOX, "the worker's handler is the inbox's own acceptor: give the worker your handler");
}

pub(crate) fn backlog_full(max_backlog: u64, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("backlog_full") {
        warn!(target: INBOX, max_backlog, left_out, "inbox backlog is full: rejected a delivery");
    }
}

/// The path or the method of a delivery is too long.
pub(crate) fn target_rejected(delivery: &Delivery, status: StatusCode, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("target_rejected") {
        let LogContext { event_id, tenant } = delivery.into();
        warn!(target: INBOX, event_id, tenant, status = status.as_u16(), left_out,
            "rejected a delivery: its path or method is too long, and klikit signs neither"
        );
    }
}

/// The query of a delivery is too long.
pub(crate) fn query_left_out(delivery: &Delivery, bytes: usize, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("query_left_out") {
        let LogContext { event_id, tenant } = delivery.into();
        warn!(target: INBOX, event_id, tenant, bytes, left_out,
            "stored a delivery without its query, which is too long, and which klikit does not sign"
        );
    }
}

/// So many deliveries are stored, where `max_stored` are allowed.
pub(crate) fn inbox_stored(stored: u64, max_stored: u64) {
    let ratio = if stored < max_stored { stored as f64 / max_stored as f64 } else { 1.0 };
    counts::stored_ratio(ratio);
}

/// The number of stored deliveries has reached 80 % of its limit.
pub(crate) fn inbox_fills_up(counts: &Counts, max_stored: u64) {
    let Counts { ready, leased, dead, done, .. } = *counts;
    warn!(target: INBOX, max_stored, ready, leased, dead, done,
        "the inbox fills up: it holds at least 80 % of the deliveries that max_stored allows; retry or forget dead letters, set \
         keep_dead_letters, keep bodies for less time, or raise max_stored"
    );
}

pub(crate) fn inbox_full(max_stored: u64, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("inbox_full") {
        warn!(target: INBOX, max_stored, left_out,
            "inbox is full: rejected a delivery; retry or forget dead letters, or raise max_stored"
        );
    }
}

/// Kept deliveries gave way before their time.
pub(crate) fn kept_evicted(deliveries: u64, max_stored: u64) {
    info!(target: INBOX, max_stored, "inbox is full: deleted {deliveries} kept deliveries before their time");
}

/// Dead letters were deleted because of their age.
pub(crate) fn dead_letters_expired(deliveries: u64, age: Duration) {
    warn!(target: INBOX, "deleted {deliveries} dead letters accepted more than {age:?} ago");
    counts::dead_letters_expired(deliveries);
}

/// An ordering rule found no id of the kind that it asks for, such as `order id`.
pub(crate) fn unordered(LogContext { event_id, tenant }: LogContext<'_>, missing: &str) {
    warn!(target: INBOX, event_id, tenant, "no {missing} could be read: handling the delivery in no order");
}

pub(crate) fn attempt_failed(
    LogContext { event_id, tenant }: LogContext<'_>,
    delivery_id: DeliveryId,
    attempt: u32,
    delay: Duration,
    reason: &str,
) {
    let (delivery_id, reason) = (delivery_id.get(), Escaped(reason));
    warn!(target: INBOX, event_id, tenant, delivery_id, attempt, ?delay, "attempt failed, will retry: {reason}");
}

pub(crate) fn dead_lettered(
    LogContext { event_id, tenant }: LogContext<'_>,
    delivery_id: DeliveryId,
    attempts: u32,
    reason: &str,
) {
    let (delivery_id, reason) = (delivery_id.get(), Escaped(reason));
    error!(target: INBOX, event_id, tenant, delivery_id, attempts, "dead-lettered a delivery: {reason}");
    counts::dead_letter(tenant);
}

/// The handler responded that it has no such route.
pub(crate) fn misrouted(status: StatusCode, method: &Method, path: &str, delivery_id: DeliveryId) {
    let (delivery_id, path) = (delivery_id.get(), Escaped(path));
    error!(target: INBOX, delivery_id,
        "the worker's handler has no route for {method} {path}: it responded with {status}"
    );
}

/// The store does not know the lease of a running handler any more. Whether that matters shows when the handler ends.
pub(crate) fn lease_lost(delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    info!(target: INBOX, delivery_id,
        "cannot extend the lease of a running handler: another worker has leased or dead-lettered the delivery, or the handler has \
         finished it itself"
    );
}

/// A handler has not returned long after its deadline. Reported once.
pub(crate) fn handler_stuck(delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    error!(target: INBOX, delivery_id,
        "a handler does not return after its deadline: its lease is no longer extended, and other nodes may handle the delivery"
    );
}

/// A delivery was not handled, because another worker has leased it in time.
pub(crate) fn not_started(LogContext { event_id, tenant }: LogContext<'_>, delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    info!(target: INBOX, event_id, tenant, delivery_id, "lost the lease before the handler started: another worker has the delivery");
}

/// A delivery was leased whose last lease had expired.
pub(crate) fn lease_expired(LogContext { event_id, tenant }: LogContext<'_>, delivery_id: DeliveryId, attempt: u32) {
    let delivery_id = delivery_id.get();
    warn!(target: INBOX, event_id, tenant, delivery_id, attempt,
        "leased a delivery whose last lease expired: its worker died, or may still be handling it"
    );
}

/// A handler has ended, and its outcome does not count.
pub(crate) fn outcome_lost(LogContext { event_id, tenant }: LogContext<'_>, delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    warn!(target: INBOX, event_id, tenant, delivery_id,
        "lost the lease while the handler was running, so its outcome does not count: another worker has leased the delivery since"
    );
    counts::lease_lost();
}

/// A handler has ended, and its delivery, whose lease was lost, is not in the inbox any more.
pub(crate) fn outcome_of_gone(LogContext { event_id, tenant }: LogContext<'_>, delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    warn!(target: INBOX, event_id, tenant, delivery_id,
        "lost the lease while the handler was running, and the delivery is gone: another worker has handled it as well, or the handler \
         has finished it itself"
    );
    counts::lease_lost();
}

/// A delivery could not be read, and could not be dead-lettered either.
pub(crate) fn unreadable(delivery_id: DeliveryId, error: &dyn Error) {
    let delivery_id = delivery_id.get();
    let (source, error) = (source_of(error), Escaped(error));
    error!(target: INBOX, delivery_id, source, "cannot read a delivery: {error}");
}

/// A copy whose JSON was written anew.
pub(crate) fn json_rewritten(delivery: &Delivery, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("json_rewritten") {
        let LogContext { event_id, tenant } = delivery.into();
        warn!(target: INBOX, event_id, tenant, left_out, "event id reused with a rewritten body: the JSON is the same");
    }
}

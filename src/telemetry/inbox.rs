//! Log messages, spans and metrics of the inbox.

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use http::{Method, StatusCode};

use super::{
    LogContext, LogLimits, counts,
    log::{AUDIT, INBOX, STORE, error, info, source_of, warn},
    span,
};
use crate::{
    event::Delivery,
    inbox::{Counts, DeliveryId, Settlement},
    visible::Escaped,
};

/// The outcome of an attempt whose lease was lost.
const LOST: &str = "lost";

/// Returns whether a subscriber listens to the lines about the start and the stop of a worker.
pub(crate) fn worker_lines_are_enabled() -> bool {
    span::inbox_info_is_enabled()
}

/// Logs that a worker starts, and the number of deliveries in each state.
///
/// A worker that crashed has extended its leases before the crash, so they end within `lease`.
pub(crate) fn worker_starts(counts: &Counts, lease: Duration) {
    let Counts { ready, leased, dead, .. } = *counts;
    let end = SystemTime::now().checked_add(lease).filter(|_| leased > 0);
    let until = end.map_or_else(String::new, |end| format!(" until {} at the latest", time_of_day(end)));
    let letters = if dead == 1 { "letter" } else { "letters" };
    info!(target: INBOX, "inbox: {ready} pending, {leased} leased{until}, {dead} dead {letters}");
}

/// Registers the counters of a worker.
pub(crate) fn start_worker_counters() {
    counts::start_worker_counters(&["done", "retry", "dead", "expired", "released", LOST]);
}

/// Counts an attempt whose settlement was recorded.
pub(crate) fn attempt_settled(settlement: &Settlement) {
    counts::attempt_ended(match settlement {
        Settlement::Done { .. } => "done",
        Settlement::Reschedule { .. } => "retry",
        Settlement::DeadLetter { .. } => "dead",
        Settlement::Expire => "expired",
        Settlement::Release => "released",
    });
}

/// Logs that a worker was asked to stop while this number of handlers was running.
pub(crate) fn worker_drains(handlers: usize) {
    let deliveries = if handlers == 1 { "delivery" } else { "deliveries" };
    info!(target: INBOX, "draining {handlers} {deliveries}");
}

/// Logs that a worker has stopped. `interrupted` is the number of handlers that were still running after `deadline`.
pub(crate) fn worker_stopped(interrupted: usize, deadline: Duration) {
    let handlers = if interrupted == 1 { "handler" } else { "handlers" };
    let reason = match interrupted {
        0 => String::new(),
        _ => format!(": interrupted {interrupted} {handlers} that did not end within {deadline:?}"),
    };
    info!(target: INBOX, "stopped{reason}");
}

/// Formats a time as hours, minutes and seconds in UTC.
fn time_of_day(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    format!("{:02}:{:02}:{:02}Z", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// Wraps the future of one attempt of a worker in a span of its own.
pub(crate) fn in_attempt<F: Future>(
    context: LogContext<'_>,
    delivery_id: DeliveryId,
    attempt: u32,
    future: F,
) -> impl Future<Output = F::Output> {
    span::in_attempt(context, delivery_id.get(), attempt, future)
}

/// Sets the gauges of the inbox: the number of deliveries in each state, and the age of the oldest unfinished delivery.
#[cfg(feature = "metrics")]
pub(crate) fn inbox(states: &[(&'static str, u64)], oldest: Option<Duration>) {
    counts::inbox(states, oldest);
}

/// Logs that the store failed in an `operation` of an acceptor, at a limited rate: each delivery can cause one.
pub(crate) fn acceptor_store_failed(operation: &'static str, error: &dyn Error, limits: &LogLimits) {
    if let Some(left_out) = limits.admit(operation) {
        let (source, error) = (source_of(error), Escaped(error));
        warn!(target: STORE, source, left_out, "cannot {operation} deliveries: {error}");
    }
}

/// Logs that the store failed in an `operation` of a worker.
pub(crate) fn inbox_store_failed(operation: &str, error: &dyn Error) {
    let (source, error) = (source_of(error), Escaped(error));
    warn!(target: STORE, source, "cannot {operation} deliveries: {error}");
}

/// Logs that a handler blocked its thread for so long that its lease could not be extended on that thread.
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

/// Logs that an acceptor received a request from a worker.
pub(crate) fn acceptor_is_handler() {
    error!(target: INBOX, "the worker's handler is the inbox's own acceptor: give the worker your handler");
}

/// Logs that a delivery was rejected because the backlog is full.
pub(crate) fn backlog_full(max_backlog: u64, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("backlog_full") {
        warn!(target: INBOX, max_backlog, left_out, "inbox backlog is full: rejected a delivery");
    }
}

/// Logs that a delivery was rejected because its path or method is too long.
pub(crate) fn target_rejected(delivery: &Delivery, status: StatusCode, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("target_rejected") {
        let LogContext { event_id, tenant } = delivery.into();
        warn!(target: INBOX, event_id, tenant, status = status.as_u16(), left_out,
            "rejected a delivery: its path or method is too long; klikit signs neither, so the sender may have changed them"
        );
    }
}

/// Logs that a delivery was stored without its query, because the query is too long.
pub(crate) fn query_left_out(delivery: &Delivery, bytes: usize, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("query_left_out") {
        let LogContext { event_id, tenant } = delivery.into();
        warn!(target: INBOX, event_id, tenant, bytes, left_out,
            "stored a delivery without its query: the query is too long, and klikit does not sign it"
        );
    }
}

/// Sets the gauge of the share of `max_stored` that is stored.
pub(crate) fn inbox_stored(stored: u64, max_stored: u64) {
    let ratio = if stored < max_stored { stored as f64 / max_stored as f64 } else { 1.0 };
    counts::stored_ratio(ratio);
}

/// Logs that the number of stored deliveries has reached 80 % of `max_stored`.
pub(crate) fn inbox_fills_up(counts: &Counts, max_stored: u64) {
    let Counts { ready, leased, dead, done, .. } = *counts;
    warn!(target: INBOX, max_stored, ready, leased, dead, done,
        "inbox is filling up: it holds at least 80 % of the deliveries that max_stored allows; retry or forget dead letters, set \
         keep_dead_letters, keep bodies for less time, or raise max_stored"
    );
}

/// Logs that a delivery was rejected because `max_stored` deliveries are stored.
pub(crate) fn inbox_full(max_stored: u64, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("inbox_full") {
        warn!(target: INBOX, max_stored, left_out,
            "inbox is full: rejected a delivery; retry or forget dead letters, or raise max_stored"
        );
    }
}

/// Logs that handled deliveries were deleted early to make room for new ones.
pub(crate) fn kept_evicted(deliveries: u64, max_stored: u64) {
    info!(target: INBOX, max_stored, "inbox is full: deleted {deliveries} handled deliveries before keep_bodies ended");
}

/// Logs and counts dead letters that were deleted because of their age.
pub(crate) fn dead_letters_expired(deliveries: u64, age: Duration) {
    warn!(target: INBOX, "deleted {deliveries} dead letters accepted more than {age:?} ago");
    counts::dead_letters_expired(deliveries);
}

/// Logs that an ordering rule could not read the id that it needs. `missing` names the id, such as `order id`.
pub(crate) fn unordered(LogContext { event_id, tenant }: LogContext<'_>, missing: &str) {
    warn!(target: INBOX, event_id, tenant, "cannot read the {missing} of a delivery: handling the delivery without ordering");
}

/// Logs that an attempt failed and that the delivery is rescheduled by `delay`.
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

/// Logs and counts a delivery that was dead-lettered after `attempts` attempts.
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

/// Logs and counts a delivery that was dead-lettered because it was too old to be handled.
pub(crate) fn expired(
    LogContext { event_id, tenant }: LogContext<'_>,
    delivery_id: DeliveryId,
    event_type: &str,
    age: Duration,
) {
    let (delivery_id, event_type) = (delivery_id.get(), Escaped(event_type));
    warn!(target: INBOX, event_id, tenant, delivery_id, %event_type, ?age, "dead-lettered a delivery that has expired");
    counts::expired(tenant);
    counts::dead_letter(tenant);
}

/// The number of deliveries that an action of an operator has changed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Changed {
    Exactly(u64),
    /// The outcome of the last call is unknown.
    AtLeast(u64),
}

/// Logs an action of an operator.
pub(crate) fn operator_acted(operator: &str, action: &str, filter: &str, changed: Changed) {
    let operator = Escaped(operator);
    let (deliveries, deliveries_at_least) = match changed {
        Changed::Exactly(deliveries) => (Some(deliveries), None),
        Changed::AtLeast(deliveries) => (None, Some(deliveries)),
    };
    info!(
        target: AUDIT, %operator, action, filter, deliveries, deliveries_at_least, "operator acted on deliveries"
    );
}

/// Logs that the handler has no route for a stored delivery.
pub(crate) fn misrouted(status: StatusCode, method: &Method, path: &str, delivery_id: DeliveryId) {
    let (delivery_id, path) = (delivery_id.get(), Escaped(path));
    error!(target: INBOX, delivery_id,
        "the worker's handler has no route for {method} {path}: it responded with {status}"
    );
}

/// Logs that a lease could not be extended. [`outcome_lost`] or [`outcome_of_gone`] follows if
/// the outcome of the handler is lost.
pub(crate) fn lease_lost(delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    info!(target: INBOX, delivery_id,
        "cannot extend a lease: another worker has leased or dead-lettered the delivery, an operator has paused or deleted it, or the \
         handler itself has completed it"
    );
}

/// Logs, once per handler, that it has not returned long after its deadline.
pub(crate) fn handler_stuck(delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    error!(target: INBOX, delivery_id,
        "handler has not returned after its deadline: its lease is no longer extended, so other nodes may handle the delivery"
    );
}

/// Logs that a leased delivery was skipped because its lease was lost before its handler started.
pub(crate) fn not_started(LogContext { event_id, tenant }: LogContext<'_>, delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    info!(target: INBOX, event_id, tenant, delivery_id, "lost the lease before the handler started: another worker has leased the delivery, or an operator has paused, dead-lettered or deleted it");
}

/// Logs that a delivery was leased whose previous lease had expired.
pub(crate) fn lease_expired(LogContext { event_id, tenant }: LogContext<'_>, delivery_id: DeliveryId, attempt: u32) {
    let delivery_id = delivery_id.get();
    warn!(target: INBOX, event_id, tenant, delivery_id, attempt,
        "leased a delivery whose last lease expired: its last worker has crashed, may still be handling it, or did not get the store's response"
    );
}

/// Logs and counts a handler whose outcome was discarded because another worker leased the delivery.
pub(crate) fn outcome_lost(LogContext { event_id, tenant }: LogContext<'_>, delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    warn!(target: INBOX, event_id, tenant, delivery_id,
        "lost the lease while the handler was running: another worker has leased the delivery, so the outcome is discarded"
    );
    counts::lease_lost();
    counts::attempt_ended(LOST);
}

/// Logs and counts a handler that has ended after its lease was lost and its delivery was deleted.
pub(crate) fn outcome_of_gone(LogContext { event_id, tenant }: LogContext<'_>, delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    warn!(target: INBOX, event_id, tenant, delivery_id,
        "lost the lease while the handler was running, and the delivery is gone: another worker has handled it too, or the handler \
         itself has completed it"
    );
    counts::lease_lost();
    counts::attempt_ended(LOST);
}

/// Logs a delivery that can neither be read nor dead-lettered.
pub(crate) fn unreadable(delivery_id: DeliveryId, error: &dyn Error) {
    let delivery_id = delivery_id.get();
    let (source, error) = (source_of(error), Escaped(error));
    error!(target: INBOX, delivery_id, source, "cannot read a delivery: {error}");
}

/// Logs a copy of a delivery whose body has the same JSON in other bytes.
pub(crate) fn json_rewritten(delivery: &Delivery, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("json_rewritten") {
        let LogContext { event_id, tenant } = delivery.into();
        warn!(target: INBOX, event_id, tenant, left_out, "event id reused with a reformatted body: the JSON is the same");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_day_is_in_utc() {
        for (seconds, text) in [(0, "00:00:00Z"), (86_399, "23:59:59Z"), (1_764_178_788, "17:39:48Z")] {
            assert_eq!(time_of_day(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}

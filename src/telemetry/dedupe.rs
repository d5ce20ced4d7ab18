//! Log messages and counters of the dedupe layer and of its store.

use std::{error::Error, time::Duration};

use futures_util::FutureExt;
use tokio::time::Instant;

pub(crate) use super::span::{CurrentSpan, in_current_span};
use super::{
    LogContext, LogLimits, counts,
    limit::LeftOut,
    log::{DEDUPE, STORE, debug, error, info, source_of, warn},
};
use crate::{dedupe::ReplayLimit, event::Delivery, visible::Escaped};

/// Counts a delivery that was handled or stored before.
pub(crate) fn duplicate(delivery: &Delivery) {
    let LogContext { event_id, tenant } = delivery.into();
    debug!(target: DEDUPE, event_id, tenant, "ignored a duplicate");
    counts::duplicate(delivery.tenant());
}

/// Logs and counts an event id that came with another body before. `treatment` tells how the delivery is treated.
pub(crate) fn conflict(delivery: &Delivery, treatment: &str, limits: &LogLimits) {
    let LogContext { event_id, tenant } = delivery.into();
    if let Some(left_out) = limits.admit("conflict") {
        warn!(target: DEDUPE, event_id, tenant, left_out, "event id reused with a different body: {treatment}");
    }
    counts::conflict(delivery.tenant());
}

/// Counts a delivery that is rejected as a replay, and logs it if `limit` is given. Pass `limit` once per window.
pub(crate) fn replayed(delivery: &Delivery, limit: Option<ReplayLimit>) {
    let LogContext { event_id, tenant } = delivery.into();
    if let Some(ReplayLimit { ids, window }) = limit {
        warn!(target: DEDUPE, event_id, tenant, ?window,
            "rejected a replayed delivery: its body came with more than {ids} event ids. Somebody may be replaying a captured \
             delivery. If klikit itself repeats bodies, raise replay_limit, or use Identity::Body to treat them as duplicates"
        );
    }
    counts::replay(delivery.tenant());
}

/// Logs that the store could not perform `operation`, such as `complete`, on a delivery.
pub(crate) fn store_failed(operation: &'static str, context: LogContext<'_>, error: &dyn Error) {
    warn_of_store(operation, context, error, None);
}

/// Logs a store failure before the handler ran, at a limited rate: each request of a sender can cause one.
pub(crate) fn store_rejected(operation: &'static str, context: LogContext<'_>, error: &dyn Error, limits: &LogLimits) {
    if let Some(left_out) = limits.admit(operation) {
        warn_of_store(operation, context, error, left_out);
    }
}

fn warn_of_store(operation: &str, context: LogContext<'_>, error: &dyn Error, left_out: LeftOut) {
    let LogContext { event_id, tenant } = context;
    let (source, error) = (source_of(error), Escaped(error));
    warn!(target: STORE, event_id, tenant, source, left_out, "cannot {operation} a delivery: {error}");
}

/// Waits for a handler. Records the time until it returned, panicked or timed out. `caller` is `dedupe` or `worker`.
pub(crate) fn time_handler<F: Future>(caller: &'static str, handler: F) -> impl Future<Output = F::Output> {
    // Without metrics, do not read the clock.
    let started = cfg!(feature = "metrics").then(Instant::now);
    handler.inspect(move |_| {
        if let Some(started) = started {
            counts::handled(caller, started.elapsed());
        }
    })
}

/// Logs that a handler was dropped at its deadline.
pub(crate) fn handler_hung(LogContext { event_id, tenant }: LogContext<'_>, deadline: Duration) {
    error!(target: DEDUPE, event_id, tenant, ?deadline, "dropped a handler that took longer than its deadline");
}

/// Logs that the claim of a running handler could not be renewed. [`completion_lost`] follows if the handler succeeds.
pub(crate) fn claim_lost(LogContext { event_id, tenant }: LogContext<'_>) {
    info!(target: DEDUPE, event_id, tenant,
        "cannot renew the claim of a running handler: another node has claimed the delivery, an operator has forgotten it, or \
         the handler itself has completed it"
    );
}

/// Logs, once per handler, that it has not returned long after its deadline.
pub(crate) fn claim_stuck(LogContext { event_id, tenant }: LogContext<'_>) {
    error!(target: DEDUPE, event_id, tenant,
        "handler has not returned after its deadline: its claim is no longer renewed, so other nodes may handle the delivery"
    );
}

/// Logs that a handler succeeded, and that its claim was lost before or cannot be completed.
pub(crate) fn completion_lost(LogContext { event_id, tenant }: LogContext<'_>) {
    warn!(target: DEDUPE, event_id, tenant,
        "cannot complete the claim of a handled delivery: the delivery may be handled again"
    );
}

/// Logs that the store failed to renew a batch of claims.
pub(crate) fn claims_not_renewed(claims: usize, error: &dyn Error) {
    let (source, error) = (source_of(error), Escaped(error));
    warn!(target: STORE, claims, source, "cannot renew claims: {error}");
}

/// Logs that a handler blocked its thread for so long that its claim could not be renewed on that thread.
pub(crate) fn handler_blocked(LogContext { event_id, tenant }: LogContext<'_>, blocked: Duration) {
    let seconds = blocked.as_secs_f64();
    warn!(target: DEDUPE, event_id, tenant, "the handler blocked its thread for {seconds:.1} s; use spawn_blocking");
}

/// Logs that a memory store evicts completed entries. Each store logs this once.
pub(crate) fn memory_store_full(capacity: usize) {
    warn!(target: STORE,
        capacity,
        "the memory store is full: it forgets the deliveries completed longest ago, so late copies of those will be handled again"
    );
}

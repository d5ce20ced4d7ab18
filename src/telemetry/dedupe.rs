//! The dedupe layer's log messages and counters, and those of stores.

use std::{error::Error, time::Duration};

pub(crate) use super::span::{CurrentSpan, in_current_span};
use super::{
    LogContext, LogLimits, counts,
    limit::LeftOut,
    log::{DEDUPE, STORE, debug, error, info, source_of, warn},
};
use crate::{dedupe::ReplayLimit, event::Delivery, visible::Escaped};

/// It was handled, or stored, before.
pub(crate) fn duplicate(delivery: &Delivery) {
    let LogContext { event_id, tenant } = delivery.into();
    debug!(target: DEDUPE, event_id, tenant, "ignored a duplicate");
    counts::duplicate(delivery.tenant());
}

/// `treatment` says what becomes of the delivery.
pub(crate) fn conflict(delivery: &Delivery, treatment: &str, limits: &LogLimits) {
    let LogContext { event_id, tenant } = delivery.into();
    if let Some(left_out) = limits.admit("conflict") {
        warn!(target: DEDUPE, event_id, tenant, left_out, "event id reused with a different body: {treatment}");
    }
    counts::conflict(delivery.tenant());
}

/// The body of a delivery came with too many ids, or revived a dead letter too often. `limit` is given once in a window.
pub(crate) fn replayed(delivery: &Delivery, limit: Option<ReplayLimit>) {
    let LogContext { event_id, tenant } = delivery.into();
    if let Some(ReplayLimit { ids, window }) = limit {
        warn!(target: DEDUPE, event_id, tenant, ?window,
            "rejected a replayed delivery: its body came with more than {ids} event ids; a captured delivery may be sent again and \
             again. If klikit repeats bodies, raise replay_limit, or have Identity::Body take copies for duplicates"
        );
    }
    counts::replay(delivery.tenant());
}

/// A store could not do `what` to a delivery.
pub(crate) fn store_failed(what: &'static str, context: LogContext<'_>, error: &dyn Error) {
    warn_of_store(what, context, error, None);
}

/// The same, before the delivery is handled: the response is 503, and the sender can repeat it at once.
pub(crate) fn store_rejected(what: &'static str, context: LogContext<'_>, error: &dyn Error, limits: &LogLimits) {
    if let Some(left_out) = limits.admit(what) {
        warn_of_store(what, context, error, left_out);
    }
}

fn warn_of_store(what: &str, LogContext { event_id, tenant }: LogContext<'_>, error: &dyn Error, left_out: LeftOut) {
    let (source, error) = (source_of(error), Escaped(error));
    warn!(target: STORE, event_id, tenant, source, left_out, "cannot {what} a delivery: {error}");
}

pub(crate) fn handler_hung(LogContext { event_id, tenant }: LogContext<'_>, deadline: Duration) {
    error!(target: DEDUPE, event_id, tenant, ?deadline, "dropped a handler that took longer than its deadline");
}

/// A renewal found that the claim of a running handler is not this process's own any more. Whether that matters shows when the handler ends.
pub(crate) fn claim_lost(LogContext { event_id, tenant }: LogContext<'_>) {
    info!(target: DEDUPE, event_id, tenant,
        "cannot renew the claim of a running handler: another node has claimed the delivery, somebody forgot it, or the handler has \
         completed it itself"
    );
}

/// A handler has not returned long after its deadline. Reported once.
pub(crate) fn claim_stuck(LogContext { event_id, tenant }: LogContext<'_>) {
    error!(target: DEDUPE, event_id, tenant,
        "a handler does not return after its deadline: its claim is no longer renewed, and other nodes may handle the delivery"
    );
}

/// The handler succeeded, and the claim is no longer this process's own.
pub(crate) fn completion_lost(LogContext { event_id, tenant }: LogContext<'_>) {
    warn!(target: DEDUPE, event_id, tenant,
        "lost the claim while the handler was running: the delivery may be handled again"
    );
}

pub(crate) fn claims_not_renewed(claims: usize, error: &dyn Error) {
    let (source, error) = (source_of(error), Escaped(error));
    warn!(target: STORE, claims, source, "cannot renew claims: {error}");
}

/// A handler kept its thread for so long that no claim could be renewed on it.
pub(crate) fn handler_blocked(LogContext { event_id, tenant }: LogContext<'_>, blocked: Duration) {
    let seconds = blocked.as_secs_f64();
    warn!(target: DEDUPE, event_id, tenant, "the handler blocked its thread for {seconds:.1} s; use spawn_blocking");
}

/// Logged once by each store.
pub(crate) fn memory_store_full(capacity: usize) {
    warn!(target: STORE,
        capacity,
        "the memory store is full: from now on it forgets what was completed longest ago, and would handle a copy of that again"
    );
}

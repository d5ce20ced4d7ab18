//! The one room that knows `tracing`. Without that feature, nothing is logged.
//!
//! Never a body, a secret or a whole signature.
#![cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]

use std::error::Error;

use http::StatusCode;
#[cfg(feature = "tracing")]
use tracing::{error, warn};

use crate::event::EventId;

#[cfg(not(feature = "tracing"))]
macro_rules! nothing {
    ($($what:tt)*) => {};
}
#[cfg(not(feature = "tracing"))]
use {nothing as error, nothing as warn};

/// `event_id` and `tenant` are what the head claimed, where it got so far.
pub(crate) fn rejected(status: StatusCode, rejection: &dyn Error, event_id: Option<&EventId>, tenant: Option<&str>) {
    let event_id = event_id.map(EventId::as_str);
    let status = status.as_u16();
    warn!(status, event_id, tenant, source = rejection.source(), "refused a delivery: {rejection}");
}

pub(crate) fn rejection_sent_as_success(status: StatusCode, sent: StatusCode) {
    error!(
        status = status.as_u16(),
        "on_rejection gave status {sent}, by which klikit would take the order for delivered: replaced it"
    );
}

/// `who` found no [`Delivery`](crate::Delivery).
#[cfg(any(feature = "axum", feature = "dedupe"))]
pub(crate) fn unverified(who: &str) {
    error!("{who} got a request without a verified delivery: put KlikitVerifyLayer outside of it");
}

#[cfg(feature = "dedupe")]
pub(crate) fn conflict(event_id: Option<&EventId>) {
    warn!(event_id = event_id.map(EventId::as_str), "an event id came with another body than before");
}

/// A store failed to do `what`.
#[cfg(feature = "dedupe")]
pub(crate) fn store_failed(what: &str, error: &dyn Error) {
    warn!(source = error.source(), "cannot {what} a delivery: {error}");
}

#[cfg(feature = "dedupe")]
pub(crate) fn handler_hung(event_id: Option<&EventId>, deadline: std::time::Duration) {
    error!(event_id = event_id.map(EventId::as_str), ?deadline, "gave up a handler that took longer than its deadline");
}

#[cfg(feature = "dedupe")]
pub(crate) fn claim_lost(event_id: Option<&EventId>) {
    warn!(
        event_id = event_id.map(EventId::as_str),
        "a claim ran out or was forgotten while its delivery was handled: it may be handled again"
    );
}

/// The acceptor got a request from a worker.
#[cfg(feature = "inbox")]
pub(crate) fn acceptor_is_handler() {
    error!("the inbox's worker was given the inbox's own acceptor to handle deliveries: give it the handler");
}

#[cfg(feature = "inbox")]
pub(crate) fn backlog_full(max_backlog: u64) {
    warn!(max_backlog, "too many deliveries wait to be handled: refused one");
}

/// `pause` is that before the next attempt.
#[cfg(feature = "inbox")]
pub(crate) fn attempt_failed(event_id: Option<&EventId>, attempt: u32, pause: std::time::Duration, reason: &str) {
    warn!(
        event_id = event_id.map(EventId::as_str),
        attempt,
        ?pause,
        "an attempt to handle a delivery failed: {reason}"
    );
}

#[cfg(feature = "inbox")]
pub(crate) fn dead(event_id: Option<&EventId>, attempt: u32, reason: &str) {
    error!(event_id = event_id.map(EventId::as_str), attempt, "gave a delivery up: {reason}");
}

#[cfg(feature = "inbox")]
pub(crate) fn lease_lost(event_id: Option<&EventId>) {
    warn!(event_id = event_id.map(EventId::as_str), "a lease ran out: another worker may handle its delivery again");
}

/// Logged once by each store.
#[cfg(feature = "dedupe")]
pub(crate) fn memory_store_full(capacity: usize) {
    warn!(
        capacity,
        "the memory store is full: from now on it forgets what was completed longest ago, and would handle a copy of that again"
    );
}

/// Postgres was found in a state in which it can forget deliveries.
#[cfg(feature = "postgres")]
pub(crate) fn postgres_may_forget(why: &str) {
    warn!("Postgres may forget deliveries: {why}");
}

/// Redis was found in a state in which it can forget deliveries.
#[cfg(feature = "redis")]
pub(crate) fn redis_may_forget(why: &str) {
    warn!("Redis may forget deliveries: {why}");
}

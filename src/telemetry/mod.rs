//! The one room that knows `tracing` and `metrics`. Without these features, nothing is logged and nothing is counted.
//!
//! Never a body, a secret or a whole signature.
#![cfg_attr(
    not(all(feature = "tracing", feature = "metrics")),
    allow(unused_variables, reason = "not everything is logged, or counted")
)]

#[cfg(feature = "metrics")]
pub mod metrics;
mod watch;

use std::{error::Error, fmt, time::Duration};

#[cfg(feature = "inbox")]
use http::Method;
use http::StatusCode;
#[cfg(all(feature = "tracing", feature = "dedupe"))]
use tracing::info;
#[cfg(feature = "tracing")]
use tracing::{debug, error, warn};

pub(crate) use self::watch::{Claimed, Known, Watch};
#[cfg(feature = "inbox")]
use crate::inbox::DeliveryId;
use crate::{
    event::{Delivery, EventId},
    keyring::Keyring,
};

/// The targets, by which users filter: the crate's public modules, whatever file logs.
#[cfg(feature = "tracing")]
const VERIFY: &str = "tower_klikit::verify";
#[cfg(all(feature = "tracing", feature = "dedupe"))]
const DEDUPE: &str = "tower_klikit::dedupe";
#[cfg(all(feature = "tracing", feature = "inbox"))]
const INBOX: &str = "tower_klikit::inbox";
#[cfg(all(feature = "tracing", feature = "dedupe"))]
const STORE: &str = "tower_klikit::store";

#[cfg(not(feature = "tracing"))]
macro_rules! nothing {
    ($($what:tt)*) => {{}};
}
#[cfg(all(not(feature = "tracing"), feature = "dedupe"))]
use nothing as info;
#[cfg(not(feature = "tracing"))]
use {nothing as debug, nothing as error, nothing as warn};

/// The delivery that a log line is about. Each warning names it, because a program that only wants warnings has no spans.
#[derive(Clone, Copy)]
pub(crate) struct LogContext<'a> {
    event_id: Option<&'a str>,
    tenant: Option<&'a str>,
}

impl<'a> LogContext<'a> {
    pub(crate) fn new(event_id: Option<&'a EventId>, tenant: Option<&'a str>) -> Self {
        Self { event_id: event_id.map(EventId::as_str), tenant }
    }
}

impl<'a> From<&'a Delivery> for LogContext<'a> {
    fn from(delivery: &'a Delivery) -> Self {
        Self::new(delivery.event_id(), Some(delivery.tenant()))
    }
}

/// A delivery that is refused by the verify layer.
pub(crate) struct Refusal<'a> {
    pub(crate) status: StatusCode,
    /// The name of its kind.
    pub(crate) reason: &'static str,
    pub(crate) error: &'a dyn Error,
    pub(crate) explanation: Option<Explanation<'a>>,
}

/// Why a delivery did not verify.
pub(crate) struct Explanation<'a> {
    pub(crate) cause: &'static str,
    pub(crate) certainty: &'static str,
    pub(crate) text: &'a dyn fmt::Display,
    /// What klikit's support asks for.
    pub(crate) report: Option<String>,
}

impl Refusal<'_> {
    fn log(&self, LogContext { event_id, tenant }: LogContext<'_>) {
        let Self { reason, error, .. } = *self;
        let status = self.status.as_u16();
        let source = error.source();
        match &self.explanation {
            None => warn!(target: VERIFY, status, reason, event_id, tenant, source, "refused a delivery: {error}"),
            Some(Explanation { cause, certainty, text, report }) => {
                warn!(
                    target: VERIFY,
                    status, reason, event_id, tenant, source, cause, certainty, "refused a delivery: {error}: {text}"
                );
                if let Some(report) = report {
                    debug!(target: VERIFY, "for klikit's support: {report}");
                }
            }
        }
    }
}

/// Whether anybody hears of a refusal.
#[cfg(feature = "diagnose")]
pub(crate) fn refusals_are_heard() -> bool {
    #[cfg(feature = "tracing")]
    return tracing::event_enabled!(target: VERIFY, tracing::Level::WARN);
    #[cfg(not(feature = "tracing"))]
    false
}

/// Whether anybody hears of what klikit's support asks for.
#[cfg(feature = "diagnose")]
pub(crate) fn reports_are_heard() -> bool {
    #[cfg(feature = "tracing")]
    return tracing::event_enabled!(target: VERIFY, tracing::Level::DEBUG);
    #[cfg(not(feature = "tracing"))]
    false
}

/// `status` is `None` when the inner service failed in place of answering.
fn answered_slowly(LogContext { event_id, tenant }: LogContext<'_>, status: Option<StatusCode>, elapsed: Duration) {
    let status = status.map(|status| status.as_u16());
    warn!(target: VERIFY, event_id, tenant, status, ?elapsed,
        "answered a delivery slowly: klikit counts this as a timeout after 10 s"
    );
}

fn not_answered(LogContext { event_id, tenant }: LogContext<'_>, elapsed: Duration) {
    warn!(target: VERIFY, event_id, tenant, ?elapsed,
        "a delivery was given up before it was answered: klikit counts this as a timeout after 10 s"
    );
}

/// Of a delivery whose cause was still looked for.
fn refused_unheard(LogContext { event_id, tenant }: LogContext<'_>, reason: &'static str) {
    warn!(target: VERIFY, event_id, tenant, reason, "refused a delivery that was given up before it was answered");
}

/// Nobody knows who has sent it.
fn not_received(LogContext { event_id, tenant }: LogContext<'_>, bytes: usize, elapsed: Duration) {
    warn!(target: VERIFY, event_id, tenant, bytes, ?elapsed,
        "a request was given up before its body was whole: if it was klikit's, klikit counts this as a timeout after 10 s"
    );
}

/// A layer with this keyring is about to serve, and to refuse what does not match it for the reason `mismatch`.
pub(crate) fn serves(keyring: &Keyring, mismatch: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::serves(keyring, mismatch);
}

/// A body that is not verified yet has taken so many bytes of the buffer budget.
pub(crate) fn buffered(bytes: usize) {
    #[cfg(feature = "metrics")]
    metrics::buffered(bytes);
}

/// So many bytes of the buffer budget were given back.
pub(crate) fn released(bytes: usize) {
    #[cfg(feature = "metrics")]
    metrics::released(bytes);
}

/// The span of the delivery that is being handled.
#[cfg(feature = "dedupe")]
#[derive(Clone)]
pub(crate) struct CurrentSpan(#[cfg(feature = "tracing")] tracing::Span);

#[cfg(feature = "dedupe")]
impl CurrentSpan {
    pub(crate) fn get() -> Self {
        Self(
            #[cfg(feature = "tracing")]
            tracing::Span::current(),
        )
    }

    /// Runs a future within the span.
    pub(crate) fn instrument<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        #[cfg(feature = "tracing")]
        let future = tracing::Instrument::instrument(future, self.0);
        future
    }
}

/// Runs a future, in whatever task, as a part of the delivery that is handled now.
#[cfg(feature = "dedupe")]
pub(crate) fn in_current_span<F: Future>(future: F) -> impl Future<Output = F::Output> {
    #[cfg(feature = "tracing")]
    let future = tracing::Instrument::in_current_span(future);
    future
}

/// Runs one attempt of an inbox's worker in a span of its own.
#[cfg(feature = "inbox")]
pub(crate) fn in_attempt<F: Future>(
    LogContext { event_id, tenant }: LogContext<'_>,
    delivery_id: DeliveryId,
    attempt: u32,
    future: F,
) -> impl Future<Output = F::Output> {
    #[cfg(feature = "tracing")]
    let future = tracing::Instrument::instrument(
        future,
        tracing::info_span!(target: INBOX, "klikit_attempt", event_id, tenant, delivery_id = delivery_id.get(), attempt),
    );
    future
}

/// It was handled, or stored, before.
#[cfg(feature = "dedupe")]
pub(crate) fn duplicate(delivery: &Delivery) {
    let LogContext { event_id, tenant } = delivery.into();
    debug!(target: DEDUPE, event_id, tenant, "ignored a duplicate");
    #[cfg(feature = "metrics")]
    metrics::duplicate(delivery.tenant());
}

/// How many deliveries there are in each state, and how long ago the oldest that is to be handled was accepted.
#[cfg(all(feature = "inbox", feature = "metrics"))]
pub(crate) fn inbox(states: &[(&'static str, u64)], oldest: Option<Duration>) {
    metrics::inbox(states, oldest);
}

pub(crate) fn rejection_sent_as_success(status: StatusCode, sent: StatusCode) {
    error!(target: VERIFY,
        status = status.as_u16(),
        "on_rejection gave status {sent}, by which klikit would take the order for delivered: replaced it"
    );
}

/// `who` found no [`Delivery`](crate::Delivery).
#[cfg(any(feature = "axum", feature = "dedupe"))]
pub(crate) fn unverified(who: &str) {
    error!(target: VERIFY, "{who} got a request without a verified delivery: put KlikitVerifyLayer outside of it");
}

/// `treatment` says what becomes of the delivery.
#[cfg(feature = "dedupe")]
pub(crate) fn conflict(delivery: &Delivery, treatment: &str) {
    let LogContext { event_id, tenant } = delivery.into();
    warn!(target: DEDUPE, event_id, tenant, "event id reused with a different body: {treatment}");
    #[cfg(feature = "metrics")]
    metrics::conflict(delivery.tenant());
}

/// A store could not do `what` to a delivery.
#[cfg(feature = "dedupe")]
pub(crate) fn store_failed(what: &str, LogContext { event_id, tenant }: LogContext<'_>, error: &dyn Error) {
    warn!(target: STORE, event_id, tenant, source = error.source(), "cannot {what} a delivery: {error}");
}

/// A store failed to do `what` for the inbox.
#[cfg(feature = "inbox")]
pub(crate) fn inbox_store_failed(what: &str, error: &dyn Error) {
    warn!(target: STORE, source = error.source(), "cannot {what} deliveries: {error}");
}

#[cfg(feature = "dedupe")]
pub(crate) fn handler_hung(LogContext { event_id, tenant }: LogContext<'_>, deadline: Duration) {
    error!(target: DEDUPE, event_id, tenant, ?deadline, "dropped a handler that took longer than its deadline");
}

/// A renewal found that the claim of a running handler is not this process's own any more. Whether that matters shows when the handler ends.
#[cfg(feature = "dedupe")]
pub(crate) fn claim_lost(LogContext { event_id, tenant }: LogContext<'_>) {
    info!(target: DEDUPE, event_id, tenant,
        "cannot renew the claim of a running handler: another node has claimed the delivery, somebody forgot it, or the handler has \
         completed it itself"
    );
}

/// A handler has not returned long after its deadline. Reported once.
#[cfg(feature = "dedupe")]
pub(crate) fn claim_stuck(LogContext { event_id, tenant }: LogContext<'_>) {
    error!(target: DEDUPE, event_id, tenant,
        "a handler does not return after its deadline: its claim is no longer renewed, and other nodes may handle the delivery"
    );
}

/// The handler succeeded, and the claim is no longer this process's own.
#[cfg(feature = "dedupe")]
pub(crate) fn completion_lost(LogContext { event_id, tenant }: LogContext<'_>) {
    warn!(target: DEDUPE, event_id, tenant,
        "lost the claim while the handler was running: the delivery may be handled again"
    );
}

#[cfg(feature = "dedupe")]
pub(crate) fn claims_not_renewed(claims: usize, error: &dyn Error) {
    warn!(target: STORE, claims, source = error.source(), "cannot renew claims: {error}");
}

/// A handler kept its thread for so long that no claim could be renewed on it.
#[cfg(feature = "dedupe")]
pub(crate) fn handler_blocked(LogContext { event_id, tenant }: LogContext<'_>, blocked: Duration) {
    let seconds = blocked.as_secs_f64();
    warn!(target: DEDUPE, event_id, tenant, "the handler blocked its thread for {seconds:.1} s; use spawn_blocking");
}

/// A worker's handler kept its thread for so long that no lease could be extended on it.
#[cfg(feature = "inbox")]
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
#[cfg(feature = "inbox")]
pub(crate) fn acceptor_is_handler() {
    error!(target: INBOX, "the worker's handler is the inbox's own acceptor: give the worker your handler");
}

#[cfg(feature = "inbox")]
pub(crate) fn backlog_full(max_backlog: u64) {
    warn!(target: INBOX, max_backlog, "inbox backlog is full: rejected a delivery");
}

/// An ordering rule found no id of the kind that it asks for, such as `order id`.
#[cfg(feature = "inbox")]
pub(crate) fn unordered(LogContext { event_id, tenant }: LogContext<'_>, missing: &str) {
    warn!(target: INBOX, event_id, tenant, "no {missing} could be read: handling the delivery in no order");
}

#[cfg(feature = "inbox")]
pub(crate) fn attempt_failed(
    LogContext { event_id, tenant }: LogContext<'_>,
    delivery_id: DeliveryId,
    attempt: u32,
    delay: Duration,
    reason: &str,
) {
    let delivery_id = delivery_id.get();
    warn!(target: INBOX, event_id, tenant, delivery_id, attempt, ?delay, "attempt failed, will retry: {reason}");
}

#[cfg(feature = "inbox")]
pub(crate) fn dead_lettered(
    LogContext { event_id, tenant }: LogContext<'_>,
    delivery_id: DeliveryId,
    attempts: u32,
    reason: &str,
) {
    let delivery_id = delivery_id.get();
    error!(target: INBOX, event_id, tenant, delivery_id, attempts, "dead-lettered a delivery: {reason}");
    #[cfg(feature = "metrics")]
    metrics::dead_letter(tenant);
}

/// The handler responded that it has no such route.
#[cfg(feature = "inbox")]
pub(crate) fn misrouted(status: StatusCode, method: &Method, path: &str, delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    error!(target: INBOX, delivery_id,
        "the worker's handler has no route for {method} {path}: it responded with {status}"
    );
}

/// The store does not know the lease of a running handler any more. Whether that matters shows when the handler ends.
#[cfg(feature = "inbox")]
pub(crate) fn lease_lost(delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    info!(target: INBOX, delivery_id,
        "cannot extend the lease of a running handler: another worker has leased or dead-lettered the delivery, or the handler has \
         finished it itself"
    );
}

/// A handler has not returned long after its deadline. Reported once.
#[cfg(feature = "inbox")]
pub(crate) fn handler_stuck(delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    error!(target: INBOX, delivery_id,
        "a handler does not return after its deadline: its lease is no longer extended, and other nodes may handle the delivery"
    );
}

/// A delivery was not handled, because another worker has leased it in time.
#[cfg(feature = "inbox")]
pub(crate) fn not_started(LogContext { event_id, tenant }: LogContext<'_>, delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    info!(target: INBOX, event_id, tenant, delivery_id, "lost the lease before the handler started: another worker has the delivery");
}

/// A delivery was leased whose last lease had expired.
#[cfg(feature = "inbox")]
pub(crate) fn lease_expired(LogContext { event_id, tenant }: LogContext<'_>, delivery_id: DeliveryId, attempt: u32) {
    let delivery_id = delivery_id.get();
    warn!(target: INBOX, event_id, tenant, delivery_id, attempt,
        "leased a delivery whose last lease expired: its worker died, or may still be handling it"
    );
}

/// A handler has ended, and its outcome does not count.
#[cfg(feature = "inbox")]
pub(crate) fn outcome_lost(LogContext { event_id, tenant }: LogContext<'_>, delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    warn!(target: INBOX, event_id, tenant, delivery_id,
        "lost the lease while the handler was running, so its outcome does not count: another worker has leased the delivery since"
    );
    #[cfg(feature = "metrics")]
    metrics::lease_lost();
}

/// A handler has ended, and its delivery, whose lease was lost, is not in the inbox any more.
#[cfg(feature = "inbox")]
pub(crate) fn outcome_of_gone(LogContext { event_id, tenant }: LogContext<'_>, delivery_id: DeliveryId) {
    let delivery_id = delivery_id.get();
    warn!(target: INBOX, event_id, tenant, delivery_id,
        "lost the lease while the handler was running, and the delivery is gone: another worker has handled it as well, or the handler \
         has finished it itself"
    );
    #[cfg(feature = "metrics")]
    metrics::lease_lost();
}

/// A delivery could not be read, and could not be dead-lettered either.
#[cfg(feature = "inbox")]
pub(crate) fn unreadable(delivery_id: DeliveryId, error: &dyn Error) {
    let delivery_id = delivery_id.get();
    error!(target: INBOX, delivery_id, source = error.source(), "cannot read a delivery: {error}");
}

/// A copy whose JSON was written anew.
#[cfg(feature = "inbox")]
pub(crate) fn json_rewritten(delivery: &Delivery) {
    let LogContext { event_id, tenant } = delivery.into();
    warn!(target: INBOX, event_id, tenant, "event id reused with a rewritten body: the JSON is the same");
}

/// Logged once by each store.
#[cfg(feature = "dedupe")]
pub(crate) fn memory_store_full(capacity: usize) {
    warn!(target: STORE,
        capacity,
        "the memory store is full: from now on it forgets what was completed longest ago, and would handle a copy of that again"
    );
}

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

use http::StatusCode;
#[cfg(feature = "tracing")]
use tracing::{debug, error, warn};

pub(crate) use self::watch::{Claimed, Known, Watch};
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
#[cfg(not(feature = "tracing"))]
use {nothing as debug, nothing as error, nothing as warn};

/// Which delivery it is about. Said in each warning: a program that wants warnings alone has no spans.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    event_id: Option<&'a str>,
    tenant: Option<&'a str>,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(event_id: Option<&'a EventId>, tenant: Option<&'a str>) -> Self {
        Self { event_id: event_id.map(EventId::as_str), tenant }
    }
}

impl<'a> From<&'a Delivery> for Subject<'a> {
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
    fn log(&self, Subject { event_id, tenant }: Subject<'_>) {
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
fn answered_slowly(Subject { event_id, tenant }: Subject<'_>, status: Option<StatusCode>, elapsed: Duration) {
    let status = status.map(|status| status.as_u16());
    warn!(target: VERIFY, event_id, tenant, status, ?elapsed,
        "answered a delivery slowly: klikit counts this as a timeout after 10 s"
    );
}

fn not_answered(Subject { event_id, tenant }: Subject<'_>, elapsed: Duration) {
    warn!(target: VERIFY, event_id, tenant, ?elapsed,
        "a delivery was given up before it was answered: klikit counts this as a timeout after 10 s"
    );
}

/// Of a delivery whose cause was still looked for.
fn refused_unheard(Subject { event_id, tenant }: Subject<'_>, reason: &'static str) {
    warn!(target: VERIFY, event_id, tenant, reason, "refused a delivery that was given up before it was answered");
}

/// Nobody knows who has sent it.
fn not_received(Subject { event_id, tenant }: Subject<'_>, bytes: usize, elapsed: Duration) {
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

/// What runs in a task of its own still belongs to the delivery that began it.
#[cfg(feature = "dedupe")]
pub(crate) fn in_current_span<F: Future>(future: F) -> impl Future<Output = F::Output> {
    #[cfg(feature = "tracing")]
    let future = tracing::Instrument::in_current_span(future);
    future
}

/// One attempt of an inbox's worker.
#[cfg(feature = "inbox")]
pub(crate) fn in_attempt<F: Future>(
    Subject { event_id, tenant }: Subject<'_>,
    attempt: u32,
    future: F,
) -> impl Future<Output = F::Output> {
    #[cfg(feature = "tracing")]
    let future = tracing::Instrument::instrument(
        future,
        tracing::info_span!(target: INBOX, "klikit_attempt", event_id, tenant, attempt),
    );
    future
}

/// It was handled, or stored, before.
#[cfg(feature = "dedupe")]
pub(crate) fn duplicate(delivery: &Delivery) {
    let Subject { event_id, tenant } = delivery.into();
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

#[cfg(feature = "dedupe")]
pub(crate) fn conflict(delivery: &Delivery) {
    let Subject { event_id, tenant } = delivery.into();
    warn!(target: DEDUPE, event_id, tenant, "an event id came with another body than before");
    #[cfg(feature = "metrics")]
    metrics::conflict(delivery.tenant());
}

/// A store failed to do `what` to a delivery.
#[cfg(feature = "dedupe")]
pub(crate) fn store_failed(what: &str, Subject { event_id, tenant }: Subject<'_>, error: &dyn Error) {
    warn!(target: STORE, event_id, tenant, source = error.source(), "cannot {what} a delivery: {error}");
}

/// A store failed to do `what` for the inbox.
#[cfg(feature = "inbox")]
pub(crate) fn inbox_store_failed(what: &str, error: &dyn Error) {
    warn!(target: STORE, source = error.source(), "cannot {what} deliveries: {error}");
}

#[cfg(feature = "dedupe")]
pub(crate) fn handler_hung(Subject { event_id, tenant }: Subject<'_>, deadline: Duration) {
    error!(target: DEDUPE, event_id, tenant, ?deadline, "gave up a handler that took longer than its deadline");
}

#[cfg(feature = "dedupe")]
pub(crate) fn claim_lost(Subject { event_id, tenant }: Subject<'_>) {
    warn!(target: DEDUPE, event_id, tenant,
        "a claim ran out or was forgotten while its delivery was handled: it may be handled again"
    );
}

/// The acceptor got a request from a worker.
#[cfg(feature = "inbox")]
pub(crate) fn acceptor_is_handler() {
    error!(target: INBOX, "the inbox's worker was given the inbox's own acceptor to handle deliveries: give it the handler");
}

#[cfg(feature = "inbox")]
pub(crate) fn backlog_full(max_backlog: u64) {
    warn!(target: INBOX, max_backlog, "too many deliveries wait to be handled: refused one");
}

/// An ordering rule found no id of the kind that it asks for, such as `order id`.
#[cfg(feature = "inbox")]
pub(crate) fn unordered(Subject { event_id, tenant }: Subject<'_>, missing: &str) {
    warn!(target: INBOX, event_id, tenant, "no {missing} could be read: handling the delivery in no order");
}

/// `pause` is that before the next attempt.
#[cfg(feature = "inbox")]
pub(crate) fn attempt_failed(Subject { event_id, tenant }: Subject<'_>, attempt: u32, pause: Duration, reason: &str) {
    warn!(target: INBOX, event_id, tenant, attempt, ?pause, "an attempt to handle a delivery failed: {reason}");
}

#[cfg(feature = "inbox")]
pub(crate) fn dead(Subject { event_id, tenant }: Subject<'_>, attempt: u32, reason: &str) {
    error!(target: INBOX, event_id, tenant, attempt, "gave a delivery up: {reason}");
}

#[cfg(feature = "inbox")]
pub(crate) fn lease_lost(Subject { event_id, tenant }: Subject<'_>) {
    warn!(target: INBOX, event_id, tenant, "a lease ran out: another worker may handle its delivery again");
}

/// Logged once by each store.
#[cfg(feature = "dedupe")]
pub(crate) fn memory_store_full(capacity: usize) {
    warn!(target: STORE,
        capacity,
        "the memory store is full: from now on it forgets what was completed longest ago, and would handle a copy of that again"
    );
}

/// Postgres was found in a state in which it can forget deliveries.
#[cfg(feature = "postgres")]
pub(crate) fn postgres_may_forget(why: &str) {
    warn!(target: STORE, "Postgres may forget deliveries: {why}");
}

/// Redis was found in a state in which it can forget deliveries.
#[cfg(feature = "redis")]
pub(crate) fn redis_may_forget(why: &str) {
    warn!(target: STORE, "Redis may forget deliveries: {why}");
}

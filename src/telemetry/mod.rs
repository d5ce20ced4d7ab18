//! All log messages, spans and metrics of the crate. No other module calls `tracing` or `metrics`.
//!
//! Without the feature `tracing` nothing is logged, and without the feature `metrics` nothing is counted. Bodies,
//! secrets and whole signatures are never logged.
#![cfg_attr(
    not(all(feature = "tracing", feature = "metrics")),
    allow(unused_variables, reason = "used only for logging, or only for counting")
)]

#[cfg(feature = "dedupe")]
mod dedupe;
#[cfg(feature = "inbox")]
mod inbox;
mod limit;
mod log;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg_attr(not(feature = "tracing"), path = "unspanned.rs")]
mod span;
#[cfg(not(feature = "metrics"))]
mod uncounted;
mod watch;

use std::{error::Error, fmt, time::Duration};

use http::StatusCode;

#[cfg(feature = "dedupe")]
pub(crate) use self::dedupe::*;
#[cfg(feature = "inbox")]
pub(crate) use self::inbox::*;
use self::limit::LeftOut;
pub(crate) use self::limit::LogLimits;
use self::log::{VERIFY, debug, error, source_of, warn};
#[cfg(feature = "metrics")]
use self::metrics as counts;
pub(crate) use self::span::rejections_are_logged;
#[cfg(feature = "diagnose")]
pub(crate) use self::span::reports_are_logged;
#[cfg(not(feature = "metrics"))]
use self::uncounted as counts;
pub(crate) use self::watch::{UnverifiedLabels, VerifiedLabels, Watch};
use crate::{
    event::{Delivery, EventId},
    keyring::Keyring,
    verify::RejectionKind,
    visible::Escaped,
};

/// The event id and the tenant of the delivery that a log line is about.
///
/// Warnings have both as fields, because spans are disabled in a program that only enables warnings.
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

/// A rejection by the verify layer, as it is logged and counted.
pub(crate) struct RejectionRecord<'a> {
    /// The status of the response.
    pub(crate) status: StatusCode,
    pub(crate) kind: RejectionKind,
    pub(crate) error: &'a dyn Error,
    pub(crate) explanation: Option<Explanation<'a>>,
}

/// The reason why a delivery did not verify, as the diagnosis found it.
pub(crate) struct Explanation<'a> {
    pub(crate) cause: &'static str,
    pub(crate) certainty: &'static str,
    pub(crate) text: &'a dyn fmt::Display,
    /// The report for klikit's support.
    pub(crate) report: Option<String>,
}

impl RejectionRecord<'_> {
    fn log(&self, LogContext { event_id, tenant }: LogContext<'_>, limits: &LogLimits) {
        let Self { status, kind, error, .. } = *self;
        let (status, reason) = (status.as_u16(), kind.as_str());
        let (source, error) = (source_of(error), Escaped(error));
        match &self.explanation {
            None => {
                if let Some(left_out) = limits.admit(reason) {
                    warn!(
                        target: VERIFY,
                        status, reason, event_id, tenant, source, left_out, "rejected a delivery: {error}"
                    );
                }
            }
            Some(Explanation { cause, certainty, text, report }) => {
                // Diagnoses are limited to one per second, so this line needs no limit of its own.
                let (text, left_out) = (Escaped(text), limits.admit_always(reason));
                warn!(
                    target: VERIFY,
                    status, reason, event_id, tenant, source, cause, certainty, left_out, "rejected a delivery: {error}: {text}"
                );
                if let Some(report) = report {
                    debug!(target: VERIFY, "report for klikit's support: {report}");
                }
            }
        }
    }
}

/// Logs that rejecting a request took long, mostly because its body arrived slowly.
fn rejected_slowly(context: LogContext<'_>, status: StatusCode, elapsed: Duration, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("rejected_slowly") {
        answered_slowly(context, Some(status), elapsed, left_out);
    }
}

/// Logs that a response took long. `status` is `None` if the inner service returned an error instead of a response.
fn answered_slowly(
    LogContext { event_id, tenant }: LogContext<'_>,
    status: Option<StatusCode>,
    elapsed: Duration,
    left_out: LeftOut,
) {
    let status = status.map(|status| status.as_u16());
    warn!(target: VERIFY, event_id, tenant, status, ?elapsed, left_out,
        "answered a delivery slowly: klikit counts this as a timeout after 10 s"
    );
}

/// Logs that a verified delivery was dropped before it was answered.
fn not_answered(LogContext { event_id, tenant }: LogContext<'_>, elapsed: Duration) {
    warn!(target: VERIFY, event_id, tenant, ?elapsed,
        "delivery dropped before it was answered: klikit counts this as a timeout after 10 s"
    );
}

/// Logs a rejection whose sender hung up before the response was ready.
fn rejection_unsent(LogContext { event_id, tenant }: LogContext<'_>, reason: &'static str, limits: &LogLimits) {
    if let Some(left_out) = limits.admit(reason) {
        warn!(target: VERIFY, event_id, tenant, reason, left_out,
            "rejected a delivery, which was dropped before it was answered"
        );
    }
}

/// Logs that a request was dropped while its body was arriving. The request is unverified, so any sender can cause
/// this.
fn not_received(LogContext { event_id, tenant }: LogContext<'_>, bytes: usize, elapsed: Duration, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("not_received") {
        warn!(target: VERIFY, event_id, tenant, bytes, ?elapsed, left_out,
            "request dropped before its body was complete: if klikit sent it, klikit counts this as a timeout after 10 s"
        );
    }
}

/// Registers the counters of a layer that uses this keyring. `mismatch` is the reason of rejected signatures.
pub(crate) fn start_counters(keyring: &Keyring, mismatch: &'static str) {
    counts::start_counters(keyring, mismatch);
}

/// Counts bytes of the buffer budget that an unverified body has taken.
pub(crate) fn buffered(bytes: usize) {
    counts::buffered(bytes);
}

/// Counts bytes of the buffer budget that were released.
pub(crate) fn released(bytes: usize) {
    counts::released(bytes);
}

/// Logs that the user's `on_rejection` returned a success status, and that the layer replaced that status.
pub(crate) fn rejection_sent_as_success(status: StatusCode, sent: StatusCode, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("rejection_sent_as_success") {
        error!(target: VERIFY,
            status = status.as_u16(),
            left_out,
            "on_rejection returned status {sent}, which tells klikit that the order was delivered: replaced the status"
        );
    }
}

/// Logs that `component` received a request without a [`Delivery`] in its extensions.
#[cfg(any(feature = "axum", feature = "dedupe"))]
pub(crate) fn unverified(component: &'static str) {
    // One limit for the process, because an extractor belongs to no layer.
    static LIMITS: LogLimits = LogLimits::new();
    if let Some(left_out) = LIMITS.admit(component) {
        error!(target: VERIFY, left_out,
            "{component} received a request without a verified delivery: put KlikitVerifyLayer outside of it"
        );
    }
}

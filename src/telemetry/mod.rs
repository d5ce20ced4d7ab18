//! The only module that calls `tracing` and `metrics`. Without these features, nothing is logged and nothing is counted.
//!
//! It never logs a body, a secret or a whole signature.
#![cfg_attr(
    not(all(feature = "tracing", feature = "metrics")),
    allow(unused_variables, reason = "not everything is logged, or counted")
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
#[cfg(not(feature = "metrics"))]
use self::uncounted as counts;
pub(crate) use self::watch::{Claimed, Known, Watch};
use crate::{
    event::{Delivery, EventId},
    keyring::Keyring,
    visible::Escaped,
};

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

/// A delivery that the verify layer rejects.
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
    /// The report that klikit's support asks for.
    pub(crate) report: Option<String>,
}

impl Refusal<'_> {
    fn log(&self, LogContext { event_id, tenant }: LogContext<'_>, limits: &LogLimits) {
        let Self { reason, error, .. } = *self;
        let status = self.status.as_u16();
        let (source, error) = (source_of(error), Escaped(error));
        match &self.explanation {
            None => {
                if let Some(left_out) = limits.admit(reason) {
                    warn!(
                        target: VERIFY,
                        status, reason, event_id, tenant, source, left_out, "refused a delivery: {error}"
                    );
                }
            }
            Some(Explanation { cause, certainty, text, report }) => {
                // One a second is explained.
                let (text, left_out) = (Escaped(text), limits.admit_always(reason));
                warn!(
                    target: VERIFY,
                    status, reason, event_id, tenant, source, cause, certainty, left_out, "refused a delivery: {error}: {text}"
                );
                if let Some(report) = report {
                    debug!(target: VERIFY, "for klikit's support: {report}");
                }
            }
        }
    }
}

/// Returns whether warnings of rejections are heard.
#[cfg(feature = "diagnose")]
pub(crate) fn refusals_are_heard() -> bool {
    span::warnings_are_heard()
}

/// Returns whether reports for klikit's support are heard.
#[cfg(feature = "diagnose")]
pub(crate) fn reports_are_heard() -> bool {
    span::debug_is_heard()
}

/// A request was rejected only after a long time, mostly because its body took so long.
fn rejected_slowly(context: LogContext<'_>, status: StatusCode, elapsed: Duration, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("rejected_slowly") {
        answered_slowly(context, Some(status), elapsed, left_out);
    }
}

/// `status` is `None` when the inner service failed in place of answering.
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

fn not_answered(LogContext { event_id, tenant }: LogContext<'_>, elapsed: Duration) {
    warn!(target: VERIFY, event_id, tenant, ?elapsed,
        "a delivery was given up before it was answered: klikit counts this as a timeout after 10 s"
    );
}

/// The sender hung up while the cause of the mismatch was being looked for.
fn refused_unheard(LogContext { event_id, tenant }: LogContext<'_>, reason: &'static str, limits: &LogLimits) {
    if let Some(left_out) = limits.admit(reason) {
        warn!(target: VERIFY, event_id, tenant, reason, left_out,
            "refused a delivery that was given up before it was answered"
        );
    }
}

/// The request was never verified, so it may be anybody's.
fn not_received(LogContext { event_id, tenant }: LogContext<'_>, bytes: usize, elapsed: Duration, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("not_received") {
        warn!(target: VERIFY, event_id, tenant, bytes, ?elapsed, left_out,
            "a request was given up before its body was whole: if it was klikit's, klikit counts this as a timeout after 10 s"
        );
    }
}

/// A layer with this keyring is about to serve. It rejects mismatches for the reason `mismatch`.
pub(crate) fn serves(keyring: &Keyring, mismatch: &'static str) {
    counts::serves(keyring, mismatch);
}

/// A body that is not verified yet has taken so many bytes of the buffer budget.
pub(crate) fn buffered(bytes: usize) {
    counts::buffered(bytes);
}

/// This many bytes of the buffer budget were released.
pub(crate) fn released(bytes: usize) {
    counts::released(bytes);
}

pub(crate) fn rejection_sent_as_success(status: StatusCode, sent: StatusCode, limits: &LogLimits) {
    if let Some(left_out) = limits.admit("rejection_sent_as_success") {
        error!(target: VERIFY,
            status = status.as_u16(),
            left_out,
            "on_rejection gave status {sent}, by which klikit would take the order for delivered: replaced it"
        );
    }
}

/// `who` found no [`Delivery`](crate::Delivery).
#[cfg(any(feature = "axum", feature = "dedupe"))]
pub(crate) fn unverified(who: &'static str) {
    // For the whole process: an extractor belongs to no layer.
    static LIMITS: LogLimits = LogLimits::new();
    if let Some(left_out) = LIMITS.admit(who) {
        error!(target: VERIFY, left_out,
            "{who} got a request without a verified delivery: put KlikitVerifyLayer outside of it"
        );
    }
}

//! Spans of deliveries and attempts, and queries of which levels are enabled.
#![cfg_attr(not(feature = "inbox"), allow(dead_code, reason = "the inbox uses all of it"))]

use tracing::{Instrument, Level, Span, field::Empty, span::EnteredSpan};

use super::{
    LogContext,
    log::{INBOX, VERIFY},
};

/// The span of one delivery in the verify layer.
pub(super) struct DeliverySpan(Span);

/// A guard. Until it is dropped, log lines belong to the span.
#[expect(dead_code, reason = "it is held, not read")]
pub(super) struct Entered(EnteredSpan);

impl DeliverySpan {
    pub(super) fn new() -> Self {
        Self(tracing::info_span!(
            target: VERIFY,
            "klikit_delivery",
            event_id = Empty,
            event_type = Empty,
            tenant = Empty,
            secret_id = Empty,
            verdict = Empty,
            reason = Empty,
            status = Empty,
            bytes = Empty,
            body_wait_ms = Empty,
            hash_us = Empty,
        ))
    }

    pub(super) fn enter(&self) -> Entered {
        Entered(self.0.clone().entered())
    }

    pub(super) fn record(&self, field: &str, value: impl tracing::Value) {
        self.0.record(field, value);
    }
}

/// Returns whether the span or the warnings of the verify layer are enabled. A filter may enable one without the other.
#[inline]
pub(super) fn is_enabled() -> bool {
    rejections_are_logged() || tracing::span_enabled!(target: VERIFY, Level::INFO)
}

/// Returns whether a subscriber listens to the warnings about rejections.
#[inline]
pub(crate) fn rejections_are_logged() -> bool {
    tracing::event_enabled!(target: VERIFY, Level::WARN)
}

pub(super) fn inbox_info_is_enabled() -> bool {
    tracing::event_enabled!(target: INBOX, Level::INFO)
}

/// Returns whether a subscriber listens to the reports for klikit's support.
#[cfg(feature = "diagnose")]
pub(crate) fn reports_are_logged() -> bool {
    tracing::event_enabled!(target: VERIFY, Level::DEBUG)
}

/// The span that was current when [`CurrentSpan::get`] was called.
#[derive(Clone)]
pub(crate) struct CurrentSpan(Span);

impl CurrentSpan {
    pub(crate) fn get() -> Self {
        Self(Span::current())
    }

    /// Wraps a future so that each poll enters the span.
    pub(crate) fn instrument<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        future.instrument(self.0)
    }
}

/// Wraps a future so that each poll, in any task, enters the span that is current now.
pub(crate) fn in_current_span<F: Future>(future: F) -> impl Future<Output = F::Output> {
    future.in_current_span()
}

/// Wraps the future of one attempt of an inbox worker in a span of its own.
pub(super) fn in_attempt<F: Future>(
    LogContext { event_id, tenant }: LogContext<'_>,
    delivery_id: i64,
    attempt: u32,
    future: F,
) -> impl Future<Output = F::Output> {
    let span = tracing::info_span!(target: INBOX, "klikit_attempt", event_id, tenant, delivery_id, attempt);
    future.instrument(span)
}

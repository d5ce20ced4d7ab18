//! Spans, and whether anybody listens.
#![cfg_attr(not(feature = "inbox"), allow(dead_code, reason = "the inbox uses all of it"))]

use tracing::{Instrument, Level, Span, field::Empty, span::EnteredSpan};

use super::{
    LogContext,
    log::{INBOX, VERIFY},
};

/// The span of one delivery on its way through the verify layer.
pub(super) struct DeliverySpan(Span);

/// While it is there, log lines belong to the span.
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

/// Whether anybody wants the span, or warnings. One may be wanted without the other.
#[inline]
pub(super) fn is_wanted() -> bool {
    warnings_are_heard() || tracing::span_enabled!(target: VERIFY, Level::INFO)
}

#[inline]
pub(super) fn warnings_are_heard() -> bool {
    tracing::event_enabled!(target: VERIFY, Level::WARN)
}

#[cfg(feature = "diagnose")]
pub(super) fn debug_is_heard() -> bool {
    tracing::event_enabled!(target: VERIFY, Level::DEBUG)
}

/// The span of the delivery that is being handled.
#[derive(Clone)]
pub(crate) struct CurrentSpan(Span);

impl CurrentSpan {
    pub(crate) fn get() -> Self {
        Self(Span::current())
    }

    /// Runs a future within the span.
    pub(crate) fn instrument<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        future.instrument(self.0)
    }
}

/// Runs a future, in any task, as a part of the delivery that is handled now.
pub(crate) fn in_current_span<F: Future>(future: F) -> impl Future<Output = F::Output> {
    future.in_current_span()
}

/// Runs one attempt of an inbox's worker in a span of its own.
pub(super) fn in_attempt<F: Future>(
    LogContext { event_id, tenant }: LogContext<'_>,
    delivery_id: i64,
    attempt: u32,
    future: F,
) -> impl Future<Output = F::Output> {
    let span = tracing::info_span!(target: INBOX, "klikit_attempt", event_id, tenant, delivery_id, attempt);
    future.instrument(span)
}

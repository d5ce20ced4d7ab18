//! In place of `span` without the feature `tracing`: there are no spans, and nobody listens.
#![allow(dead_code, clippy::unused_self, reason = "the same functions as with the feature")]

use super::LogContext;

pub(super) struct DeliverySpan;

pub(super) struct Entered;

impl DeliverySpan {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn enter(&self) -> Entered {
        Entered
    }

    pub(super) fn record<V>(&self, _field: &str, _value: V) {}
}

pub(super) fn is_wanted() -> bool {
    false
}

pub(super) fn warnings_are_heard() -> bool {
    false
}

#[cfg(feature = "diagnose")]
pub(super) fn debug_is_heard() -> bool {
    false
}

#[derive(Clone)]
pub(crate) struct CurrentSpan;

impl CurrentSpan {
    pub(crate) fn get() -> Self {
        Self
    }

    pub(crate) fn instrument<F: Future>(self, future: F) -> F {
        future
    }
}

pub(crate) fn in_current_span<F: Future>(future: F) -> F {
    future
}

pub(super) fn in_attempt<F: Future>(_: LogContext<'_>, _delivery_id: i64, _attempt: u32, future: F) -> F {
    future
}

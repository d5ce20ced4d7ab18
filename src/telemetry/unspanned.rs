//! A replacement for the module `span` without the feature `tracing`: it creates no spans, and no level is enabled.
#![allow(dead_code, clippy::unused_self, reason = "the functions are those of the module `span`")]

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

pub(super) fn is_enabled() -> bool {
    false
}

pub(crate) fn rejections_are_logged() -> bool {
    false
}

pub(super) fn inbox_info_is_enabled() -> bool {
    false
}

#[cfg(feature = "diagnose")]
pub(crate) fn reports_are_logged() -> bool {
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

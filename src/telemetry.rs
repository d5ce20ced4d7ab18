//! The one room that knows `tracing`. Without that feature, nothing is logged.
//!
//! Never a body, a secret or a whole signature.

use std::error::Error;

use http::StatusCode;

use crate::event::EventId;

/// `event_id` and `tenant` are what the head claimed, where it got so far.
#[cfg(feature = "tracing")]
pub(crate) fn rejected(status: StatusCode, rejection: &dyn Error, event_id: Option<&EventId>, tenant: Option<&str>) {
    let event_id = event_id.map(EventId::as_str);
    let status = status.as_u16();
    tracing::warn!(status, event_id, tenant, source = rejection.source(), "refused a delivery: {rejection}");
}

#[cfg(feature = "tracing")]
pub(crate) fn rejection_sent_as_success(status: StatusCode, sent: StatusCode) {
    tracing::error!(
        status = status.as_u16(),
        "on_rejection gave status {sent}, by which klikit would take the order for delivered: replaced it"
    );
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn rejected(_: StatusCode, _: &dyn Error, _: Option<&EventId>, _: Option<&str>) {}

#[cfg(not(feature = "tracing"))]
pub(crate) fn rejection_sent_as_success(_: StatusCode, _: StatusCode) {}

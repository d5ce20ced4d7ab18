//! The responses that the dedupe layer and the inbox give without calling the handler.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::verify::ResponseBody;

/// A response to a delivery that the handler does not see.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DirectResponse {
    /// The delivery is stored and will be handled.
    #[cfg(feature = "inbox")]
    Received,
    /// The delivery was handled or stored before.
    Duplicate,
    /// Another task or node is handling the delivery. Its claim expires after `remaining` unless it is renewed.
    InFlight { remaining: Duration },
    /// The event id came with another body before, and the layer is configured to reject such conflicts.
    Conflict,
    /// The body came with too many event ids. The window ends after `remaining`.
    Replayed { remaining: Duration },
    /// The store did not say whether the delivery was handled.
    Unsure,
    /// The handler did not respond within its deadline.
    HandlerHung,
    /// Too many deliveries are pending.
    #[cfg(feature = "inbox")]
    BacklogFull,
    /// Too many deliveries are stored, and none of them can be evicted.
    #[cfg(feature = "inbox")]
    InboxFull,
    /// The path is too long to be stored.
    #[cfg(feature = "inbox")]
    PathTooLong,
    /// The method is too long to be stored.
    #[cfg(feature = "inbox")]
    MethodTooLong,
    /// A layer is missing or in the wrong place.
    Misconfigured,
}

impl DirectResponse {
    #[cfg(feature = "inbox")]
    pub(crate) fn status(self) -> StatusCode {
        self.wire().0
    }

    /// Returns the status and the body of the response.
    fn wire(self) -> (StatusCode, &'static str) {
        match self {
            #[cfg(feature = "inbox")]
            Self::Received => (StatusCode::OK, r#"{"status":"received"}"#),
            Self::Duplicate => (StatusCode::OK, r#"{"status":"duplicate-ignored"}"#),
            Self::InFlight { .. } => (StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"in flight"}"#),
            Self::Conflict => (StatusCode::CONFLICT, r#"{"error":"event id known with another body"}"#),
            Self::Replayed { .. } => (StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"body replayed too often"}"#),
            Self::Unsure => (StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"store unavailable"}"#),
            Self::HandlerHung => (StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"handler timed out"}"#),
            #[cfg(feature = "inbox")]
            Self::BacklogFull => (StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"backlog full"}"#),
            #[cfg(feature = "inbox")]
            Self::InboxFull => (StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"inbox full"}"#),
            #[cfg(feature = "inbox")]
            Self::PathTooLong => (StatusCode::URI_TOO_LONG, r#"{"error":"path too long"}"#),
            #[cfg(feature = "inbox")]
            Self::MethodTooLong => (StatusCode::NOT_IMPLEMENTED, r#"{"error":"method too long"}"#),
            Self::Misconfigured => (StatusCode::INTERNAL_SERVER_ERROR, r#"{"error":"misconfigured"}"#),
        }
    }

    pub(crate) fn into_response<B>(self) -> Response<ResponseBody<B>> {
        let (status, text) = self.wire();
        let mut response = Response::new(ResponseBody::text(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let retry_after = match self {
            // Round up, so that the time is over when klikit retries.
            Self::InFlight { remaining } | Self::Replayed { remaining } => Some(remaining.as_secs() + 1),
            Self::Unsure | Self::HandlerHung => Some(1),
            // klikit's first pause.
            #[cfg(feature = "inbox")]
            Self::BacklogFull | Self::InboxFull => Some(30),
            #[cfg(feature = "inbox")]
            Self::Received | Self::PathTooLong | Self::MethodTooLong => None,
            Self::Duplicate | Self::Conflict | Self::Misconfigured => None,
        };
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

//! What the layers behind the verified request answer without the handler.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::verify::ResponseBody;

/// A delivery that the handler does not see.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// It is stored, to be handled.
    #[cfg(feature = "inbox")]
    Received,
    /// It was handled, or stored, before.
    Duplicate,
    /// It is being handled elsewhere, for this time at most unless the claim is renewed.
    InFlight { remaining: Duration },
    /// Its id came with another body before, and that is to be refused.
    Conflict,
    /// Its body came with too many ids. The window ends after this time.
    Replayed { remaining: Duration },
    /// The store did not say whether it was handled.
    Unsure,
    /// The handler was given up.
    HandlerHung,
    /// Too many wait to be handled.
    #[cfg(feature = "inbox")]
    BacklogFull,
    /// Too many are stored, and none of them can be evicted.
    #[cfg(feature = "inbox")]
    InboxFull,
    /// Its path is too long to be stored.
    #[cfg(feature = "inbox")]
    PathTooLong,
    /// Its method is too long to be stored.
    #[cfg(feature = "inbox")]
    MethodTooLong,
    /// A layer is missing, or in the wrong place.
    Misconfigured,
}

impl Answer {
    #[cfg(feature = "inbox")]
    pub(crate) fn status(self) -> StatusCode {
        self.wire().0
    }

    /// The status, and the text for the wire.
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
            // A second more than the whole seconds that remain, so that the time is up by then.
            Self::InFlight { remaining } | Self::Replayed { remaining } => Some(remaining.as_secs() + 1),
            Self::Unsure | Self::HandlerHung => Some(1),
            // klikit's own first pause.
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

//! The reasons to reject a request, each with its log message, metric label and response.

use http::StatusCode;

/// The reasons for a [`Rejection`](super::Rejection).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionKind {
    /// No `x-klikit-signature` header.
    MissingSignature,
    /// More than one signature header, or one that is not 64 hex digits.
    MalformedSignature,
    /// The signature does not match the body under any secret of the keyring.
    SignatureMismatch,
    /// The `Authorization` header does not hold the credentials that
    /// [`require_basic_auth`](super::KlikitVerifyLayer::require_basic_auth) demands.
    InvalidCredentials,
    /// The [resolver](super::KlikitVerifyLayer::with_resolver) returned no keyring for the request.
    UnknownTenant,
    /// No `x-klikit-event-id` header.
    MissingEventId,
    /// The time of a timestamped signature is further in the past or in the future than
    /// [`accept_timestamped`](crate::KlikitVerifyLayer::accept_timestamped) tolerates.
    StaleTimestamp,
    /// The signed body begins with a timestamp and a dot, like the signed text of a timestamped signature. Someone
    /// moved the timestamp of a captured delivery from the header into the body.
    TimestampInBody,
    /// A delivery with a timestamped signature has one event id in its header and another in its signed body.
    EventIdMismatch,
    /// The signed body of a delivery with a timestamped signature does not name an event.
    MalformedEnvelope,
    /// More than one event id, or one that is not 1 to 255 visible ASCII characters.
    MalformedEventId,
    /// The body is longer than [`body_limit`](super::KlikitVerifyLayer::body_limit).
    BodyTooLarge,
    /// The body was not complete within [`body_deadline`](super::KlikitVerifyLayer::body_deadline).
    BodyTimeout,
    /// Reading the body failed before its end.
    BodyUnreadable,
    /// [`buffer_budget`](super::KlikitVerifyLayer::buffer_budget) is used up.
    Overloaded,
}

impl RejectionKind {
    /// Returns the name of this kind in metrics and in the log, such as `signature_mismatch`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingSignature => "missing_signature",
            Self::MalformedSignature => "malformed_signature",
            Self::SignatureMismatch => "signature_mismatch",
            Self::InvalidCredentials => "invalid_credentials",
            Self::UnknownTenant => "unknown_tenant",
            Self::MissingEventId => "missing_event_id",
            Self::StaleTimestamp => "stale_timestamp",
            Self::TimestampInBody => "timestamp_in_body",
            Self::EventIdMismatch => "event_id_mismatch",
            Self::MalformedEnvelope => "malformed_envelope",
            Self::MalformedEventId => "malformed_event_id",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::BodyUnreadable => "body_unreadable",
            Self::Overloaded => "overloaded",
        }
    }

    /// Returns the status and the response body. They help an honest sender and tell a forger nothing.
    pub(super) fn wire(self) -> (StatusCode, &'static str) {
        match self {
            Self::MissingSignature => (StatusCode::FORBIDDEN, r#"{"error":"missing klikit headers"}"#),
            // One response for all of these: it must not reveal why a signature failed, or which tenants exist.
            Self::MalformedSignature | Self::SignatureMismatch | Self::TimestampInBody | Self::UnknownTenant => {
                (StatusCode::FORBIDDEN, r#"{"error":"invalid signature"}"#)
            }
            Self::StaleTimestamp => (StatusCode::FORBIDDEN, r#"{"error":"timestamp out of tolerance"}"#),
            Self::EventIdMismatch => (StatusCode::FORBIDDEN, r#"{"error":"invalid event id"}"#),
            Self::MalformedEnvelope => (StatusCode::BAD_REQUEST, r#"{"error":"invalid envelope"}"#),
            Self::InvalidCredentials => (StatusCode::FORBIDDEN, r#"{"error":"invalid credentials"}"#),
            Self::MissingEventId => (StatusCode::BAD_REQUEST, r#"{"error":"missing klikit headers"}"#),
            Self::MalformedEventId => (StatusCode::BAD_REQUEST, r#"{"error":"invalid event id"}"#),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, r#"{"error":"body too large"}"#),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, r#"{"error":"body too slow"}"#),
            Self::BodyUnreadable => (StatusCode::BAD_REQUEST, r#"{"error":"body unreadable"}"#),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"overloaded"}"#),
        }
    }

    /// Returns the message for the log.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::MissingSignature => "no x-klikit-signature header",
            Self::MalformedSignature => "there is not exactly one x-klikit-signature header of 64 hex digits",
            Self::SignatureMismatch => "signature does not match the body under any configured secret",
            Self::StaleTimestamp => "the timestamp in the x-klikit-signature header is out of tolerance",
            Self::TimestampInBody => {
                "the signed body begins with a timestamp, which belongs in the x-klikit-signature header"
            }
            Self::EventIdMismatch => "the event id in the header differs from the one in the signed body",
            Self::MalformedEnvelope => "the signed body is not an envelope that names an event",
            Self::InvalidCredentials => "the authorization header does not hold the required credentials",
            Self::UnknownTenant => "the resolver returned no keyring for this request",
            Self::MissingEventId => "no x-klikit-event-id header",
            Self::MalformedEventId => {
                "there is not exactly one x-klikit-event-id header of 1 to 255 visible ASCII characters"
            }
            Self::BodyTooLarge => "the body is over the limit",
            Self::BodyTimeout => "the body was not complete within the deadline",
            Self::BodyUnreadable => "reading the body failed before its end",
            Self::Overloaded => "the buffer budget is used up",
        }
    }
}

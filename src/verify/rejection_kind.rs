//! The reasons to refuse a request, each with what is logged, counted, and answered.

use http::StatusCode;

use super::charge::Exhausted;

/// The reasons for a [`Rejection`](super::Rejection).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionKind {
    /// No `x-klikit-signature` header.
    MissingSignature,
    /// More than one signature header, or one that is not 64 hex digits.
    MalformedSignature,
    /// The body is not what was signed, or not with any secret of the keyring.
    SignatureMismatch,
    /// The `Authorization` header is not the one that
    /// [`require_basic_auth`](super::KlikitVerifyLayer::require_basic_auth) asks for.
    InvalidCredentials,
    /// The [resolver](super::KlikitVerifyLayer::with_resolver) knows no keyring for this request.
    UnknownTenant,
    /// No `x-klikit-event-id` header.
    MissingEventId,
    /// A delivery of the older form was signed longer ago, or further ahead, than
    /// `KlikitVerifyLayer::accept_timestamped` tolerates.
    StaleTimestamp,
    /// A signed body begins with a time and a dot, as the signed text of a delivery of the older form does: somebody has moved the
    /// time of a captured delivery from the header into the body.
    TimestampInBody,
    /// The id in the header of a delivery of the older form is not the one that is signed.
    EventIdMismatch,
    /// The body of a delivery of the older form is signed, and names no event.
    MalformedEnvelope,
    /// More than one event id, or one that is not 1 to 255 visible ASCII characters.
    MalformedEventId,
    /// The body is longer than [`body_limit`](super::KlikitVerifyLayer::body_limit).
    BodyTooLarge,
    /// The body was not whole within [`body_deadline`](super::KlikitVerifyLayer::body_deadline).
    BodyTimeout,
    /// The body could not be read to its end.
    BodyUnreadable,
    /// [`buffer_budget`](super::KlikitVerifyLayer::buffer_budget) is used up.
    Overloaded,
}

impl RejectionKind {
    /// Its name in metrics and in the log: `signature_mismatch`, for example.
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

    /// The status, and the text for the wire: it helps whoever sends in good faith and tells a forger nothing.
    pub(super) fn wire(self) -> (StatusCode, &'static str) {
        match self {
            Self::MissingSignature => (StatusCode::FORBIDDEN, r#"{"error":"missing klikit headers"}"#),
            // How a signature is off is nobody's business, and neither is which tenants are served here.
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

    /// For the log.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::MissingSignature => "no x-klikit-signature header",
            Self::MalformedSignature => "the x-klikit-signature header is not, once, 64 hex digits",
            Self::SignatureMismatch => "the signature matches this body with none of the secrets",
            Self::StaleTimestamp => "the time in the x-klikit-signature header is further away than is tolerated",
            Self::TimestampInBody => {
                "the signed body begins with a timestamp, which belongs in the x-klikit-signature header"
            }
            Self::EventIdMismatch => "the event id in the header is not the one in the signed body",
            Self::MalformedEnvelope => "the signed body is no envelope that names an event",
            Self::InvalidCredentials => "the authorization header does not hold the required credentials",
            Self::UnknownTenant => "the resolver knows no keyring for this request",
            Self::MissingEventId => "no x-klikit-event-id header",
            Self::MalformedEventId => "the x-klikit-event-id header is not, once, 1 to 255 visible ASCII characters",
            Self::BodyTooLarge => "the body is over the limit",
            Self::BodyTimeout => "the body was not whole within the deadline",
            Self::BodyUnreadable => "the body could not be read to its end",
            Self::Overloaded => "the buffer budget is used up",
        }
    }
}

impl From<Exhausted> for RejectionKind {
    fn from(_: Exhausted) -> Self {
        Self::Overloaded
    }
}

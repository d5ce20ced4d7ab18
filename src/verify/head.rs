//! The checks of a request's head, before any byte of the body is read.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderValue, Request, header, request::Parts};

use super::{
    body::VerifiedBody, collect::Verified, config::VerifyConfig, expected::Expected, rejection_kind::RejectionKind,
};
#[cfg(feature = "payload")]
use crate::signature::timestamped::TimestampedSignature;
use crate::{
    event::{Delivery, EventId, EventType},
    header::{EVENT_ID, EVENT_TYPE, name, only},
    keyring::Secrets,
    signature::Signature,
    telemetry::{UnverifiedLabels, VerifiedLabels},
};

/// The unverified headers of a request. They describe the delivery only once its body is verified.
pub(super) struct RequestHead {
    event_id: Option<EventId>,
    event_type: Option<EventType>,
    framing: Framing,
    received_at: SystemTime,
    /// The time in a timestamped signature.
    signed_at: Option<SystemTime>,
}

impl RequestHead {
    /// Checks the headers: cheap checks first, and the sender's identity before the delivery.
    #[inline]
    pub(super) fn check(parts: &mut Parts, config: &VerifyConfig) -> Result<(Self, Expected), RejectionKind> {
        let fields = HeadFields::find_and_hide(&mut parts.headers);
        let received_at = SystemTime::now();
        let signed = match fields.signature {
            HeadField::Missing => return Err(RejectionKind::MissingSignature),
            HeadField::Repeated => return Err(RejectionKind::MalformedSignature),
            HeadField::Once(value) => match Signature::from_hex(value.as_bytes()) {
                Ok(signature) => SignatureHeader { signature, prefix: Box::default(), signed_at: None },
                Err(_) => SignatureHeader::timestamped(value, config, received_at)?,
            },
        };
        if let Some(basic_auth) = &config.basic_auth {
            match fields.authorization {
                HeadField::Once(value) if basic_auth.matches(value) => {}
                _ => return Err(RejectionKind::InvalidCredentials),
            }
        }
        let event_id = match fields.event_id {
            HeadField::Missing if config.missing_event_id_allowed || signed.signed_at.is_some() => None,
            HeadField::Missing => return Err(RejectionKind::MissingEventId),
            HeadField::Repeated => return Err(RejectionKind::MalformedEventId),
            HeadField::Once(value) => Some(EventId::parse(value.as_bytes()).ok_or(RejectionKind::MalformedEventId)?),
        };
        let event_type = match fields.event_type {
            HeadField::Once(value) => EventType::parse(value.as_bytes()),
            HeadField::Missing | HeadField::Repeated => None,
        };
        let framing = fields.framing;
        let length = framing.length.unwrap_or(0);
        if length > config.drain_limit() {
            return Err(RejectionKind::BodyTooLarge);
        }
        let secrets = config.secrets(parts).ok_or(RejectionKind::UnknownTenant)?;
        let expected = Expected { signature: signed.signature, prefix: signed.prefix, secrets, length };
        Ok((Self { event_id, event_type, framing, received_at, signed_at: signed.signed_at }, expected))
    }

    /// Returns the labels of the verified delivery, for the log and the metrics.
    pub(super) fn verified_labels<'a>(&'a self, verified: &'a Verified) -> VerifiedLabels<'a> {
        VerifiedLabels {
            event_id: self.event_id.as_ref(),
            event_type: self.event_type.as_ref(),
            signer: &verified.signer,
            received_at: self.received_at,
        }
    }

    /// Returns the labels of the request before its body is verified, for the log and the metrics.
    pub(super) fn unverified_labels(&self, secrets: &Secrets) -> UnverifiedLabels {
        UnverifiedLabels {
            event_id: self.event_id.clone(),
            event_type: self.event_type.clone(),
            tenant: Some(Arc::clone(&secrets[0].signer().tenant)),
        }
    }

    /// Returns the labels of a request whose head was rejected, for the log and the metrics.
    pub(super) fn rejected_labels(headers: &HeaderMap) -> UnverifiedLabels {
        let value = |name| only(headers, name).map(HeaderValue::as_bytes);
        UnverifiedLabels {
            event_id: value(EVENT_ID).and_then(EventId::parse),
            event_type: value(EVENT_TYPE).and_then(EventType::parse),
            tenant: None,
        }
    }

    /// Takes the id and the type from the verified body if the signature is timestamped, since they are signed there.
    /// Rejects a timestamped delivery whose timestamp was moved into the body.
    #[inline]
    pub(super) fn read_signed_event(&mut self, body: &[u8], config: &VerifyConfig) -> Result<(), RejectionKind> {
        #[cfg(feature = "payload")]
        if config.timestamped.is_some() {
            self.read_envelope(body)?;
        }
        #[cfg(not(feature = "payload"))]
        let _ = (body, config);
        Ok(())
    }

    #[cfg(feature = "payload")]
    #[cold]
    fn read_envelope(&mut self, body: &[u8]) -> Result<(), RejectionKind> {
        if self.signed_at.is_some() {
            let signed = super::timestamped::SignedEvent::read(body, self.event_id.as_ref())?;
            (self.event_id, self.event_type) = (Some(signed.event_id), signed.event_type);
        } else if crate::signature::timestamped::begins_with_timestamp(body) {
            return Err(RejectionKind::TimestampInBody);
        }
        Ok(())
    }

    /// Builds the request for the inner service, once the body is verified.
    pub(super) fn into_verified_request(self, mut parts: Parts, verified: Verified) -> Request<VerifiedBody> {
        self.framing.replace_in(&mut parts.headers, verified.bytes.len());
        match &self.event_id {
            Some(event_id) => parts.extensions.insert(event_id.clone()),
            // An outer layer may have inserted another delivery's id.
            None => parts.extensions.remove(),
        };
        parts.extensions.insert(Delivery {
            event_id: self.event_id,
            event_type: self.event_type,
            signer: verified.signer,
            received_at: self.received_at,
            signed_at: self.signed_at,
            is_copy: false,
        });
        Request::from_parts(parts, VerifiedBody::new(verified.bytes))
    }
}

/// The parsed value of the signature header.
struct SignatureHeader {
    signature: Signature,
    /// The bytes that are signed before the body.
    prefix: Box<[u8]>,
    /// The time in a timestamped signature.
    signed_at: Option<SystemTime>,
}

impl SignatureHeader {
    /// Reads a timestamped signature, if the layer accepts them and the timestamp is within the tolerance.
    #[cfg(feature = "payload")]
    #[cold]
    fn timestamped(value: &HeaderValue, config: &VerifyConfig, now: SystemTime) -> Result<Self, RejectionKind> {
        let tolerance = config.timestamped.ok_or(RejectionKind::MalformedSignature)?;
        let header = TimestampedSignature::parse(value.as_bytes()).ok_or(RejectionKind::MalformedSignature)?;
        if !header.is_within(tolerance, now) {
            return Err(RejectionKind::StaleTimestamp);
        }
        Ok(Self { signature: header.signature, prefix: header.prefix, signed_at: Some(header.signed_at) })
    }

    #[cfg(not(feature = "payload"))]
    fn timestamped(_: &HeaderValue, _: &VerifyConfig, _: SystemTime) -> Result<Self, RejectionKind> {
        Err(RejectionKind::MalformedSignature)
    }
}

/// The headers that delimit the body.
#[derive(Clone, Copy, Default)]
struct Framing {
    /// The largest valid `Content-Length`.
    length: Option<u64>,
    /// The number of `Content-Length` headers, valid or not.
    lengths: usize,
    /// Whether there is a `Transfer-Encoding` or a `Trailer` header.
    has_transfer: bool,
}

impl Framing {
    /// Replaces the headers with the one `Content-Length` of the buffered body, which has no chunks and no trailers.
    fn replace_in(self, headers: &mut HeaderMap, length: usize) {
        if self.has_transfer {
            headers.remove(header::TRANSFER_ENCODING);
            headers.remove(header::TRAILER);
        }
        if self.lengths != 1 || self.length != Some(length as u64) {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
    }
}

/// The value of a header that is valid only if it occurs once.
enum HeadField<'a> {
    Missing,
    Once(&'a HeaderValue),
    Repeated,
}

impl<'a> HeadField<'a> {
    fn add(&mut self, value: &'a HeaderValue) {
        *self = match self {
            Self::Missing => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }
}

/// The headers that the layer reads.
struct HeadFields<'a> {
    signature: HeadField<'a>,
    authorization: HeadField<'a>,
    event_id: HeadField<'a>,
    event_type: HeadField<'a>,
    framing: Framing,
}

impl<'a> HeadFields<'a> {
    /// Finds the headers, and marks the signature and the credentials as sensitive, so that loggers do not print them.
    /// One iteration over all headers is cheaper than a look-up for each.
    fn find_and_hide(headers: &'a mut HeaderMap) -> Self {
        let mut fields = Self {
            signature: HeadField::Missing,
            authorization: HeadField::Missing,
            event_id: HeadField::Missing,
            event_type: HeadField::Missing,
            framing: Framing::default(),
        };
        for (name, value) in headers {
            match name.as_str() {
                name::SIGNATURE => {
                    value.set_sensitive(true);
                    fields.signature.add(value);
                }
                name::EVENT_ID => fields.event_id.add(value),
                name::EVENT_TYPE => fields.event_type.add(value),
                "authorization" => {
                    value.set_sensitive(true);
                    fields.authorization.add(value);
                }
                "content-length" => {
                    fields.framing.length = fields.framing.length.max(announced_length(value.as_bytes()));
                    fields.framing.lengths += 1;
                }
                "transfer-encoding" | "trailer" => fields.framing.has_transfer = true,
                _ => {}
            }
        }
        fields
    }
}

/// Parses a `Content-Length`. A number that does not fit becomes [`u64::MAX`]. An invalid value gives `None`, which is
/// safe because the bytes of the body are counted anyway.
fn announced_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |length: u64, digit| length.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_content_length_and_saturates() {
        for (text, length) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("1048576", Some(1_048_576)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", Some(u64::MAX)),
            ("99999999999999999999999999999", Some(u64::MAX)),
            ("", None),
            ("-1", None),
            ("5, 5", None),
            ("1e9", None),
        ] {
            assert_eq!(announced_length(text.as_bytes()), length, "{text}");
        }
    }
}

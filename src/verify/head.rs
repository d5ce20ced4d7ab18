//! What can be refused before one byte of the body is read.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderValue, Request, header, request::Parts};

use super::{body::VerifiedBody, collect::Verified, config::Config, expected::Expected, rejection_kind::RejectionKind};
use crate::{
    event::{Delivery, EventId, EventType},
    header::{EVENT_ID, EVENT_TYPE, name, only},
    keyring::Secrets,
    signature::Signature,
    telemetry::{Claimed, Known},
};

/// What the head of a request claims. Nothing of it is believed before the body is verified.
pub(super) struct Claims {
    event_id: Option<EventId>,
    event_type: Option<EventType>,
    framing: Framing,
    received_at: SystemTime,
    /// Of the older form alone.
    signed_at: Option<SystemTime>,
}

impl Claims {
    /// Checks a head: the cheapest first, and who the sender is before what it sends.
    #[inline]
    pub(super) fn check(parts: &mut Parts, config: &Config) -> Result<(Self, Expected), RejectionKind> {
        let fields = Fields::find_and_hide(&mut parts.headers);
        let received_at = SystemTime::now();
        let signed = match fields.signature {
            Field::Missing => return Err(RejectionKind::MissingSignature),
            Field::Repeated => return Err(RejectionKind::MalformedSignature),
            Field::Once(value) => match Signature::from_hex(value.as_bytes()) {
                Ok(signature) => Signed { signature, prefix: Box::default(), at: None },
                Err(_) => Signed::with_time(value, config, received_at)?,
            },
        };
        if let Some(basic_auth) = &config.basic_auth {
            match fields.authorization {
                Field::Once(value) if basic_auth.matches(value) => {}
                _ => return Err(RejectionKind::InvalidCredentials),
            }
        }
        let event_id = match fields.event_id {
            Field::Missing if config.missing_event_id_allowed || signed.at.is_some() => None,
            Field::Missing => return Err(RejectionKind::MissingEventId),
            Field::Repeated => return Err(RejectionKind::MalformedEventId),
            Field::Once(value) => Some(EventId::parse(value.as_bytes()).ok_or(RejectionKind::MalformedEventId)?),
        };
        let event_type = match fields.event_type {
            Field::Once(value) => EventType::parse(value.as_bytes()),
            Field::Missing | Field::Repeated => None,
        };
        let framing = fields.framing;
        let length = framing.length.unwrap_or(0);
        if length > config.drain_limit() {
            return Err(RejectionKind::BodyTooLarge);
        }
        let secrets = config.secrets(parts).ok_or(RejectionKind::UnknownTenant)?;
        let expected = Expected { signature: signed.signature, prefix: signed.prefix, secrets, length };
        Ok((Self { event_id, event_type, framing, received_at, signed_at: signed.at }, expected))
    }

    /// For the log.
    pub(super) fn known<'a>(&'a self, verified: &'a Verified) -> Known<'a> {
        Known {
            event_id: self.event_id.as_ref(),
            event_type: self.event_type.as_ref(),
            signer: &verified.signer,
            received_at: self.received_at,
        }
    }

    /// For the log.
    pub(super) fn claimed(&self, secrets: &Secrets) -> Claimed {
        Claimed {
            event_id: self.event_id.clone(),
            event_type: self.event_type.clone(),
            tenant: Some(Arc::clone(&secrets[0].signer().tenant)),
        }
    }

    /// For the log, of a head that was refused.
    pub(super) fn claimed_by(headers: &HeaderMap) -> Claimed {
        let value = |name| only(headers, name).map(HeaderValue::as_bytes);
        Claimed {
            event_id: value(EVENT_ID).and_then(EventId::parse),
            event_type: value(EVENT_TYPE).and_then(EventType::parse),
            tenant: None,
        }
    }

    /// Takes id and type from a verified body of the older form, where they are signed. Rejects a delivery of that form whose
    /// time was moved into the body.
    #[inline]
    pub(super) fn read_signed(&mut self, body: &[u8], config: &Config) -> Result<(), RejectionKind> {
        #[cfg(feature = "payload")]
        if config.timestamped.is_some() {
            self.read_either(body)?;
        }
        #[cfg(not(feature = "payload"))]
        let _ = (body, config);
        Ok(())
    }

    #[cfg(feature = "payload")]
    #[cold]
    fn read_either(&mut self, body: &[u8]) -> Result<(), RejectionKind> {
        if self.signed_at.is_some() {
            let named = super::timestamped::Named::read(body, self.event_id.as_ref())?;
            (self.event_id, self.event_type) = (Some(named.event_id), named.event_type);
        } else if crate::signature::stamp::begins_with_timestamp(body) {
            return Err(RejectionKind::TimestampInBody);
        }
        Ok(())
    }

    /// The request for the inner service, now that its body is verified.
    pub(super) fn confirm(self, mut parts: Parts, verified: Verified) -> Request<VerifiedBody> {
        self.framing.set(&mut parts.headers, verified.bytes.len());
        match &self.event_id {
            Some(event_id) => parts.extensions.insert(event_id.clone()),
            // One that a layer outside put there is not this delivery's.
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

/// What the signature header says.
struct Signed {
    signature: Signature,
    prefix: Box<[u8]>,
    at: Option<SystemTime>,
}

impl Signed {
    /// Of the older form, if that is accepted.
    #[cfg(feature = "payload")]
    #[cold]
    fn with_time(value: &HeaderValue, config: &Config, now: SystemTime) -> Result<Self, RejectionKind> {
        let tolerance = config.timestamped.ok_or(RejectionKind::MalformedSignature)?;
        let stamp = crate::signature::stamp::Stamp::parse(value.as_bytes()).ok_or(RejectionKind::MalformedSignature)?;
        if !stamp.is_within(tolerance, now) {
            return Err(RejectionKind::StaleTimestamp);
        }
        Ok(Self { signature: stamp.signature, prefix: stamp.prefix, at: Some(stamp.signed_at) })
    }

    #[cfg(not(feature = "payload"))]
    fn with_time(_: &HeaderValue, _: &Config, _: SystemTime) -> Result<Self, RejectionKind> {
        Err(RejectionKind::MalformedSignature)
    }
}

/// How the headers say where the body ends.
#[derive(Clone, Copy, Default)]
struct Framing {
    /// The largest length that is announced.
    length: Option<u64>,
    /// How many lengths there are, sound or not.
    lengths: usize,
    /// Whether there is a `Transfer-Encoding` or a `Trailer`.
    transfer: bool,
}

impl Framing {
    /// The body was taken out of its framing, and its trailers were dropped: from here on its length is all there is.
    fn set(self, headers: &mut HeaderMap, length: usize) {
        if self.transfer {
            headers.remove(header::TRANSFER_ENCODING);
            headers.remove(header::TRAILER);
        }
        if self.lengths != 1 || self.length != Some(length as u64) {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
    }
}

/// A header that has a meaning only when it is given once.
enum Field<'a> {
    Missing,
    Once(&'a HeaderValue),
    Repeated,
}

impl<'a> Field<'a> {
    fn add(&mut self, value: &'a HeaderValue) {
        *self = match self {
            Self::Missing => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }
}

struct Fields<'a> {
    signature: Field<'a>,
    authorization: Field<'a>,
    event_id: Field<'a>,
    event_type: Field<'a>,
    framing: Framing,
}

impl<'a> Fields<'a> {
    /// Finds the fields, and marks those that are secret as sensitive: loggers pass over them then. One walk over all headers
    /// is cheaper than a look-up for each.
    fn find_and_hide(headers: &'a mut HeaderMap) -> Self {
        let mut fields = Self {
            signature: Field::Missing,
            authorization: Field::Missing,
            event_id: Field::Missing,
            event_type: Field::Missing,
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
                "transfer-encoding" | "trailer" => fields.framing.transfer = true,
                _ => {}
            }
        }
        fields
    }
}

/// A length too large for any number is the largest. What is no length announces nothing: the body is counted anyway.
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
    fn an_announced_length_is_read_for_what_it_could_cost() {
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

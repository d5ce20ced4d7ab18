//! What can be refused before one byte of the body is read.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderValue, Request, header, request::Parts};

use super::{
    body::VerifiedBody,
    collect::{Collect, Verified},
    config::Config,
    rejection::RejectionKind,
};
use crate::{
    event::{Delivery, EventId, EventType},
    header::{EVENT_ID, EVENT_TYPE, SIGNATURE},
    keyring::Keyring,
    signature::Signature,
};

/// The head of a request that is waiting for its body to be verified.
pub(super) struct Head {
    parts: Parts,
    claims: Claims,
    received_at: SystemTime,
}

impl Head {
    pub(super) fn check(mut parts: Parts, config: &Config) -> Result<Self, RejectionKind> {
        let claims = Claims::read(&mut parts, config)?;
        Ok(Self { parts, claims, received_at: SystemTime::now() })
    }

    /// Begins to receive the body.
    pub(super) fn collect(&self, config: Arc<Config>) -> Collect {
        let Claims { keyring, signature, length, .. } = &self.claims;
        Collect::new(config, keyring.secrets(), signature.clone(), *length)
    }

    /// The request for the inner service, now that its body holds what was signed.
    pub(super) fn into_request(self, Verified { bytes, secret_id }: Verified) -> Request<VerifiedBody> {
        let Self { mut parts, claims, received_at } = self;
        // The body was taken out of its framing and lost its trailers.
        parts.headers.remove(header::TRANSFER_ENCODING);
        parts.headers.remove(header::TRAILER);
        parts.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
        if let Some(event_id) = &claims.event_id {
            parts.extensions.insert(event_id.clone());
        }
        parts.extensions.insert(Delivery {
            event_id: claims.event_id,
            event_type: claims.event_type,
            tenant: Arc::clone(claims.keyring.shared_name()),
            secret_id,
            received_at,
        });
        Request::from_parts(parts, VerifiedBody::new(bytes))
    }
}

/// What the head of a request claims. Nothing of it is believed before the body is verified.
struct Claims {
    keyring: Keyring,
    signature: Signature,
    event_id: Option<EventId>,
    event_type: Option<EventType>,
    /// The length that the sender announces, or 0.
    length: u64,
}

impl Claims {
    /// The cheapest check first; and who the sender is before what it sends.
    fn read(parts: &mut Parts, config: &Config) -> Result<Self, RejectionKind> {
        let fields = Fields::find(&mut parts.headers);
        let signature = match fields.signature {
            Field::Missing => return Err(RejectionKind::MissingSignature),
            Field::Repeated => return Err(RejectionKind::MalformedSignature),
            Field::Once(value) => {
                Signature::from_hex(value.as_bytes()).map_err(|_| RejectionKind::MalformedSignature)?
            }
        };
        if let Some(basic_auth) = &config.basic_auth {
            match fields.authorization {
                Field::Once(value) if basic_auth.matches(value) => {}
                _ => return Err(RejectionKind::InvalidCredentials),
            }
        }
        let event_id = match fields.event_id {
            Field::Missing if config.missing_event_id_allowed => None,
            Field::Missing => return Err(RejectionKind::MissingEventId),
            Field::Repeated => return Err(RejectionKind::MalformedEventId),
            Field::Once(value) => Some(EventId::parse(value.as_bytes()).ok_or(RejectionKind::MalformedEventId)?),
        };
        let event_type = match fields.event_type {
            Field::Once(value) => EventType::parse(value.as_bytes()),
            Field::Missing | Field::Repeated => None,
        };
        let length = fields.length;
        if length > config.drain_limit() {
            return Err(RejectionKind::BodyTooLarge);
        }
        let keyring = config.keyring(parts).ok_or(RejectionKind::UnknownTenant)?;
        Ok(Self { keyring, signature, event_id, event_type, length })
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
    length: u64,
}

impl<'a> Fields<'a> {
    /// One walk over all headers is cheaper than a look-up for each.
    fn find(headers: &'a mut HeaderMap) -> Self {
        let mut fields = Self {
            signature: Field::Missing,
            authorization: Field::Missing,
            event_id: Field::Missing,
            event_type: Field::Missing,
            length: 0,
        };
        for (name, value) in headers {
            if name == SIGNATURE {
                // Loggers pass over what is marked so.
                value.set_sensitive(true);
                fields.signature.add(value);
            } else if name == EVENT_ID {
                fields.event_id.add(value);
            } else if name == EVENT_TYPE {
                fields.event_type.add(value);
            } else if name == header::AUTHORIZATION {
                value.set_sensitive(true);
                fields.authorization.add(value);
            } else if name == header::CONTENT_LENGTH {
                fields.length = fields.length.max(announced_length(value.as_bytes()));
            }
        }
        fields
    }
}

/// A length too large for any number is the largest. What is no length announces nothing: the body is counted anyway.
fn announced_length(value: &[u8]) -> u64 {
    if !value.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    value.iter().fold(0, |length: u64, digit| length.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announced_length_is_read_for_what_it_could_cost() {
        for (text, length) in [
            ("0", 0),
            ("007", 7),
            ("1048576", 1_048_576),
            ("18446744073709551615", u64::MAX),
            ("18446744073709551616", u64::MAX),
            ("99999999999999999999999999999", u64::MAX),
            ("", 0),
            ("-1", 0),
            ("5, 5", 0),
            ("1e9", 0),
        ] {
            assert_eq!(announced_length(text.as_bytes()), length, "{text}");
        }
    }
}

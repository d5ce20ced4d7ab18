//! The envelope in the body of a delivery with a timestamped signature.

use std::borrow::Cow;

use serde::Deserialize;

use super::rejection_kind::RejectionKind;
use crate::event::{EventId, EventType};

/// The event that a signed envelope names.
pub(super) struct SignedEvent {
    pub(super) event_id: EventId,
    pub(super) event_type: Option<EventType>,
}

impl SignedEvent {
    /// Reads the event from a verified body. `header_id` is the id in the header, which must not differ.
    pub(super) fn read(body: &[u8], header_id: Option<&EventId>) -> Result<Self, RejectionKind> {
        let envelope: SignedEnvelope<'_> =
            serde_json::from_slice(body).map_err(|_| RejectionKind::MalformedEnvelope)?;
        let event_id = EventId::parse(envelope.event_id.as_bytes()).ok_or(RejectionKind::MalformedEnvelope)?;
        if header_id.is_some_and(|header_id| *header_id != event_id) {
            return Err(RejectionKind::EventIdMismatch);
        }
        let event_type = envelope.event_type.and_then(|name| EventType::parse(name.as_bytes()));
        Ok(Self { event_id, event_type })
    }
}

#[derive(Deserialize)]
struct SignedEnvelope<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow, default)]
    event_type: Option<Cow<'a, str>>,
}

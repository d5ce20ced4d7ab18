//! The envelope of klikit's older form, which names the event.

use std::borrow::Cow;

use serde::Deserialize;

use super::rejection_kind::RejectionKind;
use crate::event::{EventId, EventType};

/// What the envelope names, which is signed.
pub(super) struct Named {
    pub(super) event_id: EventId,
    pub(super) event_type: Option<EventType>,
}

impl Named {
    /// Reads it from a verified body. `claimed` is the id that the head has.
    pub(super) fn read(body: &[u8], claimed: Option<&EventId>) -> Result<Self, RejectionKind> {
        let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|_| RejectionKind::MalformedEnvelope)?;
        let event_id = EventId::parse(envelope.event_id.as_bytes()).ok_or(RejectionKind::MalformedEnvelope)?;
        if claimed.is_some_and(|claimed| *claimed != event_id) {
            return Err(RejectionKind::EventIdMismatch);
        }
        let event_type = envelope.event_type.and_then(|name| EventType::parse(name.as_bytes()));
        Ok(Self { event_id, event_type })
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow, default)]
    event_type: Option<Cow<'a, str>>,
}

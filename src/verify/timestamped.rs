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

/// Returns whether a body begins like the signed text of the timestamped form, `<t>.<body>`.
///
/// The current form signs the body alone, so a captured timestamped delivery would verify as a current one whose body is that text.
/// Of `t`, any spelling counts, including those that the header may not have: the sender decided how to write it. A body of
/// klikit's begins with `{`.
pub(super) fn begins_with_timestamp(body: &[u8]) -> bool {
    let is_of_number = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_whitespace() || b"+-".contains(byte);
    body.iter().find(|byte| !is_of_number(byte)) == Some(&b'.')
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow, default)]
    event_type: Option<Cow<'a, str>>,
}

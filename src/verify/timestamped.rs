//! The older form of deliveries: a time that is signed with the body, and an envelope that names the event.

use std::{borrow::Cow, time::Duration, time::SystemTime};

use serde::Deserialize;

use super::rejection_kind::RejectionKind;
use crate::{
    event::{EventId, EventType},
    signature::Signature,
};

/// Of the digits of a time. Those of the year 9999 have 12.
const MAX_DIGITS: usize = 12;

/// What the signature header holds: `t=<seconds since 1970>,v1=<hex>`, over `<t>.<body>`.
pub(super) struct Stamp {
    pub(super) signature: Signature,
    pub(super) signed_at: SystemTime,
    /// What is signed before the body.
    pub(super) prefix: Box<[u8]>,
}

impl Stamp {
    /// `None` when it is of another form.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let value = value.strip_prefix(b"t=")?;
        let comma = value.iter().position(|&byte| byte == b',')?;
        let (digits, rest) = value.split_at(comma);
        if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let seconds = digits.iter().fold(0, |seconds: u64, digit| 10 * seconds + u64::from(digit - b'0'));
        Some(Self {
            signature: Signature::from_hex(rest.strip_prefix(b",v1=")?).ok()?,
            signed_at: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?,
            prefix: [digits, b"."].concat().into(),
        })
    }

    /// Whether it was signed neither longer ago, nor further ahead, than this.
    pub(super) fn is_within(&self, tolerance: Duration, now: SystemTime) -> bool {
        let distance = now.duration_since(self.signed_at).unwrap_or_else(|ahead| ahead.duration());
        distance <= tolerance
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "cde212d9854ae482bb476487a187ee88c4b5f93eb2444de34fd7252b5ccb866d";

    #[test]
    fn a_stamp_is_a_time_and_a_signature() {
        let stamp = Stamp::parse(format!("t=1777777777,v1={HEX}").as_bytes()).unwrap();
        assert_eq!(stamp.signature.to_string(), HEX);
        assert_eq!(stamp.signed_at, SystemTime::UNIX_EPOCH + Duration::from_secs(1_777_777_777));
        assert_eq!(&*stamp.prefix, b"1777777777.");
        // What was sent is what was signed.
        assert_eq!(&*Stamp::parse(format!("t=007,v1={HEX}").as_bytes()).unwrap().prefix, b"007.");
    }

    #[test]
    fn nothing_else_is() {
        for value in [
            String::new(),
            HEX.to_owned(),
            format!("v1={HEX}"),
            format!("t=,v1={HEX}"),
            format!("t=-1,v1={HEX}"),
            format!("t= 1,v1={HEX}"),
            format!("t=1, v1={HEX}"),
            format!("t=1,v1={HEX},v1={HEX}"),
            format!("t=1,v0={HEX}"),
            format!("t=1,v1={}", &HEX[1..]),
            format!("t=1234567890123,v1={HEX}"),
            "t=1".to_owned(),
            "t=1,".to_owned(),
        ] {
            assert!(Stamp::parse(value.as_bytes()).is_none(), "{value}");
        }
    }

    #[test]
    fn the_tolerance_has_two_sides() {
        let stamp = Stamp::parse(format!("t=1000,v1={HEX}").as_bytes()).unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let tolerance = Duration::from_secs(300);
        for (now, within) in [(1000, true), (1300, true), (1301, false), (700, true), (699, false), (0, false)] {
            assert_eq!(stamp.is_within(tolerance, at(now)), within, "{now}");
        }
    }
}

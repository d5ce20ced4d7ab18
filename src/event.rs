//! The metadata of a verified delivery: its event id and type, its tenant, and the secret that signed it.

use std::{convert::Infallible, fmt, str::FromStr, sync::Arc, time::SystemTime};

use crate::keyring::Signer;

/// The greatest length of an id and of a type, in bytes.
const MAX_LEN: usize = 255;

/// The event id of a verified delivery, for de-duplication.
///
/// An id is opaque and has 1 to 255 visible ASCII characters. Only the verify layer creates ids (and, in tests, the
/// `testing` feature), so the request of an id has passed [`KlikitVerify`](crate::KlikitVerify).
///
/// **klikit signs only the body.** An attacker who has captured a body and its signature can send both again under
/// another id. The id is the one that a verified body arrived with, not one that klikit signed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Arc<str>);

impl EventId {
    /// Parses the value of a header. Returns `None` unless it consists of 1 to 255 visible ASCII characters.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        if value.len() > MAX_LEN {
            return None;
        }
        visible_ascii(value).map(|id| Self(id.into()))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for EventId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The type of a delivery's event, from its header.
///
/// klikit does not sign the type, and one of its pages does not list the header at all. Base important decisions on the
/// body.
///
/// An unknown name is kept in [`EventType::Other`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventType {
    /// `klikit.order.created.v2`: a confirmed new order.
    OrderCreated,
    /// `klikit.order.status.updated`: an order has another status.
    OrderStatusUpdated,
    /// `klikit.order.cart.updated`: an order's cart was replaced. The delivery holds the whole cart, not the
    /// difference.
    OrderCartUpdated,
    /// Any other name.
    Other(OtherEventType),
}

/// The name of an event without a variant in [`EventType`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OtherEventType(Arc<str>);

impl EventType {
    /// Parses the value of a header. Returns `None` unless it consists of 1 to 255 visible ASCII characters.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        if value.len() > MAX_LEN {
            return None;
        }
        Self::known(value).or_else(|| Some(Self::Other(OtherEventType(visible_ascii(value)?.into()))))
    }

    fn known(name: &[u8]) -> Option<Self> {
        match name {
            b"klikit.order.created.v2" => Some(Self::OrderCreated),
            b"klikit.order.status.updated" => Some(Self::OrderStatusUpdated),
            b"klikit.order.cart.updated" => Some(Self::OrderCartUpdated),
            _ => None,
        }
    }

    /// Returns the name as klikit sends it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::OrderCreated => "klikit.order.created.v2",
            Self::OrderStatusUpdated => "klikit.order.status.updated",
            Self::OrderCartUpdated => "klikit.order.cart.updated",
            Self::Other(OtherEventType(name)) => name,
        }
    }
}

impl From<&str> for EventType {
    fn from(name: &str) -> Self {
        Self::known(name.as_bytes()).unwrap_or_else(|| Self::Other(OtherEventType(name.into())))
    }
}

impl FromStr for EventType {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(name.into())
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Metadata of a verified delivery. The verify layer inserts it into the request's extensions.
///
/// Only the verify layer creates values of this type (and, in tests, the `testing` feature). The body was therefore
/// sent by klikit, or by an attacker who captured one of klikit's deliveries.
///
/// Only the body is signed. The [id](Self::event_id) and the [type](Self::event_type) are not, and neither are the
/// method, the path, the query and the headers of the request.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub(crate) event_id: Option<EventId>,
    pub(crate) event_type: Option<EventType>,
    pub(crate) signer: Arc<Signer>,
    pub(crate) received_at: SystemTime,
    pub(crate) signed_at: Option<SystemTime>,
    pub(crate) is_copy: bool,
}

impl Delivery {
    /// Returns the id for de-duplication. `None` is possible only with
    /// [`allow_missing_event_id`](crate::KlikitVerifyLayer::allow_missing_event_id).
    pub fn event_id(&self) -> Option<&EventId> {
        self.event_id.as_ref()
    }

    /// Returns the type, if the delivery has exactly one valid type header.
    pub fn event_type(&self) -> Option<&EventType> {
        self.event_type.as_ref()
    }

    /// Returns the [name](crate::Keyring::name) of the keyring that verified the delivery. Default: `default`.
    pub fn tenant(&self) -> &str {
        &self.signer.tenant
    }

    /// Returns the id of the secret that matched. Default: `default`. When no deliveries use an old secret any more,
    /// that secret can be [retired](crate::Keyring::retire).
    pub fn secret_id(&self) -> &str {
        &self.signer.secret_id
    }

    /// Returns the time of the timestamped signature, which
    /// [`accept_timestamped`](crate::KlikitVerifyLayer::accept_timestamped) accepts. If there is one, the id and the
    /// type are signed too.
    pub fn signed_at(&self) -> Option<SystemTime> {
        self.signed_at
    }

    /// Returns whether this process has seen the body with another event id before, or whether the body had an id
    /// before and has none now, or vice versa. Such a delivery may be a replay of a captured one.
    ///
    /// Always `false` outside of a [`KlikitDedupeLayer`](crate::dedupe::KlikitDedupeLayer) or an
    /// [`Inbox`](crate::inbox::Inbox), which remember the bodies.
    pub fn is_copy(&self) -> bool {
        self.is_copy
    }

    /// Returns the time when the head of the request reached the layer.
    pub fn received_at(&self) -> SystemTime {
        self.received_at
    }
}

fn visible_ascii(value: &[u8]) -> Option<&str> {
    // No early return, so that the compiler tests 16 characters at once.
    let is_visible = value.iter().fold(!value.is_empty(), |is_visible, byte| is_visible & byte.is_ascii_graphic());
    if is_visible { str::from_utf8(value).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_id_has_1_to_255_visible_characters() {
        for good in ["1", "test-5f0c", "01J0ZK3V9QK1", "~!", &"x".repeat(255)] {
            assert_eq!(EventId::parse(good.as_bytes()).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "a\tb", "é", "a\u{7f}", &"x".repeat(256)] {
            assert_eq!(EventId::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(EventId::parse(&[b'a', 0xff]), None);
    }

    #[test]
    fn known_types_round_trip() {
        for known in [EventType::OrderCreated, EventType::OrderStatusUpdated, EventType::OrderCartUpdated] {
            assert_eq!(EventType::from(known.as_str()), known);
        }
    }

    #[test]
    fn unknown_type_keeps_its_name() {
        let other = EventType::parse(b"klikit.order.created.v3").unwrap();
        assert!(matches!(other, EventType::Other(_)));
        assert_eq!(other.to_string(), "klikit.order.created.v3");
        assert_eq!(EventType::parse(b""), None);
        assert_eq!(EventType::parse(b"two words"), None);
    }
}

//! What a verified request carries: who klikit says it is for, which event it is, and which secret vouched for it.

use std::{convert::Infallible, fmt, str::FromStr, sync::Arc, time::SystemTime};

use crate::keyring::Signer;

/// Of an id, and of a type.
const MAX_LEN: usize = 255;

/// The id that klikit gives a delivery, for de-duplication. It came with a request whose body was verified.
///
/// Opaque, 1 to 255 visible ASCII characters. There is no way to make one but to receive it (or, in tests, the `testing`
/// feature), so holding one means that the request went through [`KlikitVerify`](crate::KlikitVerify).
///
/// **klikit signs the body alone.** Whoever captured a body and its signature can send both again under another id, so an id
/// says what a verified delivery came with, not what klikit signed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Arc<str>);

impl EventId {
    /// Reads a header's value, or `None` when it is not 1 to 255 visible ASCII characters.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        if value.len() > MAX_LEN {
            return None;
        }
        visible_ascii(value).map(|id| Self(id.into()))
    }

    /// The id as it came.
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

/// The event that a delivery tells of, as its header names it.
///
/// klikit does not sign the type, and one of its pages does not list the header at all: decide by the body whatever matters.
///
/// A name that is not known here is kept, in [`EventType::Other`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventType {
    /// `klikit.order.created.v2`: a confirmed new order.
    OrderCreated,
    /// `klikit.order.status.updated`: an order moved to another state.
    OrderStatusUpdated,
    /// `klikit.order.cart.updated`: an order's cart was replaced. The cart is whole, not a difference.
    OrderCartUpdated,
    /// Any other name.
    Other(OtherEventType),
}

/// The name of an event that [`EventType`] has no variant for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OtherEventType(Arc<str>);

impl EventType {
    /// Reads a header's value, or `None` when it names nothing: not 1 to 255 visible ASCII characters.
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

    /// The name as klikit sends it.
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

/// What is known of a verified delivery beside its body. It lies in the request's extensions.
///
/// There is no way to make one but to receive it (or, in tests, the `testing` feature), so holding one means that klikit, or
/// somebody who captured one of klikit's deliveries, sent this body.
///
/// The body alone is signed: [id](Self::event_id) and [type](Self::event_type) are what it came with, and so are the method, the
/// path, the query and the headers of the request.
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
    /// The id for de-duplication. `None` only behind
    /// [`allow_missing_event_id`](crate::KlikitVerifyLayer::allow_missing_event_id).
    pub fn event_id(&self) -> Option<&EventId> {
        self.event_id.as_ref()
    }

    /// The type, if the delivery came with exactly one that can be read.
    pub fn event_type(&self) -> Option<&EventType> {
        self.event_type.as_ref()
    }

    /// The [name](crate::Keyring::name) of the keyring that verified the delivery: `default` unless set.
    pub fn tenant(&self) -> &str {
        &self.signer.tenant
    }

    /// The id of the secret that matched: `default` unless set. When nothing comes under the old secret any more, it is safe
    /// to [retire](crate::Keyring::retire).
    pub fn secret_id(&self) -> &str {
        &self.signer.secret_id
    }

    /// When klikit signed it, if it has the older form that
    /// `KlikitVerifyLayer::accept_timestamped` lets in: then id and type are signed too.
    pub fn signed_at(&self) -> Option<SystemTime> {
        self.signed_at
    }

    /// Returns whether the body came under another event id before, or with an id before and now without one, or the other way
    /// round, as far as this process remembers. Such a delivery may be a replay of a captured one.
    ///
    /// Always `false` before a `KlikitDedupeLayer` or an `Inbox`, which remember the bodies.
    pub fn is_copy(&self) -> bool {
        self.is_copy
    }

    /// When the head of the request reached the layer.
    pub fn received_at(&self) -> SystemTime {
        self.received_at
    }
}

fn visible_ascii(value: &[u8]) -> Option<&str> {
    // No early end: that lets the compiler test 16 characters at once.
    let visible = value.iter().fold(!value.is_empty(), |visible, byte| visible & byte.is_ascii_graphic());
    if visible { str::from_utf8(value).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_is_1_to_255_visible_characters() {
        for good in ["1", "test-5f0c", "01J0ZK3V9QK1", "~!", &"x".repeat(255)] {
            assert_eq!(EventId::parse(good.as_bytes()).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "a\tb", "é", "a\u{7f}", &"x".repeat(256)] {
            assert_eq!(EventId::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(EventId::parse(&[b'a', 0xff]), None);
    }

    #[test]
    fn every_known_type_reads_back_as_itself() {
        for known in [EventType::OrderCreated, EventType::OrderStatusUpdated, EventType::OrderCartUpdated] {
            assert_eq!(EventType::from(known.as_str()), known);
        }
    }

    #[test]
    fn an_unknown_type_keeps_its_name() {
        let other = EventType::parse(b"klikit.order.created.v3").unwrap();
        assert!(matches!(other, EventType::Other(_)));
        assert_eq!(other.to_string(), "klikit.order.created.v3");
        assert_eq!(EventType::parse(b""), None);
        assert_eq!(EventType::parse(b"two words"), None);
    }
}

//! Types that describe stored deliveries to operators.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::head::StoredHead;
use crate::dedupe::BodyDigest;

/// The id of a stored delivery. Ids grow in the order of acceptance and are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(i64);

/// The state of a stored delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeliveryState {
    /// The delivery is pending: no worker holds it, and its next attempt may be due later.
    Ready,
    /// A worker holds a lease on the delivery.
    Leased,
    /// The delivery is a dead letter. It is handled again only if an operator [retries](super::Inbox::retry) it or
    /// klikit sends it again.
    Dead,
    /// The delivery was handled and is [kept](super::Inbox::keep_bodies).
    Done,
}

impl DeliveryState {
    /// Returns whether the delivery is still to be handled: it is READY or LEASED.
    pub fn is_unfinished(self) -> bool {
        matches!(self, Self::Ready | Self::Leased)
    }
}

/// The number of deliveries in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Pending deliveries, including those whose next attempt is due later.
    pub ready: u64,
    /// Deliveries that are leased to a worker. The worker may have crashed.
    pub leased: u64,
    /// Dead letters.
    pub dead: u64,
    /// Deliveries that were handled and are [kept](super::Inbox::keep_bodies).
    pub done: u64,
    /// The time since the oldest ready or leased delivery was accepted.
    pub oldest: Option<Duration>,
}

/// A stored delivery.
#[derive(Clone)]
#[non_exhaustive]
pub struct Entry {
    /// The id.
    pub id: DeliveryId,
    /// The state.
    pub state: DeliveryState,
    /// The number of attempts that were started.
    pub attempts: u32,
    /// When the delivery was accepted, by the store's clock.
    pub accepted_at: SystemTime,
    /// The reason why the last attempt failed or the delivery was dead-lettered: the handler's
    /// [`FailureReason`](crate::FailureReason), a status, or the beginning of an error's text.
    pub reason: Option<String>,
    /// The digest of the body, if it is still stored.
    pub digest: Option<BodyDigest>,
    /// The body, if it was requested and is still stored. It contains customers' data.
    pub body: Option<Bytes>,
    head: Option<StoredHead>,
}

impl DeliveryId {
    /// Creates an id from its number.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl DeliveryState {
    /// Returns the number of the state in the tables of this crate's stores.
    pub const fn code(self) -> i16 {
        match self {
            Self::Ready => 0,
            Self::Leased => 1,
            Self::Dead => 2,
            Self::Done => 3,
        }
    }

    /// Returns the name of the state: `ready`, `leased`, `dead` or `done`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Dead => "dead",
            Self::Done => "done",
        }
    }

    /// Returns the state with this number.
    pub const fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Self::Ready),
            1 => Some(Self::Leased),
            2 => Some(Self::Dead),
            3 => Some(Self::Done),
            _ => None,
        }
    }
}

impl fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Counts {
    /// Returns the name of each state and the number of deliveries in it.
    #[cfg(feature = "metrics")]
    pub(crate) fn by_state(&self) -> [(&'static str, u64); 4] {
        [
            (DeliveryState::Ready.as_str(), self.ready),
            (DeliveryState::Leased.as_str(), self.leased),
            (DeliveryState::Dead.as_str(), self.dead),
            (DeliveryState::Done.as_str(), self.done),
        ]
    }

    /// Returns the number of unfinished deliveries: ready or leased.
    pub fn backlog(&self) -> u64 {
        self.ready + self.leased
    }

    /// Returns the number of deliveries in all states, which [`max_stored`](super::Inbox::max_stored) limits.
    pub fn stored(&self) -> u64 {
        self.backlog() + self.dead + self.done
    }
}

impl Entry {
    /// Creates an entry from columns that a store has read. `head` is the [stored head](super::NewDelivery::head). Set
    /// the other fields afterwards.
    pub fn new(id: DeliveryId, state: DeliveryState, accepted_at: SystemTime, head: &str) -> Self {
        Self {
            id,
            state,
            attempts: 0,
            accepted_at,
            reason: None,
            digest: None,
            body: None,
            head: StoredHead::from_text(head).ok(),
        }
    }

    /// Returns the event id, if the delivery has one.
    pub fn event_id(&self) -> Option<&str> {
        self.head.as_ref()?.event_id.as_deref()
    }

    /// Returns the event type, if the delivery has one.
    pub fn event_type(&self) -> Option<&str> {
        self.head.as_ref()?.event_type.as_deref()
    }

    /// Returns the name of the keyring that verified the delivery.
    pub fn tenant(&self) -> Option<&str> {
        Some(&self.head.as_ref()?.tenant)
    }

    /// Returns whether the event id came with another body before.
    pub fn is_conflict(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.conflict)
    }
}

/// Omits the body, which contains customers' data.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("attempts", &self.attempts)
            .field("accepted_at", &self.accepted_at)
            .field("reason", &self.reason)
            .field("digest", &self.digest)
            .field("head", &self.head)
            .field("bytes", &self.body.as_ref().map(Bytes::len))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_codes_round_trip() {
        for state in [DeliveryState::Ready, DeliveryState::Leased, DeliveryState::Dead, DeliveryState::Done] {
            assert_eq!(DeliveryState::from_code(state.code()), Some(state));
        }
        assert_eq!(DeliveryState::from_code(4), None);
    }
}

//! What an operator sees of the inbox.

use std::{fmt, time::Duration, time::SystemTime};

use bytes::Bytes;

use super::head::Head;

/// Which delivery of an inbox. It is larger than those of all deliveries that were accepted before, and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(i64);

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeliveryState {
    /// It waits for a worker, or for the time of its next attempt.
    Ready,
    /// A worker has it.
    Leased,
    /// It was given up. It waits for somebody to [retry](super::Inbox::retry) it, or for klikit to send it again.
    Dead,
    /// It was handled, and is [kept](super::Inbox::keep_bodies).
    Done,
}

/// How many deliveries there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// That wait for a worker, or for the time of their next attempt.
    pub ready: u64,
    /// That a worker has, or had when it died.
    pub leased: u64,
    /// That were given up.
    pub dead: u64,
    /// That were handled and are [kept](super::Inbox::keep_bodies).
    pub done: u64,
    /// How long ago the oldest of those was accepted that are ready or leased.
    pub oldest: Option<Duration>,
}

/// A delivery of an inbox.
#[derive(Clone)]
#[non_exhaustive]
pub struct Entry {
    /// Which one.
    pub id: DeliveryId,
    /// Where it stands.
    pub state: DeliveryState,
    /// How many attempts were begun.
    pub attempts: u32,
    /// When it was accepted, by the store's clock.
    pub accepted_at: SystemTime,
    /// Why its last attempt failed, or why it was given up: a status, or the beginning of what the handler's error says.
    pub reason: Option<String>,
    /// The body, where it was asked for and is still there. It holds customers' data.
    pub body: Option<Bytes>,
    head: Option<Head>,
}

impl DeliveryId {
    /// Of this number.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
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
    /// The number that stores know it by.
    pub const fn code(self) -> i16 {
        match self {
            Self::Ready => 0,
            Self::Leased => 1,
            Self::Dead => 2,
            Self::Done => 3,
        }
    }

    /// Its name: `ready`, `leased`, `dead` or `done`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Dead => "dead",
            Self::Done => "done",
        }
    }

    /// The state of this number.
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
    /// Each state's name, and how many there are in it.
    #[cfg(feature = "metrics")]
    pub(crate) fn by_state(&self) -> [(&'static str, u64); 4] {
        [
            (DeliveryState::Ready.as_str(), self.ready),
            (DeliveryState::Leased.as_str(), self.leased),
            (DeliveryState::Dead.as_str(), self.dead),
            (DeliveryState::Done.as_str(), self.done),
        ]
    }

    /// How many are still to be handled.
    pub fn backlog(&self) -> u64 {
        self.ready + self.leased
    }
}

impl Entry {
    /// As a store reads it. `head` is what it was [given](super::NewDelivery::head). The rest can be set.
    pub fn new(id: DeliveryId, state: DeliveryState, accepted_at: SystemTime, head: &str) -> Self {
        Self { id, state, attempts: 0, accepted_at, reason: None, body: None, head: Head::from_text(head).ok() }
    }

    /// The event's id, if it came with one.
    pub fn event_id(&self) -> Option<&str> {
        self.head.as_ref()?.event_id.as_deref()
    }

    /// The event's type, if it came with one.
    pub fn event_type(&self) -> Option<&str> {
        self.head.as_ref()?.event_type.as_deref()
    }

    /// The name of the keyring that verified it.
    pub fn tenant(&self) -> Option<&str> {
        Some(&self.head.as_ref()?.tenant)
    }

    /// Whether its event id had come with another body before.
    pub fn is_conflict(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.conflict)
    }
}

/// Never the body.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("attempts", &self.attempts)
            .field("accepted_at", &self.accepted_at)
            .field("reason", &self.reason)
            .field("head", &self.head)
            .field("bytes", &self.body.as_ref().map(Bytes::len))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_reads_back_as_itself() {
        for state in [DeliveryState::Ready, DeliveryState::Leased, DeliveryState::Dead, DeliveryState::Done] {
            assert_eq!(DeliveryState::from_code(state.code()), Some(state));
        }
        assert_eq!(DeliveryState::from_code(4), None);
    }
}

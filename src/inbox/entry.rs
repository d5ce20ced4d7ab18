//! Types that describe stored deliveries to operators.

use std::{
    fmt,
    num::ParseIntError,
    str::FromStr,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{head::StoredHead, terms::SearchTerm};
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
    /// The delivery is a dead letter. It is handled again only if an operator [retries](super::Operator::retry) it or
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
    /// The time since the delivery was accepted, by the store's clock.
    pub age: Duration,
    /// The reason why the last attempt failed or the delivery was dead-lettered: the handler's
    /// [`FailureReason`](crate::FailureReason), a status, or the beginning of an error's text.
    pub reason: Option<String>,
    /// The digest of the body, if it is still stored.
    pub digest: Option<BodyDigest>,
    /// Whether the body is still stored.
    pub has_body: bool,
    /// The body, if it was requested and is still stored. It contains customers' data.
    pub body: Option<Bytes>,
    /// The records of the attempts, oldest first, if they were requested: at most the last
    /// [100](AttemptRecord::SHOWN).
    pub history: Vec<AttemptRecord>,
    /// The terms by which operators find the delivery.
    pub terms: Vec<SearchTerm>,
    head: Option<StoredHead>,
}

/// The record of an attempt to handle a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "stores make their own")]
pub struct AttemptRecord {
    /// The number of the attempt, from 1. Numbers begin again at 1 when a dead letter is retried.
    pub number: u32,
    /// The [name](super::Worker::name) of the worker.
    pub worker: String,
    /// When the attempt started, by the store's clock.
    pub started_at: SystemTime,
    /// When the attempt ended, by the store's clock. `None` while the handler is running, and if the worker reported no
    /// outcome.
    pub ended_at: Option<SystemTime>,
    /// The status of the handler's response. `None` if there was no response.
    pub status: Option<u16>,
    /// The reason why the attempt failed, of at most 200 characters: see [`Entry::reason`].
    pub reason: Option<String>,
}

impl AttemptRecord {
    /// The maximum number of records that a store returns with a delivery: 100.
    pub const SHOWN: usize = 100;
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

impl FromStr for DeliveryId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl From<i64> for DeliveryId {
    fn from(number: i64) -> Self {
        Self(number)
    }
}

impl From<DeliveryId> for i64 {
    fn from(id: DeliveryId) -> Self {
        id.0
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
            age: Duration::ZERO,
            reason: None,
            digest: None,
            has_body: false,
            body: None,
            history: Vec::new(),
            terms: Vec::new(),
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

    /// Returns the id of the secret that verified the delivery.
    pub fn secret_id(&self) -> Option<&str> {
        Some(&self.head.as_ref()?.secret_id)
    }

    /// Returns the method of the request, which klikit does not sign.
    pub fn method(&self) -> Option<&str> {
        Some(&self.head.as_ref()?.method)
    }

    /// Returns the path and the query of the request, which klikit does not sign.
    pub fn uri(&self) -> Option<&str> {
        Some(&self.head.as_ref()?.uri)
    }

    /// Returns the content type of the request, if it had one. klikit does not sign it.
    pub fn content_type(&self) -> Option<&str> {
        self.head.as_ref()?.content_type.as_deref()
    }

    /// Returns the ids of the orders in the body: at most [`SearchTerm::MAX`] together with the branch.
    pub fn orders(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().filter_map(SearchTerm::as_order)
    }

    /// Returns the id of the branch in the body, if it can be read.
    pub fn branch(&self) -> Option<&str> {
        self.terms.iter().find_map(SearchTerm::as_branch)
    }

    /// Returns whether the delivery is a [copy](crate::Delivery::is_copy) of another one with the same body.
    pub fn is_copy(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.copy)
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
            .field("age", &self.age)
            .field("reason", &self.reason)
            .field("digest", &self.digest)
            .field("head", &self.head)
            .field("has_body", &self.has_body)
            .field("bytes", &self.body.as_ref().map(Bytes::len))
            .field("terms", &self.terms)
            .field("history", &self.history)
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

    #[test]
    fn ids_convert_from_and_to_text_and_numbers() {
        for number in [1, 42, i64::MAX, -1] {
            let id = DeliveryId::from(number);
            assert_eq!((id.to_string().parse(), i64::from(id)), (Ok(id), number));
        }
        for text in ["", " 1", "1.0", "0x1", "9223372036854775808"] {
            assert!(text.parse::<DeliveryId>().is_err(), "{text}");
        }
    }
}

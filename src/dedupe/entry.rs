//! The entries of a ledger, as operators see them.

use std::{ops::Range, time::SystemTime};

use super::key::{BodyDigest, EventKey};

/// An entry of a [`Ledger`](super::Ledger).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "stores make their own")]
pub struct LedgerEntry {
    /// The key of the entry.
    pub key: EventKey,
    /// The key of the event that the entry belongs to. Equal to `key` unless the entry is a conflict.
    pub event: EventKey,
    /// The digest of the body.
    pub digest: BodyDigest,
    /// The state.
    pub state: LedgerState,
    /// When the entry was claimed, by the store's clock. For a delivery in an inbox, when it was accepted.
    pub claimed_at: SystemTime,
    /// The end of the claim's lease, or of the retention if the entry is done, by the store's clock.
    pub until: SystemTime,
    /// The end of the claim's [grace](super::ClaimTerms::grace), or of the retention if the entry is done, by the store's
    /// clock.
    pub kept_until: SystemTime,
}

impl LedgerEntry {
    /// Returns whether the event id came with another body before.
    pub fn is_conflict(&self) -> bool {
        self.key != self.event
    }
}

/// The state of a [`LedgerEntry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LedgerState {
    /// A token has claimed the entry, and the delivery is being handled.
    Claimed,
    /// The delivery was handled, or an inbox has accepted it.
    Done,
}

impl LedgerState {
    /// Returns the name: `claimed` or `done`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Done => "done",
        }
    }
}

/// A selection of entries of a [`Ledger`](super::Ledger).
///
/// An [`EventKey`] or a window of time converts into a selection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a store must handle each")]
pub enum LedgerSelection {
    /// The entries of this event: the entry under the event's own key, and the entries of its conflicts.
    Event(EventKey),
    /// All tenants' entries that were claimed within this window, by the store's clock.
    Claimed(Range<SystemTime>),
}

impl LedgerSelection {
    /// Returns whether the selection contains an entry of this event that was claimed at this time.
    pub fn matches(&self, event: &EventKey, claimed_at: SystemTime) -> bool {
        match self {
            Self::Event(selected) => selected == event,
            Self::Claimed(window) => window.contains(&claimed_at),
        }
    }
}

impl From<EventKey> for LedgerSelection {
    fn from(event: EventKey) -> Self {
        Self::Event(event)
    }
}

impl From<&EventKey> for LedgerSelection {
    fn from(event: &EventKey) -> Self {
        Self::Event(*event)
    }
}

impl From<Range<SystemTime>> for LedgerSelection {
    fn from(window: Range<SystemTime>) -> Self {
        Self::Claimed(window)
    }
}

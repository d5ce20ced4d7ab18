//! The bytes of a body that has not ended yet.

use std::mem;

use bytes::Bytes;

use super::{
    budget::Budget,
    parking::{Exhausted, Parked},
};

/// The smallest buffer of a body that waits, in bytes. A waiting body takes about as much besides its buffer, so that
/// nobody fills the budget with bodies of a byte.
const MIN_CAPACITY: usize = 1024;

/// A first frame as it came, or everything in one growing buffer.
///
/// A list of frames would cost many times the body when a sender uses chunks of one byte.
#[derive(Default)]
pub(super) enum Buffer {
    #[default]
    Empty,
    /// Uncharged: until it has to wait for more, it costs nothing that the transport does not hold anyway.
    One(Bytes),
    Many(Parked),
}

impl Buffer {
    /// Adds a frame. The capacity doubles, starting from what has arrived and never from what was announced, and stops
    /// at `longest`. If the budget is used up, what has arrived is dropped.
    pub(super) fn append(&mut self, frame: Bytes, longest: usize, budget: &Budget) -> Result<(), Exhausted> {
        if self.is_empty() {
            *self = Self::One(frame);
            return Ok(());
        }
        let length = self.as_slice().len() + frame.len();
        let mut all = self.take(length, longest, budget)?;
        all.bytes.extend_from_slice(&frame);
        *self = Self::Many(all);
        Ok(())
    }

    /// Takes the bytes away to be parked. A first frame is copied: however short, it can keep a whole read buffer of the
    /// transport's alive. If the budget is used up, what has arrived is dropped.
    pub(super) fn take_to_park(&mut self, longest: usize, budget: &Budget) -> Result<Parked, Exhausted> {
        self.take(self.as_slice().len(), longest, budget)
    }

    /// Takes the bytes away in a buffer that has the capacity for `length` bytes, and is charged for.
    fn take(&mut self, length: usize, longest: usize, budget: &Budget) -> Result<Parked, Exhausted> {
        let capacity = |current: usize| {
            let doubled = current.saturating_mul(2).min(longest);
            doubled.max(MIN_CAPACITY).min(budget.limit()).max(length)
        };
        let first = match mem::take(self) {
            Self::Many(mut all) => {
                if length > all.bytes.capacity() {
                    let capacity = capacity(all.bytes.capacity());
                    budget.raise(&mut all.charge, capacity)?;
                    all.bytes.reserve_exact(capacity - all.bytes.len());
                }
                return Ok(all);
            }
            Self::One(first) => first,
            Self::Empty => Bytes::new(),
        };
        let capacity = capacity(0);
        let charge = budget.charge(capacity)?;
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend_from_slice(&first);
        Ok(Parked { bytes, charge })
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::One(frame) => frame,
            Self::Many(Parked { bytes, .. }) => bytes,
        }
    }

    /// Returns the whole, without a copy. Its charge is released: it is no longer unverified.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::One(frame) => frame,
            Self::Many(Parked { bytes, .. }) => bytes.into(),
        }
    }
}

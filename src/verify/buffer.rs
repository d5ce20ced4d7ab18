//! The bytes of a body that has not ended yet.

use std::{iter, mem};

use bytes::Bytes;

use super::{blocks::Blocks, budget::Budget, charge::Exhausted};

/// The smallest block, in bytes. A waiting body takes about as much besides its blocks, so that nobody fills the budget
/// with bodies of a byte.
const MIN_BLOCK: usize = 1024;

/// The largest block after the first one, in bytes.
const MAX_BLOCK: usize = 64 * 1024;

/// A first frame as it came, or everything in blocks.
///
/// A list of frames would cost many times the body when a sender uses chunks of one byte.
#[derive(Default)]
pub(super) enum Buffer {
    #[default]
    Empty,
    /// Uncharged: until it has to wait for more, it costs nothing that the transport does not hold anyway.
    One(Bytes),
    Many(Blocks),
}

impl Buffer {
    /// Adds a frame. `longest` is the length that the body can have. If the budget is used up, what has arrived is
    /// dropped.
    ///
    /// Blocks are as large as what has arrived, and never as what was announced.
    pub(super) fn append(&mut self, frame: Bytes, longest: usize, budget: &Budget) -> Result<(), Exhausted> {
        let length = match self {
            Self::Empty => {
                *self = Self::One(frame);
                return Ok(());
            }
            Self::One(first) => first.len() + frame.len(),
            Self::Many(blocks) => blocks.len() + frame.len(),
        };
        let mut blocks = self.take(length.saturating_mul(2).min(longest).min(MAX_BLOCK).max(length), budget)?;
        let mut rest = blocks.fill(&frame);
        while !rest.is_empty() {
            let doubled = (2 * blocks.last_capacity()).min(longest.saturating_sub(blocks.len()));
            let charged = blocks.charge().bytes();
            let capacity = doubled.max(rest.len()).clamp(MIN_BLOCK, MAX_BLOCK).min(budget.limit() - charged);
            if capacity == 0 {
                return Err(Exhausted);
            }
            budget.raise(blocks.charge_mut(), charged + capacity)?;
            blocks.add(capacity);
            rest = blocks.fill(rest);
        }
        *self = Self::Many(blocks);
        Ok(())
    }

    /// Takes the bytes away to be parked. A first frame is copied: however short, it can keep a whole read buffer of the
    /// transport's alive. If the budget is used up, what has arrived is dropped.
    pub(super) fn take_to_park(&mut self, budget: &Budget) -> Result<Blocks, Exhausted> {
        self.take(0, budget)
    }

    /// Takes the bytes away in blocks. A first frame becomes a block of this capacity, or as large as the frame is.
    fn take(&mut self, capacity: usize, budget: &Budget) -> Result<Blocks, Exhausted> {
        let first = match mem::take(self) {
            Self::Many(blocks) => return Ok(blocks),
            Self::One(first) => first,
            Self::Empty => Bytes::new(),
        };
        let capacity = capacity.max(MIN_BLOCK).min(budget.limit()).max(first.len());
        let mut blocks = Blocks::new(capacity, budget.charge(capacity)?);
        blocks.fill(&first);
        Ok(blocks)
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Returns the bytes, in one piece or several.
    #[inline]
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (one, many): (&[u8], &[Vec<u8>]) = match self {
            Self::Empty => (&[], &[]),
            Self::One(frame) => (frame, &[]),
            Self::Many(blocks) => (&[], blocks.as_slices()),
        };
        iter::once(one).chain(many.iter().map(Vec::as_slice))
    }

    /// Returns the whole. Its charge is released: it is no longer unverified.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::One(frame) => frame,
            Self::Many(blocks) => blocks.into_bytes(),
        }
    }
}

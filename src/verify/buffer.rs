//! The buffered bytes of a body that is not verified yet.

use std::{iter, mem};

use bytes::Bytes;

use super::{blocks::Blocks, budget::Budget, charge::Exhausted};

/// The smallest block, in bytes. A waiting body takes about as much memory besides its blocks. With smaller blocks, many
/// one-byte bodies could therefore take far more memory than the budget.
const MIN_BLOCK: usize = 1024;

/// The largest block after the first one, in bytes.
const MAX_BLOCK: usize = 64 * 1024;

/// The bytes of a body: a single frame as it arrived, or several frames copied into blocks.
///
/// A list of frames would take many times the memory of the body if a sender uses chunks of one byte.
#[derive(Default)]
pub(super) enum Buffer {
    #[default]
    Empty,
    /// Not charged: the transport holds this memory anyway until the body has to wait for more.
    One(Bytes),
    Many(Blocks),
}

impl Buffer {
    /// Adds a frame. `longest` is the greatest length that the body can have.
    ///
    /// The size of a block follows the bytes that have arrived, not the length that the sender announced.
    ///
    /// # Errors
    ///
    /// If the budget is used up. The buffer is then empty.
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

    /// Takes the bytes out of the buffer for parking. A single frame is copied, because even a short one can keep a
    /// whole read buffer of the transport alive.
    ///
    /// # Errors
    ///
    /// If the budget is used up. The buffer is then empty.
    pub(super) fn take_to_park(&mut self, budget: &Budget) -> Result<Blocks, Exhausted> {
        self.take(0, budget)
    }

    /// Takes the bytes out of the buffer as blocks. A single frame is copied into a block of at least this capacity.
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

    /// Returns the bytes in one or several pieces.
    #[inline]
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (one, many): (&[u8], &[Vec<u8>]) = match self {
            Self::Empty => (&[], &[]),
            Self::One(frame) => (frame, &[]),
            Self::Many(blocks) => (&[], blocks.as_slices()),
        };
        iter::once(one).chain(many.iter().map(Vec::as_slice))
    }

    /// Returns the bytes in one piece and releases their charge.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::One(frame) => frame,
            Self::Many(blocks) => blocks.into_bytes(),
        }
    }
}

//! The bytes of an incomplete body, in blocks.

use bytes::Bytes;

use super::charge::{Charge, Released};

/// The bytes of an incomplete body, in blocks that are charged for their capacity.
///
/// A growing body allocates further blocks instead of a larger buffer. Its bytes are therefore not copied until the
/// body is verified, and freed blocks fit the next allocations.
pub(super) struct Blocks {
    blocks: Vec<Vec<u8>>,
    length: usize,
    charge: Charge,
}

impl Blocks {
    /// Creates one empty block. `charge` covers its capacity.
    pub(super) fn new(capacity: usize, charge: Charge) -> Self {
        // Reserve a few, so that the second block does not reallocate the list.
        let mut blocks = Vec::with_capacity(4);
        blocks.push(Vec::with_capacity(capacity));
        Self { blocks, length: 0, charge }
    }

    /// Adds an empty block. The charge must cover its capacity already.
    pub(super) fn add(&mut self, capacity: usize) {
        self.blocks.push(Vec::with_capacity(capacity));
    }

    /// Copies as many bytes as the last block has space for, and returns the rest.
    pub(super) fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(last) = self.blocks.last_mut() else { return bytes };
        let (fitting, rest) = bytes.split_at(bytes.len().min(last.capacity() - last.len()));
        last.extend_from_slice(fitting);
        self.length += fitting.len();
        rest
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Returns the capacity of the last block, in bytes.
    pub(super) fn last_capacity(&self) -> usize {
        self.blocks.last().map_or(0, Vec::capacity)
    }

    pub(super) fn charge(&self) -> &Charge {
        &self.charge
    }

    pub(super) fn charge_mut(&mut self) -> &mut Charge {
        &mut self.charge
    }

    pub(super) fn as_slices(&self) -> &[Vec<u8>] {
        &self.blocks
    }

    /// Returns the bytes in one piece and releases the charge. A single block is not copied.
    pub(super) fn into_bytes(mut self) -> Bytes {
        match &mut self.blocks[..] {
            [only] => std::mem::take(only).into(),
            several => several.concat().into(),
        }
    }

    /// Releases the charge and returns the blocks, which the caller must drop.
    pub(super) fn evict(self) -> (Vec<Vec<u8>>, Released) {
        (self.blocks, self.charge.release())
    }
}

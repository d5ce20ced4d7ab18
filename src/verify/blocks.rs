//! The bytes of a body that waits for more.

use bytes::Bytes;

use super::charge::{Charge, Released};

/// Bytes in blocks, which are charged for their capacity.
///
/// A growing body allocates further blocks instead of a larger buffer, so that it is never copied until it is verified,
/// and what is freed fits what is allocated next.
pub(super) struct Blocks {
    blocks: Vec<Vec<u8>>,
    length: usize,
    charge: Charge,
}

impl Blocks {
    /// Makes an empty block, whose capacity is charged for.
    pub(super) fn new(capacity: usize, charge: Charge) -> Self {
        // A list of one would be moved for the second block.
        let mut blocks = Vec::with_capacity(4);
        blocks.push(Vec::with_capacity(capacity));
        Self { blocks, length: 0, charge }
    }

    /// Adds an empty block, whose capacity is charged for.
    pub(super) fn add(&mut self, capacity: usize) {
        self.blocks.push(Vec::with_capacity(capacity));
    }

    /// Copies as many of the bytes as the last block has space for, and returns the others.
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

    /// Returns the bytes in one piece, and releases the charge. A single block is not copied.
    pub(super) fn into_bytes(mut self) -> Bytes {
        match &mut self.blocks[..] {
            [only] => std::mem::take(only).into(),
            several => several.concat().into(),
        }
    }

    /// Releases the charge, and leaves the memory to be dropped.
    pub(super) fn evict(self) -> (Vec<Vec<u8>>, Released) {
        (self.blocks, self.charge.release())
    }
}

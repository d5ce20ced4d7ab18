//! Slices of the ledger's table, for walks through the whole table.

/// How much of the key space to skip first at a damaged page, in 65,536ths: one 4096th of the key space.
pub(crate) const SKIPPED: u16 = 1 << 4;

/// Returns a key that is `parts` 65,536ths of the key space behind `after`, or `None` at the end of the key space. Keys
/// are hashes, so they are spread evenly, and the rows behind that key are probably on an undamaged page.
pub(crate) fn skip_damaged(after: &[u8], parts: u16) -> Option<Vec<u8>> {
    let first = u16::from_be_bytes(std::array::from_fn(|n| after.get(n).copied().unwrap_or_default()));
    first.checked_add(parts).map(|next| next.to_be_bytes().to_vec())
}

/// A range of consecutive rows, in the order of their keys.
pub(crate) struct Slice {
    pub(super) after: Vec<u8>,
    pub(super) last: Vec<u8>,
    pub(super) is_full: bool,
}

impl Slice {
    /// Returns the key before the slice and the last key in it.
    pub(crate) fn bounds(&self) -> (&[u8], &[u8]) {
        (&self.after, &self.last)
    }

    /// Returns the key before the next slice, or `None` if the table ends with this slice.
    pub(crate) fn next(self) -> Option<Vec<u8>> {
        self.is_full.then_some(self.last)
    }
}

//! Walking through the ledger's table.

/// How much of the keys' space is skipped at first where a page is damaged: a part of 4096.
pub(crate) const SKIPPED: u16 = 1 << 4;

/// Returns a key that is further on by so many parts of 65,536, or `None` at the end: from there on, keys may be
/// readable again.
pub(crate) fn skip_damaged(after: &[u8], parts: u16) -> Option<Vec<u8>> {
    let first = u16::from_be_bytes(std::array::from_fn(|n| after.get(n).copied().unwrap_or_default()));
    first.checked_add(parts).map(|next| next.to_be_bytes().to_vec())
}

/// A run of rows in the order of their keys.
pub(crate) struct Slice {
    pub(super) after: Vec<u8>,
    pub(super) last: Vec<u8>,
    pub(super) is_full: bool,
}

impl Slice {
    /// Returns the key before the slice, and the last one in it.
    pub(crate) fn bounds(&self) -> (&[u8], &[u8]) {
        (&self.after, &self.last)
    }

    /// Returns the key before the next slice, unless the table ends here.
    pub(crate) fn next(self) -> Option<Vec<u8>> {
        self.is_full.then_some(self.last)
    }
}

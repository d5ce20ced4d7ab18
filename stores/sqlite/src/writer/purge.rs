//! The purge of expired ledger rows, a few with each batch of claims.

use crate::ledger::{Entries, SKIPPED, skip_damaged};

/// The number of rows that a batch examines for each of its claims. A claim adds at most one row, so the walk is faster
/// than the table grows, and single claims are not slowed down.
const ROWS_PER_CLAIM: usize = 32;

/// The maximum number of rows that a batch examines.
const MAX_ROWS: usize = 512;

/// A walk through the ledger that starts again at the table's end.
pub(super) struct Purge {
    after: Vec<u8>,
    /// The maximum number of rows to examine next. It is lower near a damaged page.
    max_rows: usize,
    /// How much of the key space to skip at a damaged page, in 65,536ths.
    skipped: u16,
}

impl Purge {
    pub(super) fn new() -> Self {
        Self { after: Vec::new(), max_rows: MAX_ROWS, skipped: SKIPPED }
    }

    /// Examines the next rows and deletes the expired ones.
    ///
    /// After an error, the next steps examine fewer rows, down to one, to get close to the damaged page. Then they skip
    /// a part of the key space that doubles each time, until they reach the rows behind the page.
    pub(super) fn step(&mut self, ledger: &Entries<'_>, claims: usize) -> rusqlite::Result<()> {
        let rows = self.max_rows.min(claims * ROWS_PER_CLAIM);
        match purge_slice(ledger, &self.after, rows) {
            Ok(next) => {
                *self = Self { after: next, max_rows: MAX_ROWS.min(2 * self.max_rows), skipped: SKIPPED };
                Ok(())
            }
            Err(error) => {
                self.max_rows = (rows / 4).max(1);
                if rows == 1 {
                    self.after = skip_damaged(&self.after, self.skipped).unwrap_or_default();
                    self.skipped = self.skipped.saturating_mul(2);
                }
                Err(error)
            }
        }
    }
}

/// Deletes the expired rows among the next `rows` rows. Returns the key after which the walk continues.
fn purge_slice(ledger: &Entries<'_>, after: &[u8], rows: usize) -> rusqlite::Result<Vec<u8>> {
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    let slice = ledger.slice(after, rows)?;
    ledger.purge(&slice, rows)?;
    Ok(slice.next().unwrap_or_default())
}

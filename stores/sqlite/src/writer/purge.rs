//! Purging the ledger, a few rows with each batch of claims.

use crate::ledger::{Entries, SKIPPED, skip_damaged};

/// How many rows a batch looks at for each claim in it. A claim adds one row at most, so the whole table is gone
/// through often enough, and single claims are not slowed down.
const ROWS_PER_CLAIM: usize = 32;

/// How many rows a batch looks at at most.
const MAX_ROWS: usize = 512;

/// A walk through the ledger that begins again at its end.
pub(super) struct Purge {
    after: Vec<u8>,
    /// How many rows to look at at most: fewer near a damaged page.
    max_rows: usize,
    /// How much to skip at a damaged page.
    skipped: u16,
}

impl Purge {
    pub(super) fn new() -> Self {
        Self { after: Vec::new(), max_rows: MAX_ROWS, skipped: SKIPPED }
    }

    /// Purges among the next rows.
    ///
    /// Approaches a damaged page row by row and then skips it, further each time, so that the rows behind it are purged
    /// too.
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

/// Purges among the next `rows` rows. Returns the key to go on after.
fn purge_slice(ledger: &Entries<'_>, after: &[u8], rows: usize) -> rusqlite::Result<Vec<u8>> {
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    let slice = ledger.slice(after, rows)?;
    ledger.purge(&slice, rows)?;
    Ok(slice.next().unwrap_or_default())
}

//! The calls that count the keys that can be forgotten.

use std::ops::Range;

use rusqlite::{ToSql, params};
use tower_klikit::dedupe::EventKey;

use super::{
    deliveries::Deliveries,
    forget::{Cursor, FinishedPart},
};
use crate::{ledger::Slice, values::count};

impl Deliveries<'_> {
    /// Returns the number of keys that [`forget_event`](Self::forget_event) would forget.
    pub(crate) fn count_event(&self, event: &EventKey) -> rusqlite::Result<u64> {
        self.count_keys(&self.sql.admin.count_keys_of_event, params![event.as_bytes(), self.timestamp.now()])
    }

    /// Returns the number of keys that [`forget_claimed`](Self::forget_claimed) would forget.
    pub(crate) fn count_claimed(&self, slice: &Slice, window: &Range<i64>) -> rusqlite::Result<u64> {
        let (after, last) = slice.bounds();
        let values = params![after, last, window.start, window.end, self.timestamp.now()];
        self.count_keys(&self.sql.admin.count_claimed_in_ledger, values)
    }

    /// Counts those of the next `rows` finished deliveries that were accepted in the window. Leaves out those whose
    /// ledger row [`count_claimed`](Self::count_claimed) counts.
    pub(crate) fn count_accepted(
        &self,
        from: Cursor,
        rows: u32,
        window: &Range<i64>,
    ) -> rusqlite::Result<FinishedPart> {
        self.each_accepted(from, rows, window, |_, key| {
            let values = params![key, window.start, window.end, self.timestamp.now()];
            Ok(self.count_keys(&self.sql.admin.count_key_in_ledger, values)? == 0)
        })
    }

    fn count_keys(&self, sql: &str, parameters: &[&dyn ToSql]) -> rusqlite::Result<u64> {
        self.connection.prepare_cached(sql)?.query_row(parameters, |row| count(row, 0))
    }
}

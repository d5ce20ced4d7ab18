//! Who is first of those that share an ordering key.

use std::collections::{HashMap, HashSet};

use super::deliveries::{Deliveries, keys};

/// Those that share an ordering key stand in line, by their ids. Of each line that is asked about, the first is looked up once.
#[derive(Default)]
pub(super) struct Lines {
    firsts: HashMap<Vec<u8>, Option<i64>>,
    /// The keys of those that are leased.
    busy: Option<HashSet<Vec<u8>>>,
}

impl Lines {
    /// Whether no other that shares one of the keys stands before this one, or is leased.
    ///
    /// One that was given up and is tried again takes its old place, and then somebody behind it may be leased.
    pub(super) fn is_first(
        &mut self,
        deliveries: &Deliveries<'_>,
        id: i64,
        ordering: Option<&[u8]>,
    ) -> rusqlite::Result<bool> {
        let Some(ordering) = ordering else { return Ok(true) };
        for key in keys(ordering) {
            if self.first(deliveries, key)? != Some(id) || self.busy(deliveries)?.contains(key) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn first(&mut self, deliveries: &Deliveries<'_>, key: &[u8]) -> rusqlite::Result<Option<i64>> {
        if let Some(first) = self.firsts.get(key) {
            return Ok(*first);
        }
        let mut first = deliveries.connection.prepare_cached(&deliveries.sql.first_in_line)?;
        let first = first.query_row([key], |row| row.get(0))?;
        self.firsts.insert(key.into(), first);
        Ok(first)
    }

    fn busy(&mut self, deliveries: &Deliveries<'_>) -> rusqlite::Result<&HashSet<Vec<u8>>> {
        if self.busy.is_none() {
            let mut busy = deliveries.connection.prepare_cached(&deliveries.sql.busy)?;
            let mut rows = busy.query([deliveries.moment.now()])?;
            let mut all = HashSet::new();
            while let Some(row) = rows.next()? {
                all.extend(keys(row.get_ref(0)?.as_blob()?).map(Into::into));
            }
            self.busy = Some(all);
        }
        Ok(self.busy.get_or_insert_default())
    }
}

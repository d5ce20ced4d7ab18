//! The queues of the ordering keys.

use std::collections::{HashMap, HashSet};

use super::deliveries::{Deliveries, split_keys};

/// The heads of the queues that were asked about: each is looked up once.
///
/// The unfinished deliveries that share an ordering key form a queue, by their ids.
pub(super) struct OrderingQueues<'a> {
    heads: HashMap<Vec<u8>, Option<i64>>,
    /// The keys of leased deliveries.
    leased: Option<HashSet<Vec<u8>>>,
    /// The keys of expired leases that count as leased, one set for each lease.
    held: &'a [Vec<u8>],
}

impl<'a> OrderingQueues<'a> {
    pub(super) fn new(held: &'a [Vec<u8>]) -> Self {
        Self { heads: HashMap::new(), leased: None, held }
    }

    /// Returns whether this delivery is the head of all its queues, and no delivery behind it is leased.
    ///
    /// When a dead delivery is retried, it takes its old place, and then a delivery behind it may be leased.
    pub(super) fn is_head(
        &mut self,
        deliveries: &Deliveries<'_>,
        id: i64,
        ordering: Option<&[u8]>,
    ) -> rusqlite::Result<bool> {
        let Some(ordering) = ordering else { return Ok(true) };
        for key in split_keys(ordering) {
            if self.head(deliveries, key)? != Some(id) || self.leased(deliveries)?.contains(key) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn head(&mut self, deliveries: &Deliveries<'_>, key: &[u8]) -> rusqlite::Result<Option<i64>> {
        if let Some(head) = self.heads.get(key) {
            return Ok(*head);
        }
        let mut head = deliveries.connection.prepare_cached(&deliveries.sql.head_of_queue)?;
        let head = head.query_row([key], |row| row.get(0))?;
        self.heads.insert(key.into(), head);
        Ok(head)
    }

    fn leased(&mut self, deliveries: &Deliveries<'_>) -> rusqlite::Result<&HashSet<Vec<u8>>> {
        if self.leased.is_none() {
            let mut leased = deliveries.connection.prepare_cached(&deliveries.sql.leased_keys)?;
            let mut rows = leased.query([deliveries.timestamp.now()])?;
            let mut keys: HashSet<Vec<u8>> =
                self.held.iter().flat_map(|held| split_keys(held)).map(Into::into).collect();
            while let Some(row) = rows.next()? {
                keys.extend(split_keys(row.get_ref(0)?.as_blob()?).map(Into::into));
            }
            self.leased = Some(keys);
        }
        Ok(self.leased.get_or_insert_default())
    }
}

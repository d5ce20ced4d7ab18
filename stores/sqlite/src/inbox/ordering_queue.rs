//! The queues of the ordering keys.

use std::collections::{HashMap, HashSet};

use rusqlite::{OptionalExtension, Row, params};
use tower_klikit::inbox::OrderingKey;

use super::{deliveries::Deliveries, ordering_keys, state::state_of};

/// A cache of the heads of queues, each of which is looked up once.
///
/// The unfinished deliveries that share an ordering key form a queue, in the order of their ids.
pub(super) struct OrderingQueues<'a> {
    heads: HashMap<OrderingKey, Head>,
    /// The keys of leased deliveries.
    leased: Option<HashSet<OrderingKey>>,
    /// The keys of the process's expired leases. They count as leased, because their handlers are still running.
    held: &'a [OrderingKey],
    repairs: HashSet<Repair>,
}

/// The first entry of a queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    Empty,
    /// The id is `None` if the stored value is not a number.
    Entry {
        id: Option<i64>,
        is_checked: bool,
    },
}

/// A difference between a queue and the deliveries, caused by damage or by another program's change. Without a repair,
/// it would block the ordering key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Repair {
    /// A queue entry without an unfinished delivery that has the key. The id is `None` if it is not a number.
    Stray { key: OrderingKey, id: Option<i64> },
    /// An unfinished delivery without its queue entry.
    Missing { key: OrderingKey, id: i64 },
}

impl<'a> OrderingQueues<'a> {
    pub(super) fn new(held: &'a [OrderingKey]) -> Self {
        Self { heads: HashMap::new(), leased: None, held, repairs: HashSet::new() }
    }

    /// Returns whether this delivery is the head of all its queues and no other delivery in them is leased.
    ///
    /// A retried delivery takes its old place, which may be before a leased delivery.
    pub(super) fn is_head(
        &mut self,
        deliveries: &Deliveries<'_>,
        id: i64,
        keys: &[OrderingKey],
    ) -> rusqlite::Result<bool> {
        for key in keys {
            match self.head(deliveries, key)? {
                Head::Entry { id: Some(head), .. } if head == id => {}
                Head::Entry { id: Some(head), .. } if head > id => {
                    self.repairs.insert(Repair::Missing { key: key.clone(), id });
                    return Ok(false);
                }
                Head::Empty => {
                    self.repairs.insert(Repair::Missing { key: key.clone(), id });
                    return Ok(false);
                }
                Head::Entry { id: blocking, is_checked } => {
                    if !is_checked {
                        self.heads.insert(key.clone(), Head::Entry { id: blocking, is_checked: true });
                        self.check(deliveries, key, blocking)?;
                    }
                    return Ok(false);
                }
            }
            if self.leased(deliveries)?.contains(key) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the repairs that were found to be necessary.
    pub(super) fn repairs(self) -> Vec<Repair> {
        self.repairs.into_iter().collect()
    }

    fn head(&mut self, deliveries: &Deliveries<'_>, key: &OrderingKey) -> rusqlite::Result<Head> {
        if let Some(head) = self.heads.get(key) {
            return Ok(*head);
        }
        let mut find = deliveries.connection.prepare_cached(&deliveries.sql.lease.find_head_of_queue)?;
        let entry = |row: &Row<'_>| Ok(Head::Entry { id: row.get_ref(0)?.as_i64().ok(), is_checked: false });
        let head = find.query_row([key.as_str()], entry).optional()?.unwrap_or(Head::Empty);
        self.heads.insert(key.clone(), head);
        Ok(head)
    }

    /// Checks that the head of a queue belongs to the queue, and adds a repair if it does not.
    pub(super) fn check(
        &mut self,
        deliveries: &Deliveries<'_>,
        key: &OrderingKey,
        id: Option<i64>,
    ) -> rusqlite::Result<()> {
        if !deliveries.is_queued(key, id)? {
            self.repairs.insert(Repair::Stray { key: key.clone(), id });
        }
        Ok(())
    }

    fn leased(&mut self, deliveries: &Deliveries<'_>) -> rusqlite::Result<&HashSet<OrderingKey>> {
        if self.leased.is_none() {
            let mut list = deliveries.connection.prepare_cached(&deliveries.sql.lease.list_leased_keys)?;
            let mut rows = list.query([deliveries.timestamp.now()])?;
            let mut keys: HashSet<_> = self.held.iter().cloned().collect();
            while let Some(row) = rows.next()? {
                // A delivery with unreadable keys is dead-lettered once its lease has expired.
                keys.extend(ordering_keys::readable(row.get_ref(0)?));
            }
            self.leased = Some(keys);
        }
        Ok(self.leased.get_or_insert_default())
    }
}

impl Deliveries<'_> {
    /// Returns whether a delivery belongs to the queue of this key.
    fn is_queued(&self, key: &OrderingKey, id: Option<i64>) -> rusqlite::Result<bool> {
        let Some(id) = id else { return Ok(false) };
        let mut read = self.connection.prepare_cached(&self.sql.rows.read_state_and_keys)?;
        let is_queued = |row: &Row<'_>| {
            Ok(state_of(row.get_ref(0)?).is_unfinished() && ordering_keys::readable(row.get_ref(1)?).contains(key))
        };
        let is_queued = self.isolation.isolate(|| read.query_row([id], is_queued).optional())?;
        // A delivery on a damaged page keeps its place in the queue.
        Ok(is_queued.map_or(true, |is_queued| is_queued.unwrap_or(false)))
    }

    /// Repairs a difference if it still exists. Returns whether it did.
    pub(super) fn repair(&self, repair: &Repair) -> rusqlite::Result<bool> {
        let changed = match repair {
            Repair::Stray { key, id } if !self.is_queued(key, *id)? => self
                .connection
                .prepare_cached(&self.sql.lease.delete_stray_entries)?
                .execute(params![key.as_str(), id])?,
            Repair::Missing { key, id } if self.is_queued(key, Some(*id))? => {
                self.connection.prepare_cached(&self.sql.rows.enqueue)?.execute(params![key.as_str(), id])?
            }
            _ => 0,
        };
        Ok(changed > 0)
    }
}

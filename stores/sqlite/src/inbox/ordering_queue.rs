//! The queues of the ordering keys.

use std::collections::{HashMap, HashSet};

use rusqlite::{OptionalExtension, Row, params};
use tower_klikit::inbox::{DeliveryState, OrderingKey};

use super::{deliveries::Deliveries, ordering_keys, state::state_of};

/// The heads of the queues that were asked about: each is looked up once.
///
/// The unfinished deliveries that share an ordering key form a queue, by their ids.
pub(super) struct OrderingQueues<'a> {
    heads: HashMap<OrderingKey, Head>,
    /// The keys of leased deliveries.
    leased: Option<HashSet<OrderingKey>>,
    /// The keys of expired leases that count as leased.
    held: &'a [OrderingKey],
    repairs: HashSet<Repair>,
}

/// The first entry of a queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    Empty,
    /// With an id, unless the stored one is no number.
    Entry {
        id: Option<i64>,
        is_checked: bool,
    },
}

/// A difference between a queue and the deliveries, as after damage or somebody else's change. It would block the key
/// for good.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Repair {
    /// An entry without an unfinished delivery that has the key. `None`: the id is no number.
    Stray { key: OrderingKey, id: Option<i64> },
    /// An unfinished delivery without its entry.
    Missing { key: OrderingKey, id: i64 },
}

impl<'a> OrderingQueues<'a> {
    pub(super) fn new(held: &'a [OrderingKey]) -> Self {
        Self { heads: HashMap::new(), leased: None, held, repairs: HashSet::new() }
    }

    /// Returns whether this delivery is the head of all its queues, and no delivery behind it is leased.
    ///
    /// When a dead delivery is retried, it takes its old place, and then a delivery behind it may be leased.
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

    /// Returns what has to be repaired, as far as it was noticed.
    pub(super) fn repairs(self) -> Vec<Repair> {
        self.repairs.into_iter().collect()
    }

    fn head(&mut self, deliveries: &Deliveries<'_>, key: &OrderingKey) -> rusqlite::Result<Head> {
        if let Some(head) = self.heads.get(key) {
            return Ok(*head);
        }
        let mut find = deliveries.connection.prepare_cached(&deliveries.sql.head_of_queue)?;
        let entry = |row: &Row<'_>| Ok(Head::Entry { id: row.get_ref(0)?.as_i64().ok(), is_checked: false });
        let head = find.query_row([key.as_str()], entry).optional()?.unwrap_or(Head::Empty);
        self.heads.insert(key.clone(), head);
        Ok(head)
    }

    /// Checks that the head of a queue belongs there.
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
            let mut leased = deliveries.connection.prepare_cached(&deliveries.sql.leased_keys)?;
            let mut rows = leased.query([deliveries.timestamp.now()])?;
            let mut keys: HashSet<_> = self.held.iter().cloned().collect();
            while let Some(row) = rows.next()? {
                // Keys that cannot be read are dealt with once the lease has expired.
                keys.extend(ordering_keys::readable(row.get_ref(0)?));
            }
            self.leased = Some(keys);
        }
        Ok(self.leased.get_or_insert_default())
    }
}

impl Deliveries<'_> {
    /// Returns whether a delivery belongs into the queue of this key.
    fn is_queued(&self, key: &OrderingKey, id: Option<i64>) -> rusqlite::Result<bool> {
        let Some(id) = id else { return Ok(false) };
        let mut state = self.connection.prepare_cached(&self.sql.state)?;
        let is_queued = |row: &Row<'_>| {
            let is_unfinished = matches!(state_of(row.get_ref(0)?), DeliveryState::Ready | DeliveryState::Leased);
            Ok(is_unfinished && ordering_keys::readable(row.get_ref(2)?).contains(key))
        };
        let is_queued = self.isolation.isolate(|| state.query_row([id], is_queued).optional())?;
        // A delivery on a damaged page keeps its place.
        Ok(is_queued.map_or(true, |is_queued| is_queued.unwrap_or(false)))
    }

    /// Makes this difference good, if it is still there. Returns whether it was.
    pub(super) fn repair(&self, repair: &Repair) -> rusqlite::Result<bool> {
        let changed = match repair {
            Repair::Stray { key, id } if !self.is_queued(key, *id)? => {
                self.connection.prepare_cached(&self.sql.delete_stray)?.execute(params![key.as_str(), id])?
            }
            Repair::Missing { key, id } if self.is_queued(key, Some(*id))? => {
                self.connection.prepare_cached(&self.sql.insert_key)?.execute(params![key.as_str(), id])?
            }
            _ => 0,
        };
        Ok(changed > 0)
    }
}

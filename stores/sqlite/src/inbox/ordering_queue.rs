//! The queues of the ordering keys.

use std::collections::{HashMap, HashSet};

use rusqlite::{OptionalExtension, Row, params};
use tower_klikit::inbox::DeliveryState;

use super::{
    deliveries::Deliveries,
    rows::{ordering_of, split_keys, state_of},
};

/// The heads of the queues that were asked about: each is looked up once.
///
/// The unfinished deliveries that share an ordering key form a queue, by their ids.
pub(super) struct OrderingQueues<'a> {
    heads: HashMap<Vec<u8>, Head>,
    /// The keys of leased deliveries.
    leased: Option<HashSet<Vec<u8>>>,
    /// The keys of expired leases that count as leased, one set for each lease.
    held: &'a [Vec<u8>],
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

/// A difference between a queue and the deliveries, as after damage or somebody else's change. It would block the key for good.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Repair {
    /// An entry without an unfinished delivery that has the key. `None`: the id is no number.
    Stray { key: Vec<u8>, id: Option<i64> },
    /// An unfinished delivery without its entry.
    Missing { key: Vec<u8>, id: i64 },
}

impl<'a> OrderingQueues<'a> {
    pub(super) fn new(held: &'a [Vec<u8>]) -> Self {
        Self { heads: HashMap::new(), leased: None, held, repairs: HashSet::new() }
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
            match self.head(deliveries, key)? {
                Head::Entry { id: Some(head), .. } if head == id => {}
                Head::Entry { id: Some(head), .. } if head > id => {
                    self.repairs.insert(Repair::Missing { key: key.into(), id });
                    return Ok(false);
                }
                Head::Empty => {
                    self.repairs.insert(Repair::Missing { key: key.into(), id });
                    return Ok(false);
                }
                Head::Entry { id: blocking, is_checked } => {
                    if !is_checked {
                        self.heads.insert(key.into(), Head::Entry { id: blocking, is_checked: true });
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

    fn head(&mut self, deliveries: &Deliveries<'_>, key: &[u8]) -> rusqlite::Result<Head> {
        if let Some(head) = self.heads.get(key) {
            return Ok(*head);
        }
        let mut find = deliveries.connection.prepare_cached(&deliveries.sql.head_of_queue)?;
        let entry = |row: &Row<'_>| Ok(Head::Entry { id: row.get_ref(0)?.as_i64().ok(), is_checked: false });
        let head = find.query_row([key], entry).optional()?.unwrap_or(Head::Empty);
        self.heads.insert(key.into(), head);
        Ok(head)
    }

    /// Checks that the head of a queue belongs there.
    pub(super) fn check(&mut self, deliveries: &Deliveries<'_>, key: &[u8], id: Option<i64>) -> rusqlite::Result<()> {
        if !deliveries.is_queued(key, id)? {
            self.repairs.insert(Repair::Stray { key: key.into(), id });
        }
        Ok(())
    }

    fn leased(&mut self, deliveries: &Deliveries<'_>) -> rusqlite::Result<&HashSet<Vec<u8>>> {
        if self.leased.is_none() {
            let mut leased = deliveries.connection.prepare_cached(&deliveries.sql.leased_keys)?;
            let mut rows = leased.query([deliveries.timestamp.now()])?;
            let mut keys: HashSet<Vec<u8>> =
                self.held.iter().flat_map(|held| split_keys(held)).map(Into::into).collect();
            while let Some(row) = rows.next()? {
                // Keys that cannot be read are dealt with once the lease has expired.
                let ordering = ordering_of(row.get_ref(0)?).unwrap_or_default().unwrap_or_default();
                keys.extend(split_keys(ordering).map(Into::into));
            }
            self.leased = Some(keys);
        }
        Ok(self.leased.get_or_insert_default())
    }
}

impl Deliveries<'_> {
    /// Returns whether a delivery belongs into the queue of this key.
    fn is_queued(&self, key: &[u8], id: Option<i64>) -> rusqlite::Result<bool> {
        let Some(id) = id else { return Ok(false) };
        let mut state = self.connection.prepare_cached(&self.sql.state)?;
        let is_queued = |row: &Row<'_>| {
            let is_unfinished = matches!(state_of(row.get_ref(0)?), DeliveryState::Ready | DeliveryState::Leased);
            let ordering = ordering_of(row.get_ref(2)?).unwrap_or_default().unwrap_or_default();
            Ok(is_unfinished && split_keys(ordering).any(|queued| queued == key))
        };
        let is_queued = self.isolation.isolate(|| state.query_row([id], is_queued).optional())?;
        // A delivery on a damaged page keeps its place.
        Ok(is_queued.map_or(true, |is_queued| is_queued.unwrap_or(false)))
    }

    /// Makes this difference good, if it is still there. Returns whether it was.
    pub(super) fn repair(&self, repair: &Repair) -> rusqlite::Result<bool> {
        let changed = match repair {
            Repair::Stray { key, id } if !self.is_queued(key, *id)? => {
                self.connection.prepare_cached(&self.sql.delete_stray)?.execute(params![key, id])?
            }
            Repair::Missing { key, id } if self.is_queued(key, Some(*id))? => {
                self.connection.prepare_cached(&self.sql.insert_ordering)?.execute(params![key, id])?
            }
            _ => 0,
        };
        Ok(changed > 0)
    }
}

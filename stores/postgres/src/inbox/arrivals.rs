//! Adding the deliveries of a batch.

use std::{collections::HashSet, iter::zip, sync::Arc};

use tokio_postgres::types::ToSql;
use tower_klikit::inbox::{NewDelivery, OrderingKey, SearchTerm, TermKind};

use super::batches::{Added, Arrival};
use crate::{
    connection::{Failure, SharedFailure},
    store::Shared,
    values::{Body, bytes, seconds, storable},
};

/// The number of locks that all ordering keys share. More locks mean fewer waits between deliveries with different keys.
/// Fewer locks mean that a delivery with thousands of keys takes less space in the server's lock table.
const LOCKS: u32 = 1024;

/// The columns that operators search by.
pub(super) struct Labels<'a> {
    pub(super) event_id: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) tenant: String,
    pub(super) ordering_keys: Vec<&'a str>,
    pub(super) branch: Option<&'a str>,
    /// The terms of the orders, in lines of a text. A term contains no control characters.
    pub(super) orders: Option<String>,
}

impl<'a> Labels<'a> {
    pub(super) fn of(new: &'a NewDelivery) -> Self {
        let of_kind = |kind| new.terms().iter().filter(move |term| term.kind() == Some(kind)).map(SearchTerm::as_str);
        let orders: Vec<_> = of_kind(TermKind::Order).collect();
        Self {
            event_id: new.event_id().map(storable),
            event_type: new.event_type().map(storable),
            tenant: storable(new.tenant()),
            ordering_keys: new.ordering_keys().iter().map(OrderingKey::as_str).collect(),
            branch: of_kind(TermKind::Branch).next(),
            orders: (!orders.is_empty()).then(|| orders.join("\n")),
        }
    }
}

/// Adds the deliveries of a batch.
pub(super) async fn add_together(shared: Arc<Shared>, arrivals: Vec<Arrival>) -> Vec<Added> {
    let mut outcomes = vec![Added::MustRunAlone; arrivals.len()];
    // Add each key once. Copies run alone afterwards, and find the key known.
    let mut keys = HashSet::new();
    let arrivals = arrivals.into_iter().enumerate();
    let (positions, first): (Vec<_>, Vec<_>) =
        arrivals.filter(|(_, arrival)| keys.insert(*arrival.new.claim().key())).unzip();
    match add_all(&shared, &shared.inbox.begin_together, &first, Cases::UsualIfPossible).await {
        Ok(added) => {
            for (position, is_new) in zip(positions, added) {
                outcomes[position] = if is_new { Added::New } else { Added::NotNew };
            }
        }
        Err(failure) if failure.may_be_of_one_row() => {}
        Err(failure) => {
            let failure = SharedFailure::from(failure);
            for position in positions {
                outcomes[position] = Added::Failed(failure.clone());
            }
        }
    }
    outcomes
}

/// The cases in which [`add_all`] stores a delivery.
#[derive(Clone, Copy)]
pub(super) enum Cases {
    /// Any case in which the key is new.
    All,
    /// Only the usual case, in which no DONE delivery is replaced, because its statement is planned in less time. The same as
    /// [`All`](Self::All) if a delivery has ordering keys, or a tenant that is not known.
    UsualIfPossible,
}

/// Adds deliveries with different keys. Returns for each whether it was stored.
pub(super) async fn add_all(
    shared: &Shared,
    begin: &str,
    arrivals: &[Arrival],
    cases: Cases,
) -> Result<Vec<bool>, Failure> {
    let mut columns = Columns::default();
    arrivals.iter().for_each(|arrival| columns.push(arrival));
    let locks = locks(arrivals.iter().flat_map(|arrival| arrival.new.ordering_keys()));
    let params = columns.params(&locks);
    let are_tenants_known = shared.tenants.contains_all(&columns.tenants);
    let statement = match cases {
        Cases::UsualIfPossible if are_tenants_known && columns.ordering_keys.is_empty() => {
            (&shared.inbox.accept_usual, &params[..COLUMNS_IN_USUAL_CASE])
        }
        Cases::UsualIfPossible | Cases::All => (&shared.inbox.accept, &params[..]),
    };
    let answers = shared.connections.run_together(begin, &[statement]).await?;
    let mut added = vec![false; arrivals.len()];
    for row in answers.iter().flat_map(|answer| &answer.rows) {
        let position: i64 = row.try_get(0).map_err(Failure::Statement)?;
        added[usize::try_from(position - 1).expect("positions begin at 1")] = true;
    }
    if !are_tenants_known {
        // The statement adds the tenants of the stored deliveries only.
        let tenants = zip(&columns.tenants, &added).filter(|(_, is_added)| **is_added);
        shared.tenants.add(tenants.map(|(tenant, _)| tenant));
    }
    Ok(added)
}

/// The parameters of the statement that adds deliveries.
#[derive(Default)]
struct Columns<'a> {
    keys: Vec<&'a [u8]>,
    events: Vec<&'a [u8]>,
    tokens: Vec<&'a [u8]>,
    digests: Vec<&'a [u8]>,
    retentions: Vec<f64>,
    heads: Vec<&'a str>,
    bodies: Vec<Body<'a>>,
    event_ids: Vec<Option<String>>,
    event_types: Vec<Option<String>>,
    tenants: Vec<String>,
    branches: Vec<Option<&'a str>>,
    orders: Vec<Option<String>>,
    ordering_keys: Vec<&'a str>,
    positions: Vec<i64>,
}

/// The number of parameters in the usual case, which are the first ones.
const COLUMNS_IN_USUAL_CASE: usize = 12;

impl<'a> Columns<'a> {
    fn push(&mut self, Arrival { new, retention }: &'a Arrival) {
        let claim = new.claim();
        self.keys.push(bytes(claim.key()));
        self.events.push(bytes(claim.event()));
        self.tokens.push(claim.token().as_bytes());
        self.digests.push(claim.digest().as_bytes());
        self.retentions.push(seconds(*retention));
        self.heads.push(new.head());
        self.bodies.push(Body(new.body()));
        let labels = Labels::of(new);
        self.event_ids.push(labels.event_id);
        self.event_types.push(labels.event_type);
        self.tenants.push(labels.tenant);
        self.branches.push(labels.branch);
        self.orders.push(labels.orders);
        let position = i64::try_from(self.keys.len()).unwrap_or(i64::MAX);
        for key in labels.ordering_keys {
            self.ordering_keys.push(key);
            self.positions.push(position);
        }
    }

    fn params<'p>(&'p self, locks: &'p Vec<i32>) -> [&'p (dyn ToSql + Sync); 15] {
        [
            &self.keys,
            &self.events,
            &self.tokens,
            &self.digests,
            &self.retentions,
            &self.heads,
            &self.bodies,
            &self.event_ids,
            &self.event_types,
            &self.tenants,
            &self.branches,
            &self.orders,
            &self.ordering_keys,
            &self.positions,
            locks,
        ]
    }
}

/// Returns the locks of these keys, sorted: all callers take them in the same order, so that they cannot deadlock.
fn locks<'a>(keys: impl Iterator<Item = &'a OrderingKey>) -> Vec<i32> {
    let mut locks: Vec<_> = keys.map(lock).collect();
    locks.sort_unstable();
    locks.dedup();
    locks
}

/// Returns the lock of a key: its FNV-1a hash, which is the same on all nodes and in all builds.
fn lock(key: &OrderingKey) -> i32 {
    let hash =
        key.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i32::try_from(hash % LOCKS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_sorted_and_distinct() {
        let keys: Vec<_> = (0..2_000).map(|n| OrderingKey::from_text(&format!("order:{n}@warung"))).collect();
        let all = locks(keys.iter());
        assert!(all.is_sorted_by(|a, b| a < b));
        assert!(all.len() > 700 && all.iter().all(|lock| (0..1024).contains(lock)), "{}", all.len());
    }

    /// Nodes that run different versions share a database.
    #[test]
    fn lock_of_a_key_never_changes() {
        // FNV-1a of these is 0x811c9dc5 and 0xe40c292c.
        assert_eq!(["", "a"].map(|key| lock(&OrderingKey::from_text(key))), [0x1c5, 0x12c]);
    }
}

//! The turns of the tenants, which share the leases.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

use rusqlite::types::Value;
use tower_klikit::inbox::OrderingKey;

use super::tenant::Tenant;

/// A delivery that is due and not blocked. Its content was not read yet.
pub(super) struct FreeDelivery {
    pub(super) due: i64,
    pub(super) id: i64,
    pub(super) ordering_keys: Vec<OrderingKey>,
    pub(super) after_expired_lease: bool,
}

/// The turns of the tenants. The tenant with the smallest rank is next, and among equal ranks one that is drawn at
/// random.
pub(super) struct Turns {
    turns: Vec<Turn>,
    positions: HashMap<Tenant, usize>,
    /// The rank, the draw and the position of each turn that is not over.
    order: BinaryHeap<Reverse<(usize, u64, usize)>>,
}

/// The turn of a tenant, and its free deliveries that were found and not taken yet.
pub(super) struct Turn {
    pub(super) tenant: Tenant,
    /// Whether a pause selects some of the tenant's event types.
    pub(super) has_paused_types: bool,
    pub(super) unordered: FreeQueue,
    pub(super) ordered: FreeQueue,
}

/// Free deliveries either without or with ordering keys, longest due first.
pub(super) struct FreeQueue {
    pub(super) free: VecDeque<FreeDelivery>,
    /// The time and the id of the delivery that was examined last.
    pub(super) examined: (Value, i64),
    /// Whether all deliveries were examined.
    pub(super) is_over: bool,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { turns: Vec::new(), positions: HashMap::new(), order: BinaryHeap::new() }
    }

    /// Adds the turn of a tenant with this number of leased deliveries. Does nothing if the tenant has a turn.
    pub(super) fn add(&mut self, tenant: Tenant, has_paused_types: bool, leased: usize) {
        if self.positions.contains_key(&tenant) {
            return;
        }
        let position = self.turns.len();
        // The keys of each hasher are random.
        let draw = RandomState::new().hash_one(&tenant);
        self.order.push(Reverse((leased, draw, position)));
        self.positions.insert(tenant.clone(), position);
        let (unordered, ordered) = (FreeQueue::new(), FreeQueue::new());
        self.turns.push(Turn { tenant, has_paused_types, unordered, ordered });
    }

    /// Returns the number of turns that are not over.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Returns the position of the next turn.
    pub(super) fn next(&self) -> Option<usize> {
        self.order.peek().map(|Reverse((_, _, position))| *position)
    }

    /// Increases the rank of the next turn, which has leased a delivery.
    pub(super) fn lease(&mut self) {
        if let Some(Reverse((rank, draw, position))) = self.order.pop() {
            self.order.push(Reverse((rank + 1, draw, position)));
        }
    }

    /// Ends the next turn.
    pub(super) fn end(&mut self) {
        self.order.pop();
    }

    pub(super) fn position(&self, tenant: &Tenant) -> Option<usize> {
        self.positions.get(tenant).copied()
    }

    pub(super) fn get(&self, position: usize) -> &Turn {
        &self.turns[position]
    }

    pub(super) fn get_mut(&mut self, position: usize) -> &mut Turn {
        &mut self.turns[position]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Turn> {
        self.turns.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Turn> {
        self.turns.iter_mut()
    }
}

impl Turn {
    /// Takes the free delivery that is longest due of those that were found.
    pub(super) fn take(&mut self) -> Option<FreeDelivery> {
        let key = |queue: &FreeQueue| queue.free.front().map(|free| (free.due, free.id));
        match (key(&self.unordered), key(&self.ordered)) {
            (Some(unordered), Some(ordered)) if ordered < unordered => self.ordered.free.pop_front(),
            (None, _) => self.ordered.free.pop_front(),
            _ => self.unordered.free.pop_front(),
        }
    }
}

impl FreeQueue {
    fn new() -> Self {
        // Before every number.
        let examined = (Value::Real(f64::NEG_INFINITY), i64::MIN);
        Self { free: VecDeque::new(), examined, is_over: false }
    }

    /// Returns whether to look for more deliveries before one is taken.
    pub(super) fn is_wanting(&self) -> bool {
        self.free.is_empty() && !self.is_over
    }
}

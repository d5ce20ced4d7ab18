//! The shares of the tenants in the reference.

use std::collections::{BTreeMap, BTreeSet};

use tower_klikit::inbox::LeaseRequest;

use super::{Delivery, ReferenceInbox};

impl ReferenceInbox {
    /// Sorts the candidates by their ranks. The order of each tenant's candidates stays, and the order of the tenants of a
    /// rank changes with each call.
    pub(crate) fn share(&mut self, due: Vec<i64>, request: &LeaseRequest<'_>) -> Vec<i64> {
        let mut ranks: BTreeMap<String, usize> = BTreeMap::new();
        for delivery in self.held_deliveries(request) {
            *ranks.entry(delivery.request.tenant().to_owned()).or_default() += 1;
        }
        let mut by_rank: BTreeMap<usize, Vec<(String, i64)>> = BTreeMap::new();
        for id in due {
            let tenant = self.deliveries[&id].request.tenant().to_owned();
            let rank = ranks.entry(tenant.clone()).or_default();
            by_rank.entry(*rank).or_default().push((tenant, id));
            *rank += 1;
        }
        self.lease_calls += 1;
        let mut shared = Vec::new();
        for mut tied in by_rank.into_values() {
            tied.sort_unstable();
            let first = self.lease_calls % tied.len();
            tied.rotate_left(first);
            shared.extend(tied.into_iter().map(|(_, id)| id));
        }
        shared
    }

    /// Returns the deliveries whose leases are held, each once.
    pub(crate) fn held_deliveries(&self, request: &LeaseRequest<'_>) -> impl Iterator<Item = &Delivery> {
        let ids: BTreeSet<i64> = request.held.iter().map(|lease| lease.id().get()).collect();
        ids.into_iter().filter_map(|id| self.deliveries.get(&id))
    }
}

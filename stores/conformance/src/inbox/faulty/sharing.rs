//! Faults of sharing the leases between tenants.

use std::cmp::Reverse;

use tower_klikit::inbox::{DeadLettered, Lease, LeaseRequest};

use super::FaultyStore;
use crate::inbox::{faulty::faults::InboxFault::*, state::ReferenceInbox};

impl FaultyStore {
    /// Leases with a fault in the order of the candidates, if this store has such a fault.
    pub(super) fn lease_unfairly(
        &self,
        state: &mut ReferenceInbox,
        request: &LeaseRequest<'_>,
    ) -> Option<(Vec<Lease>, Vec<DeadLettered>)> {
        let mut due = state.due();
        let tenant = |id: &i64| state.deliveries[id].request.tenant().to_owned();
        match self.fault {
            TenantsDoNotShare => {}
            PrefetchingDoesNotShare if request.free_handlers == 0 => {}
            OneTenantGoesFirst => due.sort_by_key(|id| Reverse(tenant(id))),
            HeldDoNotCountInRanks => due = state.share(due, &LeaseRequest { held: &[], ..*request }),
            // The sort is stable, so those that are due longest come first in each rank.
            TiesGoToTheLongestDue => {
                let ranks: Vec<(usize, i64)> = due
                    .iter()
                    .enumerate()
                    .map(|(n, id)| (due[..n].iter().filter(|other| tenant(other) == tenant(id)).count(), *id))
                    .collect();
                let held = |id: &i64| {
                    let held = state.held_deliveries(request);
                    held.filter(|delivery| delivery.request.tenant() == tenant(id)).count()
                };
                let mut ranks: Vec<(usize, i64)> = ranks.into_iter().map(|(rank, id)| (rank + held(&id), id)).collect();
                ranks.sort_by_key(|(rank, _)| *rank);
                due = ranks.into_iter().map(|(_, id)| id).collect();
            }
            SharedTenantsAreServedAsAccepted => {
                let is_shared = due.iter().any(|id| tenant(id) != tenant(&due[0]));
                if !is_shared {
                    return None;
                }
                due.sort_unstable();
                due = state.share(due, request);
            }
            _ => return None,
        }
        Some(state.lease_in_order(due, request))
    }
}

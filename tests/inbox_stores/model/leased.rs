//! Whether those were leased that had to be.

use std::time::Duration;

use proptest::{prelude::TestCaseError, prop_assert, prop_assert_eq};
use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxStore, Leased},
};

use super::{Checked, Model};

impl<S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Model<'_, S, A> {
    /// The contract leaves open whether a burial uses up what was asked for, and whether what it frees is leased by the same
    /// call, after the others. What was due at one time may come in any order.
    pub(super) async fn leased(&mut self, leased: &[Leased], limit: u32, time: Duration, max_attempts: u32) -> Checked {
        let state = &mut self.state;
        let mut ids = Vec::new();
        for leased in leased {
            let is_this = |(_, delivery): &(&i64, &crate::state::Delivery)| {
                delivery.request.head() == leased.head() && delivery.request.body() == leased.body()
            };
            let Some((id, _)) = state.deliveries.iter().find(is_this) else {
                return Err(TestCaseError::fail(format!("{leased:?} was not accepted, or is gone")));
            };
            ids.push(*id);
        }
        let due = state.due();
        let (must_bury, must_lease): (Vec<i64>, Vec<i64>) =
            due.iter().partition(|id| state.is_to_be_buried(**id, max_attempts));
        let may_bury = state
            .deliveries
            .keys()
            .copied()
            .filter(|id| state.is_to_be_buried(*id, max_attempts) && state.deliveries[id].due <= state.now);
        let mut buried = Vec::new();
        for id in may_bury.collect::<Vec<_>>() {
            let entry = self.store.show(self.ids[&id]).await.unwrap();
            if entry.is_some_and(|entry| entry.state == DeliveryState::Dead) {
                buried.push(id);
                self.reasons.remove(&id);
            }
        }
        let skipped: Vec<i64> = must_lease.iter().copied().filter(|id| !ids.contains(id)).collect();
        let dues = |ids: &[i64]| ids.iter().map(|id| state.deliveries[id].due).collect::<Vec<_>>();
        let not_freed: Vec<i64> = ids.iter().copied().filter(|id| must_lease.contains(id)).collect();
        let (leased_dues, skipped_dues) = (dues(&ids), dues(&skipped));
        let in_order = dues(&not_freed);
        state.bury_those_who_died(&buried);
        let may_lease = state.due();
        let all = ids.iter().all(|id| may_lease.contains(id));
        prop_assert!(all, "{:?} were leased, of which only {:?} can be", ids, may_lease);
        prop_assert!(ids.len() <= limit as usize, "{} were leased, and {} asked for", ids.len(), limit);
        prop_assert!(in_order.is_sorted(), "those leased are due at {:?}", in_order);
        if ids.len() + buried.len() < limit as usize {
            prop_assert!(skipped.is_empty(), "{:?} were not leased", skipped);
            prop_assert!(
                must_bury.iter().all(|id| buried.contains(id)),
                "of {:?} only {:?} are dead",
                must_bury,
                buried
            );
        }
        if let (Some(last), Some(skipped)) = (leased_dues.iter().max(), skipped_dues.first()) {
            prop_assert!(last <= skipped, "one due at {:?} was leased before one due at {:?}", last, skipped);
        }

        for (here, leased) in state.lease_these(&ids, time).into_iter().zip(leased) {
            let (id, there) = (here.id().get(), *leased.lease());
            self.reasons.remove(&id);
            let ran_out = state.deliveries[&id].ran_out;
            prop_assert_eq!(leased.is_after_a_lease_that_ran_out(), ran_out, "whether its lease ran out");
            prop_assert_eq!(there.attempt(), here.attempt());
            let known = *self.ids.entry(id).or_insert(there.id());
            prop_assert_eq!(known, there.id(), "it has another id");
            let last = self.tokens.insert(id, there.token());
            prop_assert!(last.is_none_or(|last| last < there.token()), "{:?} came after token {:?}", there, last);
            self.leases.push((here, there));
        }
        let ids: Vec<_> = self.ids.values().collect();
        prop_assert!(ids.is_sorted_by(|one, next| one < next), "{:?} were accepted in this order", self.ids);
        Ok(())
    }
}

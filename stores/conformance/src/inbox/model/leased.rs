//! Checks of which deliveries a store leases and dead-letters.

use std::time::Duration;

use proptest::{prelude::TestCaseError, prop_assert, prop_assert_eq};
use tower_klikit::{
    dedupe::Ledger,
    inbox::{InboxAdmin, InboxStore, LEASE_EXPIRED, Lease, LeaseBatch, LeaseRequest, Leased},
};

use super::{LeasePair, Model, order::Candidates, same::nearly};
use crate::{
    inbox::state::{Delivery, ReferenceInbox},
    random::Comparison,
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> Model<'_, S, A> {
    /// Makes a lease request on both. The held leases are `request.held` in the reference, and `held_by_store` in the store.
    pub(super) async fn lease(&mut self, request: &LeaseRequest<'_>, held_by_store: &[Lease]) -> Comparison {
        let store_request = LeaseRequest { held: held_by_store, ..*request };
        let LeaseBatch { leased, dead_lettered, unreadable, .. } = self.store.lease(&store_request).await.unwrap();
        prop_assert!(unreadable.is_empty(), "{:?}", unreadable);
        self.reference.extend_held(request);

        let mut dead = Vec::new();
        for reported in &dead_lettered {
            let id = self.ids.iter().find(|(_, store_id)| **store_id == reported.id).map(|(id, _)| *id);
            let Some(delivery) = id.and_then(|id| self.reference.deliveries.get(&id)) else {
                return Err(TestCaseError::fail(format!("{reported:?} was never leased, or is gone")));
            };
            prop_assert_eq!(reported.attempts, delivery.attempts);
            prop_assert_eq!(reported.head.as_deref(), Some(delivery.request.head()));
            prop_assert_eq!(&*reported.reason, LEASE_EXPIRED);
            dead.extend(id);
        }
        self.reasons.extend(&dead);
        let mut ids = Vec::new();
        for leased in &leased {
            let is_leased = |(_, delivery): &(&i64, &Delivery)| {
                delivery.request.head() == leased.head() && delivery.request.body() == leased.body()
            };
            let Some((id, _)) = self.reference.deliveries.iter().find(is_leased) else {
                return Err(TestCaseError::fail(format!("{leased:?} was not accepted, or is gone")));
            };
            ids.push(*id);
        }
        compare_selection(&mut self.reference, &ids, &dead, request)?;
        self.take_leases(&ids, &leased, request)
    }

    /// Leases the same deliveries in the reference, and compares and records each pair of leases.
    fn take_leases(&mut self, ids: &[i64], leased: &[Leased], request: &LeaseRequest<'_>) -> Comparison {
        for (reference, leased) in self.reference.lease_these(ids, request).into_iter().zip(leased) {
            let (id, store) = (reference.id().get(), *leased.lease());
            self.reasons.remove(&id);
            let Delivery { after_expired_lease, attempt_counted, .. } = self.reference.deliveries[&id];
            prop_assert_eq!(leased.is_after_expired_lease(), after_expired_lease, "is_after_expired_lease");
            prop_assert_eq!(leased.is_attempt_counted(), attempt_counted, "is_attempt_counted");
            prop_assert_eq!(
                leased.is_after_expiry(),
                self.reference.deliveries[&id].is_after_expiry(),
                "is_after_expiry"
            );
            nearly(leased.age(), self.reference.now - self.reference.deliveries[&id].accepted)?;
            prop_assert_eq!(leased.ordering_keys(), self.reference.ordering_keys(id));
            prop_assert_eq!(store.attempt(), reference.attempt());
            let known = *self.ids.entry(id).or_insert(store.id());
            prop_assert_eq!(known, store.id(), "the delivery had another id before");
            let last = self.tokens.insert(id, store.token());
            prop_assert!(last.is_none_or(|last| last < store.token()), "{:?} came after token {:?}", store, last);
            self.leases.push(LeasePair { reference, store });
        }
        let ids: Vec<_> = self.ids.values().collect();
        prop_assert!(ids.is_sorted_by(|one, next| one < next), "{:?} were accepted in this order", self.ids);
        Ok(())
    }
}

/// Checks that the store was allowed to lease and dead-letter these deliveries, and had to leave the others. Then dead-letters
/// the same deliveries in the reference.
///
/// The contract allows more than one result:
///
/// - A dead letter may count towards the limit. A delivery that it unblocks may be leased by the same call, after the others.
/// - A READY delivery whose own lease is held may be leased or left out, and may count towards the limit.
/// - A delivery that is left out because no handler is free may count towards the limit. Its lease has expired, or it has no
///   attempts left.
/// - [`Candidates`] lists the orders that are allowed.
fn compare_selection(
    reference: &mut ReferenceInbox,
    leased: &[i64],
    dead_lettered: &[i64],
    request: &LeaseRequest<'_>,
) -> Comparison {
    let limit = request.limit as usize;
    let is_exhausted = |id: &i64| reference.is_exhausted(*id, request.max_attempts);
    let may_die = |id: &i64| is_exhausted(id) && reference.deliveries[id].has_expired(reference.now);
    prop_assert!(dead_lettered.iter().all(may_die), "{:?} were dead-lettered", dead_lettered);

    // Sort the deliveries that are due into those that were leased and those that were left out, and why.
    let mut possible = reference.due();
    let (exhausted, mut due): (Vec<i64>, Vec<i64>) = possible.iter().partition(|id| is_exhausted(id));
    let settling = due.extract_if(.., |id| reference.is_settling(*id, request));
    let settling_left_out = settling.filter(|id| !leased.contains(id)).count();
    let left_out = due.iter().copied().filter(|id| !leased.contains(id));
    let may_be_leased_ahead = |id: &i64| reference.may_be_leased_ahead(*id, request.max_attempts);
    let (left_out, left_for_a_handler): (Vec<i64>, Vec<i64>) = left_out.partition(may_be_leased_ahead);
    let (for_handlers, ahead) = leased.split_at(leased.len().min(request.free_handlers as usize));
    prop_assert!(ahead.iter().all(may_be_leased_ahead), "of {:?} some must not be leased ahead", ahead);

    drop(reference.dead_letter_these(dead_lettered));
    let can_be_leased = reference.due();
    let all_can_be_leased = leased.iter().all(|id| can_be_leased.contains(id));
    prop_assert!(all_can_be_leased, "{:?} were leased, of which only {:?} can be", leased, can_be_leased);
    prop_assert!(leased.len() <= limit, "{} were leased, and {} requested", leased.len(), limit);

    // Within the limit, nothing may be left out.
    let used_up = leased.len() + dead_lettered.len() + settling_left_out;
    if used_up < limit.min(request.free_handlers as usize) {
        let all_leased = left_for_a_handler.is_empty();
        prop_assert!(all_leased, "{:?} were not leased, although handlers are free", left_for_a_handler);
    }
    if used_up + left_for_a_handler.len() < limit {
        prop_assert!(left_out.is_empty(), "{:?} were not leased", left_out);
        let all_dead = exhausted.iter().all(|id| dead_lettered.contains(id));
        prop_assert!(all_dead, "of {:?} only {:?} are dead", exhausted, dead_lettered);
    }

    possible.extend(can_be_leased);
    possible.sort_unstable();
    possible.dedup();
    let candidates = Candidates { reference, request, leased, certain: &due, possible: &possible };
    candidates.are_in_order()?;
    candidates.come_before(leased, &left_out)?;
    candidates.come_before(for_handlers, &left_for_a_handler)
}

//! Checks of which deliveries a store leases and dead-letters.

use std::time::Duration;

use proptest::{prelude::TestCaseError, prop_assert, prop_assert_eq};
use tower_klikit::{
    dedupe::Ledger,
    inbox::{InboxAdmin, InboxStore, LEASE_EXPIRED, Lease, LeaseBatch, LeaseRequest, Leased},
};

use super::Model;
use crate::{
    inbox::state::{Delivery, ReferenceInbox},
    random::Comparison,
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> Model<'_, S, A> {
    /// Makes a lease request on both. `request.held` contains the reference's leases, and `held` the store's.
    pub(super) async fn lease(&mut self, request: &LeaseRequest<'_>, held: &[Lease]) -> Comparison {
        let there = LeaseRequest { held, ..*request };
        let LeaseBatch { leased, dead_lettered, unreadable, .. } = self.store.lease(&there).await.unwrap();
        prop_assert!(unreadable.is_empty(), "{:?}", unreadable);
        self.state.extend_held(request);

        let mut dead = Vec::new();
        for reported in &dead_lettered {
            let id = self.ids.iter().find(|(_, there)| **there == reported.id).map(|(id, _)| *id);
            let Some(delivery) = id.and_then(|id| self.state.deliveries.get(&id)) else {
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
            let is_this = |(_, delivery): &(&i64, &Delivery)| {
                delivery.request.head() == leased.head() && delivery.request.body() == leased.body()
            };
            let Some((id, _)) = self.state.deliveries.iter().find(is_this) else {
                return Err(TestCaseError::fail(format!("{leased:?} was not accepted, or is gone")));
            };
            ids.push(*id);
        }
        may_be_leased(&mut self.state, &ids, &dead, request)?;
        self.take_leases(&ids, &leased, request)
    }

    /// Compares each lease with the reference's, and remembers both.
    fn take_leases(&mut self, ids: &[i64], leased: &[Leased], request: &LeaseRequest<'_>) -> Comparison {
        for (here, leased) in self.state.lease_these(ids, request).into_iter().zip(leased) {
            let (id, there) = (here.id().get(), *leased.lease());
            self.reasons.remove(&id);
            let Delivery { after_expired_lease, attempt_counted, .. } = self.state.deliveries[&id];
            prop_assert_eq!(leased.is_after_expired_lease(), after_expired_lease, "is_after_expired_lease");
            prop_assert_eq!(leased.is_attempt_counted(), attempt_counted, "is_attempt_counted");
            prop_assert_eq!(leased.ordering_keys(), self.state.ordering_keys(id));
            prop_assert_eq!(there.attempt(), here.attempt());
            let known = *self.ids.entry(id).or_insert(there.id());
            prop_assert_eq!(known, there.id(), "the delivery had another id before");
            let last = self.tokens.insert(id, there.token());
            prop_assert!(last.is_none_or(|last| last < there.token()), "{:?} came after token {:?}", there, last);
            self.leases.push((here, there));
        }
        let ids: Vec<_> = self.ids.values().collect();
        prop_assert!(ids.is_sorted_by(|one, next| one < next), "{:?} were accepted in this order", self.ids);
        Ok(())
    }
}

/// Checks which deliveries were leased and dead-lettered, and dead-letters the latter in the reference.
///
/// The contract allows more than one result:
///
/// - A dead letter may count towards the limit. A delivery that it unblocks may be leased by the same call, after the others.
/// - A READY delivery whose own lease is held may be leased or left out, and may count towards the limit.
/// - A delivery that is left out because no handler is free may count towards the limit. Its lease has expired, or it has no
///   attempts left.
/// - Deliveries that became due at the same time may be leased in any order.
fn may_be_leased(state: &mut ReferenceInbox, ids: &[i64], dead: &[i64], request: &LeaseRequest<'_>) -> Comparison {
    let limit = request.limit as usize;
    let is_exhausted = |id: &i64| state.is_exhausted(*id, request.max_attempts);
    let may_die = |id: &i64| is_exhausted(id) && state.deliveries[id].has_expired(state.now);
    prop_assert!(dead.iter().all(may_die), "{:?} were dead-lettered", dead);
    let (must_die, mut must_lease): (Vec<i64>, Vec<i64>) = state.due().into_iter().partition(is_exhausted);
    let left_out =
        must_lease.extract_if(.., |id| state.is_settling(*id, request)).filter(|id| !ids.contains(id)).count();
    let skipped = must_lease.iter().copied().filter(|id| !ids.contains(id));
    let may_be_leased_ahead = |id: &i64| state.may_be_leased_ahead(*id, request.max_attempts);
    let (skipped, expired): (Vec<i64>, Vec<i64>) = skipped.partition(may_be_leased_ahead);
    let not_unblocked: Vec<i64> = ids.iter().copied().filter(|id| must_lease.contains(id)).collect();
    let (starting, ahead) = ids.split_at(ids.len().min(request.free_handlers as usize));
    prop_assert!(ahead.iter().all(may_be_leased_ahead), "of {:?} some must not be leased ahead", ahead);
    let dues = |ids: &[i64]| ids.iter().map(|id| state.deliveries[id].due).collect::<Vec<_>>();
    let (leased_dues, skipped_dues, in_order) = (dues(ids), dues(&skipped), dues(&not_unblocked));
    let (starting_dues, expired_dues) = (dues(starting), dues(&expired));
    drop(state.dead_letter_these(dead));
    let may_lease = state.due();
    let all = ids.iter().all(|id| may_lease.contains(id));
    prop_assert!(all, "{:?} were leased, of which only {:?} can be", ids, may_lease);
    prop_assert!(ids.len() <= limit, "{} were leased, and {} requested", ids.len(), limit);
    prop_assert!(in_order.is_sorted(), "the leased deliveries are due at {:?}", in_order);
    let used_up = ids.len() + dead.len() + left_out;
    if used_up < limit.min(request.free_handlers as usize) {
        prop_assert!(expired.is_empty(), "{:?} were not leased, although handlers are free", expired);
    }
    if used_up + expired.len() < limit {
        prop_assert!(skipped.is_empty(), "{:?} were not leased", skipped);
        prop_assert!(must_die.iter().all(|id| dead.contains(id)), "of {:?} only {:?} are dead", must_die, dead);
    }
    if let (Some(last), Some(skipped)) = (leased_dues.iter().max(), skipped_dues.first()) {
        prop_assert!(last <= skipped, "a delivery due at {:?} was leased before one due at {:?}", last, skipped);
    }
    if let (Some(last), Some(expired)) = (starting_dues.iter().max(), expired_dues.first()) {
        prop_assert!(
            last <= expired,
            "a free handler got a delivery due at {:?} before one due at {:?}",
            last,
            expired
        );
    }
    Ok(())
}

//! Checks of the order in which a store leases deliveries.

use std::{collections::BTreeSet, time::Duration};

use proptest::prop_assert;
use tower_klikit::inbox::{DeliveryState, Lease, LeaseRequest};

use crate::{inbox::state::ReferenceInbox, random::Comparison};

/// The candidates of a call of `lease`.
///
/// The contract allows more than one order:
///
/// - Deliveries of one tenant that became due at the same time may be leased in any order.
/// - Deliveries of different tenants that have the same rank may be leased in any order.
/// - A delivery that may be leased or left out, and one that is dead-lettered, may count in the ranks of those after it. A held
///   lease that is not the delivery's latest may count as well.
pub(super) struct Candidates<'a> {
    pub(super) reference: &'a ReferenceInbox,
    pub(super) request: &'a LeaseRequest<'a>,
    /// The deliveries that were leased, in this order.
    pub(super) leased: &'a [i64],
    /// The deliveries that count in the ranks of those after them.
    pub(super) certain: &'a [i64],
    /// The deliveries that may count in the ranks of those after them.
    pub(super) possible: &'a [i64],
}

impl Candidates<'_> {
    /// Checks the order of the leased deliveries.
    pub(super) fn are_in_order(&self) -> Comparison {
        for (position, next) in self.leased.iter().enumerate().filter(|(_, next)| self.certain.contains(next)) {
            for before in self.leased[..position].iter().filter(|before| self.certain.contains(before)) {
                let is_older = self.tenant(*before) != self.tenant(*next) || self.due(*before) <= self.due(*next);
                prop_assert!(is_older, "{} was leased before {}, which was due earlier", before, next);
                let (least, most) = (self.least_rank(*before), self.most_of_leased(position));
                prop_assert!(least <= most, "{} of rank {} was leased before {} of rank {}", before, least, next, most);
            }
        }
        Ok(())
    }

    /// Checks that each of these leased deliveries comes before each of these that were left out.
    pub(super) fn come_before(&self, leased: &[i64], left_out: &[i64]) -> Comparison {
        for left in left_out {
            let most = self.most_of_left_out(*left, left_out);
            for leased in leased {
                let is_older = self.tenant(*leased) != self.tenant(*left) || self.due(*leased) <= self.due(*left);
                prop_assert!(is_older, "{} was leased, and not {}, which was due earlier", leased, left);
                let least = self.least_rank(*leased);
                prop_assert!(
                    least <= most,
                    "{} of rank {} was leased, and not {} of rank {}",
                    leased,
                    least,
                    left,
                    most
                );
            }
        }
        Ok(())
    }

    fn tenant(&self, id: i64) -> &str {
        self.reference.deliveries[&id].request.tenant()
    }

    fn due(&self, id: i64) -> Duration {
        self.reference.deliveries[&id].due
    }

    /// Returns the least rank that a leased delivery can have. It is 0 if the delivery may have become a candidate later.
    fn least_rank(&self, id: i64) -> usize {
        if !self.certain.contains(&id) {
            return 0;
        }
        let before = self.leased.iter().take_while(|leased| **leased != id);
        let before = before.filter(|other| self.certain.contains(other) && self.tenant(**other) == self.tenant(id));
        let held: BTreeSet<i64> =
            self.held(id).filter(|held| self.is_latest(held)).map(|held| held.id().get()).collect();
        held.len() + before.count()
    }

    /// Returns the largest rank that the leased delivery in this position can have.
    fn most_of_leased(&self, position: usize) -> usize {
        let id = self.leased[position];
        let before = self.leased[..position].iter().filter(|other| self.tenant(**other) == self.tenant(id));
        let left_out = self.others(id).filter(|other| !self.leased.contains(other) && self.due(*other) <= self.due(id));
        self.held(id).count() + before.count() + left_out.count()
    }

    /// Returns the largest rank that the first one of those that are due at the same time can have. `left_out` contains them.
    fn most_of_left_out(&self, id: i64, left_out: &[i64]) -> usize {
        let before = self.others(id).filter(|other| {
            self.due(*other) < self.due(id) || self.due(*other) == self.due(id) && !left_out.contains(other)
        });
        self.held(id).count() + before.count()
    }

    /// Returns the other possible candidates of the delivery's tenant.
    fn others(&self, id: i64) -> impl Iterator<Item = i64> {
        self.possible.iter().copied().filter(move |other| *other != id && self.tenant(*other) == self.tenant(id))
    }

    /// Returns the held leases of the delivery's tenant.
    fn held(&self, id: i64) -> impl Iterator<Item = &Lease> {
        let deliveries = &self.reference.deliveries;
        let tenant = self.tenant(id);
        self.request.held.iter().filter(move |held| {
            deliveries.get(&held.id().get()).is_some_and(|delivery| delivery.request.tenant() == tenant)
        })
    }

    fn is_latest(&self, held: &Lease) -> bool {
        let delivery = &self.reference.deliveries[&held.id().get()];
        delivery.is(DeliveryState::Leased) && delivery.token == held.token()
    }
}

//! The memory budget of a layer's unverified bodies.
//!
//! An incomplete body is charged for the capacity of its blocks. If the budget is used up, parked buffers are evicted:
//! their memory is freed at once, without waiting for the bodies' tasks to be polled.

use std::sync::Arc;

use super::{
    charge::{Charge, Exhausted, Meter},
    parking::{Parking, Ticket},
};

/// The memory budget that all services of a layer share.
pub(super) struct Budget {
    meter: Arc<Meter>,
    parking: Arc<Parking>,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { meter: Arc::new(Meter::new(limit)), parking: Arc::new(Parking::new()) }
    }

    /// Returns the most bytes that all bodies together may hold.
    pub(super) fn limit(&self) -> usize {
        self.meter.limit()
    }

    /// Charges `bytes`, and evicts parked buffers if the budget is used up.
    ///
    /// # Errors
    ///
    /// If `bytes` exceed the whole budget, or no parked buffer is left to evict.
    pub(super) fn charge(&self, bytes: usize) -> Result<Charge, Exhausted> {
        self.take(bytes, bytes)?;
        Ok(Charge::new(&self.meter, bytes))
    }

    /// Raises a charge to `bytes`. Fails as [`charge`](Self::charge) does, and then leaves the charge unchanged.
    pub(super) fn raise(&self, charge: &mut Charge, bytes: usize) -> Result<(), Exhausted> {
        let missing = bytes.saturating_sub(charge.bytes());
        self.take(missing, bytes)?;
        charge.add(missing);
        Ok(())
    }

    /// Returns a ticket with which a body can park its buffer.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket::new(&self.parking)
    }

    /// Takes `missing` bytes for a charge of `bytes` in total. Evicts other bodies until they fit.
    fn take(&self, missing: usize, bytes: usize) -> Result<(), Exhausted> {
        if bytes > self.limit() {
            // Evicting every other body would not be enough.
            return Err(Exhausted);
        }
        while !self.meter.take(missing) {
            let Some(evicted) = self.parking.evict_unless(|| self.meter.take(missing))? else { break };
            evicted.drop_and_wake();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{mem, task::Waker, thread};

    use super::{super::blocks::Blocks, *};

    /// Parks this many buffers of 50 bytes each.
    fn park(budget: &Budget, buffers: usize) -> Vec<Ticket> {
        let park = |_| {
            let charge = budget.charge(50).expect("the budget is not used up");
            let mut ticket = budget.ticket();
            ticket.park(Blocks::new(50, charge), Waker::noop().clone());
            ticket
        };
        (0..buffers).map(park).collect()
    }

    /// Returns how many of the parked buffers were evicted.
    fn evicted(tickets: &[Ticket]) -> usize {
        tickets.iter().filter(|ticket| ticket.unpark().is_err()).count()
    }

    #[test]
    fn concurrent_charges_evict_no_more_than_needed() {
        for _ in 0..200 {
            let budget = Budget::new(100);
            let tickets = park(&budget, 2);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| mem::forget(budget.charge(1)));
                }
            });
            assert_eq!(evicted(&tickets), 1);
        }
    }

    #[test]
    fn charge_over_the_budget_evicts_nothing() {
        let budget = Budget::new(100);
        let tickets = park(&budget, 2);
        assert!(budget.charge(101).is_err());
        assert_eq!(evicted(&tickets), 0);
    }

    #[test]
    fn raised_charge_takes_only_the_difference() {
        let budget = Budget::new(100);
        let tickets = park(&budget, 1);
        let mut charge = budget.charge(30).unwrap();
        budget.raise(&mut charge, 50).unwrap();
        assert_eq!(evicted(&tickets), 0);
        drop(tickets);
        assert!(budget.raise(&mut charge, 101).is_err());
        assert_eq!(charge.bytes(), 50);
        drop(charge);
        assert!(budget.charge(100).is_ok());
    }
}

//! Where the buffers of waiting bodies lie, so that the budget can evict them.

use std::{
    mem,
    sync::{Arc, Mutex},
    task::Waker,
};

use tokio::time::Instant;

use super::{
    budget::{Budget, Evict, Evicted, Exhausted, Place, lock},
    buffer::Buffer,
};

/// The place where a waiting body keeps its buffer, so that the budget can take it.
#[derive(Default)]
struct Slot(Mutex<Kept>);

#[derive(Default)]
enum Kept {
    /// The body is being polled, or holds nothing.
    #[default]
    Nothing,
    Waiting(Buffer, Waker),
    Gone,
}

impl Evict for Slot {
    fn evict(&self) -> Option<Evicted> {
        let mut kept = lock(&self.0);
        match mem::take(&mut *kept) {
            Kept::Waiting(buffer, waker) => {
                *kept = Kept::Gone;
                Some(Evicted { freed: buffer.evict(), waker })
            }
            other => {
                *kept = other;
                None
            }
        }
    }
}

/// A body's place among those that wait, until the ticket is dropped.
pub(super) struct Ticket {
    budget: Arc<Budget>,
    place: Place,
    slot: Arc<Slot>,
}

impl Ticket {
    /// Makes a ticket for a body that waits since `since`.
    pub(super) fn new(budget: &Arc<Budget>, since: Instant) -> Self {
        Self { budget: Arc::clone(budget), place: budget.place(since), slot: Arc::default() }
    }

    /// Leaves `buffer` where the budget can evict it. `waker` is woken if it does.
    pub(super) fn park(&self, buffer: Buffer, waker: Waker) {
        *lock(&self.slot.0) = Kept::Waiting(buffer, waker);
        self.budget.list(self.place, Arc::clone(&self.slot) as Arc<dyn Evict>);
    }

    /// Takes back the parked buffer, if there is one. Returns an error if it was evicted.
    pub(super) fn unpark(&self) -> Result<Option<Buffer>, Exhausted> {
        let kept = mem::take(&mut *lock(&self.slot.0));
        match kept {
            Kept::Waiting(buffer, _) => Ok(Some(buffer)),
            Kept::Nothing => Ok(None),
            Kept::Gone => Err(Exhausted),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.budget.unlist(self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::{super::budget::GRACE, *};

    /// Bodies that hold 50 bytes each and have waited long enough to go.
    fn waiting(budget: &Arc<Budget>, bodies: usize) -> Vec<Ticket> {
        let since = Instant::now().checked_sub(2 * GRACE).expect("the machine is up for longer");
        let wait = |_| {
            let charge = budget.charge(50, None).expect("there is room");
            let ticket = Ticket::new(budget, since);
            ticket.park(Buffer::One { frame: vec![0; 50].into(), charge: Some(charge) }, Waker::noop().clone());
            ticket
        };
        (0..bodies).map(wait).collect()
    }

    fn evicted(tickets: &[Ticket]) -> usize {
        tickets.iter().filter(|ticket| ticket.unpark().is_err()).count()
    }

    #[test]
    fn concurrent_charges_evict_no_more_than_needed() {
        for _ in 0..200 {
            let budget = Arc::new(Budget::new(100));
            let tickets = waiting(&budget, 2);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| mem::forget(budget.charge(1, None)));
                }
            });
            assert_eq!(evicted(&tickets), 1);
        }
    }

    #[test]
    fn body_over_the_budget_evicts_nobody() {
        let budget = Arc::new(Budget::new(100));
        let tickets = waiting(&budget, 2);
        assert!(budget.charge(101, None).is_err());
        assert_eq!(evicted(&tickets), 0);
    }

    #[test]
    fn longest_waiting_body_makes_room_for_no_other() {
        let budget = Arc::new(Budget::new(100));
        let tickets = waiting(&budget, 2);
        let asker = Instant::now().checked_sub(3 * GRACE);
        assert!(budget.charge(1, asker).is_err());
        assert_eq!(evicted(&tickets), 0);
    }
}

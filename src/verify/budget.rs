//! What all unverified bodies of a layer hold together.
//!
//! A body is charged for what it keeps while it waits: the capacity of its buffer, and its first frame once the rest of the
//! body is not there yet. What it keeps while it waits lies in a slot that the budget can empty, so that a refusal frees
//! memory at that moment and not when the refused task is next polled.

use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

use tokio::time::Instant;

use super::buffer::Buffer;
use crate::telemetry;

/// How long a body may wait before it can be refused to make room for another.
const GRACE: Duration = Duration::from_secs(1);

pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
    next_place: AtomicU64,
    /// The bodies that wait and hold something, longest first.
    waiting: Mutex<BTreeMap<Place, Arc<Slot>>>,
}

/// Since when a body waits, and a number that tells it from others of that instant.
type Place = (Instant, u64);

/// The budget is used up.
#[derive(Debug)]
pub(super) struct Exhausted;

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), next_place: AtomicU64::new(0), waiting: Mutex::default() }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Sets `bytes` aside for a body that waits since `asker`, or does not wait yet, by refusing those that have waited longer
    /// if need be.
    pub(super) fn charge(self: &Arc<Self>, bytes: usize, asker: Option<Instant>) -> Result<Charge, Exhausted> {
        self.take(0, bytes, asker)?;
        let charge = Charge { budget: Arc::clone(self), bytes };
        telemetry::buffered(bytes);
        Ok(charge)
    }

    /// Sets aside what is missing to `bytes` when `held` are set aside already.
    fn take(&self, held: usize, bytes: usize, asker: Option<Instant>) -> Result<(), Exhausted> {
        if bytes > self.limit {
            // Refusing others could not make this fit.
            return Err(Exhausted);
        }
        let missing = bytes.saturating_sub(held);
        while !self.fits(missing) {
            let mut waiting = lock(&self.waiting);
            // Another body's eviction may have made room enough for this one too.
            if self.fits(missing) {
                break;
            }
            let Evicted { buffer, waker } = evict_longest(&mut waiting, asker)?;
            // What it was charged is given back under the lock, so that nobody evicts one more than it takes. Memory, waker, and
            // whoever counts are others' code.
            let freed = buffer.evict();
            drop(waiting);
            drop(freed);
            waker.wake();
        }
        Ok(())
    }

    /// Takes `bytes` if they are there.
    fn fits(&self, bytes: usize) -> bool {
        let fit = |used: usize| used.checked_add(bytes).filter(|&used| used <= self.limit);
        // Relaxed: the counter guards no other memory.
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fit).is_ok()
    }

    /// A place in the order for a body that waits since `since`.
    pub(super) fn place(self: &Arc<Self>, since: Instant) -> Ticket {
        // Only uniqueness matters.
        let place = (since, self.next_place.fetch_add(1, Ordering::Relaxed));
        Ticket { budget: Arc::clone(self), place, slot: Arc::default() }
    }
}

fn evict_longest(waiting: &mut BTreeMap<Place, Arc<Slot>>, asker: Option<Instant>) -> Result<Evicted, Exhausted> {
    while let Some(first) = waiting.first_entry() {
        let (since, _) = *first.key();
        // Whoever asks may itself be the one that has waited longest.
        if since.elapsed() < GRACE || asker.is_some_and(|asker| asker < since) {
            break;
        }
        // A slot whose body is being polled at this moment is empty: that body is no longer one that waits.
        if let Some(evicted) = first.remove().evict() {
            return Ok(evicted);
        }
    }
    Err(Exhausted)
}

/// Bytes set aside. Given back when dropped.
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Sets further bytes aside, so that there are `bytes` in all. `asker` is as for [`Budget::charge`].
    pub(super) fn grow_to(&mut self, bytes: usize, asker: Option<Instant>) -> Result<(), Exhausted> {
        self.budget.take(self.bytes, bytes, asker)?;
        let more = bytes.saturating_sub(self.bytes);
        self.bytes += more;
        telemetry::buffered(more);
        Ok(())
    }

    /// Gives them back now, and has it counted when the answer is dropped.
    pub(super) fn give_back(mut self) -> GivenBack {
        self.take_back()
    }

    fn take_back(&mut self) -> GivenBack {
        let bytes = mem::take(&mut self.bytes);
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        GivenBack(bytes)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// Bytes that were given back, and are no longer counted once this is dropped.
pub(super) struct GivenBack(usize);

impl Drop for GivenBack {
    fn drop(&mut self) {
        if self.0 > 0 {
            telemetry::released(self.0);
        }
    }
}

/// Where a waiting body keeps what it has.
#[derive(Default)]
struct Slot(Mutex<Kept>);

#[derive(Default)]
enum Kept {
    /// Nothing lies here: the body is being polled.
    #[default]
    Nothing,
    Waiting(Evicted),
    Gone,
}

/// What is taken from a body to make room, and who is to hear of it.
struct Evicted {
    buffer: Buffer,
    waker: Waker,
}

impl Slot {
    fn evict(&self) -> Option<Evicted> {
        let mut kept = lock(&self.0);
        match mem::take(&mut *kept) {
            Kept::Waiting(evicted) => {
                *kept = Kept::Gone;
                Some(evicted)
            }
            other => {
                *kept = other;
                None
            }
        }
    }
}

/// A waiting body's place in the order. Given up when dropped.
pub(super) struct Ticket {
    budget: Arc<Budget>,
    place: Place,
    slot: Arc<Slot>,
}

impl Ticket {
    /// Leaves `buffer` where it can be evicted; `waker` is woken if it is.
    pub(super) fn park(&self, buffer: Buffer, waker: Waker) {
        *lock(&self.slot.0) = Kept::Waiting(Evicted { buffer, waker });
        // Put in anew each time: whoever looked for something to evict while this body was polled has taken it out.
        lock(&self.budget.waiting).insert(self.place, Arc::clone(&self.slot));
    }

    /// Takes back what was parked, if anything was; unless it was evicted.
    pub(super) fn unpark(&self) -> Result<Option<Buffer>, Exhausted> {
        let kept = mem::take(&mut *lock(&self.slot.0));
        match kept {
            Kept::Waiting(Evicted { buffer, .. }) => Ok(Some(buffer)),
            Kept::Nothing => Ok(None),
            Kept::Gone => Err(Exhausted),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.budget.waiting).remove(&self.place);
    }
}

/// What is locked is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Bodies that hold 50 bytes each and have waited long enough to go.
    fn waiting(budget: &Arc<Budget>, bodies: usize) -> Vec<Ticket> {
        let since = Instant::now().checked_sub(2 * GRACE).expect("the machine is up for longer");
        let wait = |_| {
            let charge = budget.charge(50, None).expect("there is room");
            let ticket = budget.place(since);
            ticket.park(Buffer::One { frame: vec![0; 50].into(), charge: Some(charge) }, Waker::noop().clone());
            ticket
        };
        (0..bodies).map(wait).collect()
    }

    fn evicted(tickets: &[Ticket]) -> usize {
        tickets.iter().filter(|ticket| ticket.unpark().is_err()).count()
    }

    #[test]
    fn askers_at_once_evict_no_more_than_it_takes() {
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
    fn what_could_never_fit_evicts_nobody() {
        let budget = Arc::new(Budget::new(100));
        let tickets = waiting(&budget, 2);
        assert!(budget.charge(101, None).is_err());
        assert_eq!(evicted(&tickets), 0);
    }

    #[test]
    fn the_longest_waiting_makes_room_even_when_it_is_the_one_that_asks() {
        let budget = Arc::new(Budget::new(100));
        let tickets = waiting(&budget, 2);
        let asker = Instant::now().checked_sub(3 * GRACE);
        assert!(budget.charge(1, asker).is_err());
        assert_eq!(evicted(&tickets), 0);
    }
}

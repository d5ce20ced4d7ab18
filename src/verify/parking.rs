//! The buffers of waiting bodies, kept where they can be evicted.

use std::{
    hash::{BuildHasher, RandomState},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    blocks::Blocks,
    charge::{Exhausted, Released},
};

/// How many parked buffers are compared to choose one for eviction.
const DRAWS: usize = 8;

/// The part of a buffer, as a divisor, by which it has to grow for that to count. Otherwise a byte now and then would do.
const NOTABLE: usize = 8;

/// Added to the time for which a buffer has not grown. Below it, a buffer's size matters more than that time.
const GAP: Duration = Duration::from_millis(100);

/// The parked buffers of a layer.
///
/// The buffer to evict is the heaviest of a few drawn at random. Its weight is its size times the time for which it has
/// not grown. Genuine deliveries are small and grow steadily, so an attacker who fills the budget loses nearly every
/// draw: a few large bodies lose by their size, and many small ones are most of what is drawn. Bodies that are held for
/// long get heavier, and replacing them takes bandwidth.
pub(super) struct Parking {
    entries: Mutex<Entries>,
    /// Keyed at random, so that peers cannot foresee the draws.
    random: RandomState,
}

#[derive(Default)]
struct Entries {
    entries: Vec<Entry>,
    draws: u64,
}

/// A slot, which may have been emptied since by a body that is being polled.
struct Entry {
    slot: Arc<Slot>,
    bytes: usize,
    /// When the buffer grew last.
    since: Instant,
}

#[derive(Default)]
struct Slot {
    kept: Mutex<Kept>,
    /// The index of the slot's entry plus 1, or 0 without an entry. Guarded by the lock of the entries.
    place: AtomicUsize,
}

#[derive(Default)]
enum Kept {
    /// The body is being polled, or holds nothing.
    #[default]
    Nothing,
    Parked(Blocks, Waker),
    Evicted,
}

/// An evicted buffer, to be dropped once no lock is held: its drop runs code of others.
pub(super) struct Evicted {
    _freed: (Vec<Vec<u8>>, Released),
    waker: Waker,
}

impl Parking {
    pub(super) fn new() -> Self {
        Self { entries: Mutex::default(), random: RandomState::new() }
    }

    /// Evicts a buffer, unless `enough` says, with all other evictions held up, that there is no need any more. Returns
    /// `None` in that case, and an error if no buffer is parked.
    pub(super) fn evict_unless(&self, enough: impl FnOnce() -> bool) -> Result<Option<Evicted>, Exhausted> {
        let mut entries = lock(&self.entries);
        if enough() {
            return Ok(None);
        }
        let now = Instant::now();
        while let Some(heaviest) = self.draw(&mut entries, now) {
            // Otherwise the body is being polled, and gets a new entry when it waits again.
            if let Some(evicted) = entries.remove(heaviest).evict() {
                return Ok(Some(evicted));
            }
        }
        Err(Exhausted)
    }

    /// Returns the index of the heaviest of a few entries.
    fn draw(&self, Entries { entries, draws }: &mut Entries, now: Instant) -> Option<usize> {
        let weight = |index: &usize| entries[*index].weight(now);
        let length = entries.len();
        if length <= DRAWS {
            return (0..length).max_by_key(weight);
        }
        let random_index = |_| {
            *draws += 1;
            usize::try_from(self.random.hash_one(*draws) % length as u64).expect("it is below a usize")
        };
        (0..DRAWS).map(random_index).max_by_key(weight)
    }
}

impl Entries {
    /// Adds or updates the entry of a slot.
    fn put(&mut self, entry: Entry) {
        match entry.slot.place.load(Ordering::Relaxed) {
            0 => {
                entry.slot.place.store(self.entries.len() + 1, Ordering::Relaxed);
                self.entries.push(entry);
            }
            place => self.entries[place - 1] = entry,
        }
    }

    fn remove(&mut self, index: usize) -> Arc<Slot> {
        let removed = self.entries.swap_remove(index);
        removed.slot.place.store(0, Ordering::Relaxed);
        if let Some(moved) = self.entries.get(index) {
            moved.slot.place.store(index + 1, Ordering::Relaxed);
        }
        removed.slot
    }
}

impl Entry {
    fn weight(&self, now: Instant) -> u128 {
        self.bytes as u128 * (now.saturating_duration_since(self.since) + GAP).as_micros()
    }
}

impl Slot {
    fn evict(&self) -> Option<Evicted> {
        let mut kept = lock(&self.kept);
        match mem::take(&mut *kept) {
            Kept::Parked(blocks, waker) => {
                *kept = Kept::Evicted;
                Some(Evicted { _freed: blocks.evict(), waker })
            }
            other => {
                *kept = other;
                None
            }
        }
    }
}

impl Evicted {
    /// Frees the memory, and has the body's task notice.
    pub(super) fn drop_and_wake(self) {
        let waker = self.waker.clone();
        drop(self);
        waker.wake();
    }
}

/// A body's place in a [`Parking`], until the ticket is dropped.
pub(super) struct Ticket {
    parking: Arc<Parking>,
    slot: Arc<Slot>,
    /// The length to which the buffer had grown last, and when.
    grown: Option<(usize, Instant)>,
}

impl Ticket {
    pub(super) fn new(parking: &Arc<Parking>) -> Self {
        Self { parking: Arc::clone(parking), slot: Arc::default(), grown: None }
    }

    /// Parks a buffer where it can be evicted. `waker` is woken if it is.
    pub(super) fn park(&mut self, blocks: Blocks, waker: Waker) {
        let length = blocks.len();
        let (_, since) = *match &mut self.grown {
            Some(grown) if length < grown.0 + (grown.0 / NOTABLE).max(1) => grown,
            grown => grown.insert((length, Instant::now())),
        };
        let bytes = blocks.charge().bytes();
        *lock(&self.slot.kept) = Kept::Parked(blocks, waker);
        lock(&self.parking.entries).put(Entry { slot: Arc::clone(&self.slot), bytes, since });
    }

    /// Takes back the parked buffer, if there is one. Returns an error once after it was evicted.
    pub(super) fn unpark(&self) -> Result<Option<Blocks>, Exhausted> {
        match mem::take(&mut *lock(&self.slot.kept)) {
            Kept::Parked(blocks, _) => Ok(Some(blocks)),
            Kept::Nothing => Ok(None),
            Kept::Evicted => Err(Exhausted),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut entries = lock(&self.parking.entries);
        if let Some(index) = self.slot.place.load(Ordering::Relaxed).checked_sub(1) {
            entries.remove(index);
        }
    }
}

/// A panic elsewhere leaves the locked value whole: each change is one statement, or runs no code of others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{super::budget::Budget, *};

    const BUDGET: usize = 100_000_000;

    fn park(budget: &Budget, bytes: usize) -> Ticket {
        let charge = budget.charge(bytes).expect("the budget is not used up");
        let mut ticket = budget.ticket();
        ticket.park(Blocks::new(1000, charge), Waker::noop().clone());
        ticket
    }

    fn evicted(tickets: &[Ticket]) -> Vec<usize> {
        let evicted = |&n: &usize| matches!(*lock(&tickets[n].slot.kept), Kept::Evicted);
        (0..tickets.len()).filter(evicted).collect()
    }

    /// Evicts a buffer and parks an equal one in its place.
    fn replace_one(budget: &Budget, tickets: &mut [Ticket], size: impl Fn(usize) -> usize) -> usize {
        let evicted_one = tickets[0].parking.evict_unless(|| false).unwrap().unwrap();
        evicted_one.drop_and_wake();
        let [index] = evicted(tickets)[..] else { panic!("one buffer is evicted at a time") };
        tickets[index] = park(budget, size(index));
        index
    }

    #[tokio::test(start_paused = true)]
    async fn few_large_buffers_lose_the_draws() {
        let budget = Budget::new(BUDGET);
        let size = |index| if index < 10 { 20_000 } else { 1 << 20 };
        let mut tickets: Vec<_> = (0..74).map(|index| park(&budget, size(index))).collect();
        let evicted: Vec<_> = (0..300).map(|_| replace_one(&budget, &mut tickets, size)).collect();
        assert!(evicted.iter().all(|&index| index >= 10), "{evicted:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn many_small_buffers_lose_the_draws() {
        let budget = Budget::new(BUDGET);
        let size = |index| if index < 10 { 20_000 } else { 1024 };
        let mut tickets: Vec<_> = (0..50_000).map(|index| park(&budget, size(index))).collect();
        let evicted: Vec<_> = (0..300).map(|_| replace_one(&budget, &mut tickets, size)).collect();
        assert!(evicted.iter().filter(|&&index| index < 10).count() < 10, "{evicted:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn heaviest_of_a_few_is_evicted() {
        for (sizes, heaviest) in [(&[1, 3, 2][..], 1), (&[5], 0), (&[2, 2, 2, 2, 2, 2, 2, 9], 7)] {
            let budget = Budget::new(BUDGET);
            let mut tickets: Vec<_> = sizes.iter().map(|&size| park(&budget, size)).collect();
            assert_eq!(replace_one(&budget, &mut tickets, |_| 1), heaviest, "{sizes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn growing_makes_a_buffer_lighter() {
        let budget = Budget::new(BUDGET);
        let mut tickets = vec![park(&budget, 1000), park(&budget, 500)];
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut parked = tickets[0].unpark().unwrap().unwrap();
        parked.fill(b" ");
        tickets[0].park(parked, Waker::noop().clone());
        let parked = tickets[1].unpark().unwrap().unwrap();
        tickets[1].park(parked, Waker::noop().clone());
        assert_eq!(replace_one(&budget, &mut tickets, |_| 1), 1, "being polled without a byte is no growth");
    }

    #[tokio::test(start_paused = true)]
    async fn dripping_makes_no_buffer_lighter() {
        let budget = Budget::new(BUDGET);
        let mut tickets = vec![park(&budget, 1000), park(&budget, 1000)];
        let mut grow = |ticket: &mut Ticket, bytes: usize| {
            let mut blocks = ticket.unpark().unwrap().unwrap();
            blocks.fill(&vec![b' '; bytes]);
            ticket.park(blocks, Waker::noop().clone());
        };
        tickets.iter_mut().for_each(|ticket| grow(ticket, 400));
        for _ in 0..10 {
            tokio::time::advance(Duration::from_millis(100)).await;
            grow(&mut tickets[0], 60);
            grow(&mut tickets[1], 1);
        }
        assert_eq!(replace_one(&budget, &mut tickets, |_| 1), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_tickets_leave_no_entry() {
        let budget = Budget::new(BUDGET);
        let mut tickets: Vec<_> = (0..9).map(|n| park(&budget, n)).collect();
        let parking = Arc::clone(&tickets[0].parking);
        for n in [4, 7, 0, 2] {
            tickets.swap_remove(n);
            let entries = lock(&parking.entries);
            let places = entries.entries.iter().map(|entry| entry.slot.place.load(Ordering::Relaxed));
            assert!(places.eq(1..=tickets.len()));
        }
        drop(tickets);
        assert!(matches!(parking.evict_unless(|| false), Err(Exhausted)));
    }
}

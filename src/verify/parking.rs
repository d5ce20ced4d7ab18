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

/// The size that a buffer counts for at least, in bytes: that of an order. Otherwise an order would be the heaviest among
/// tiny bodies.
const MIN_SIZE: usize = 32 * 1024;

/// Added to the time for which a buffer has not grown. Within it, the size matters more than the time: genuine pieces come
/// at such intervals.
const GAP: Duration = Duration::from_millis(100);

/// A buffer has to grow by one part in so many for that to count. Otherwise a byte now and then would be enough.
const NOTABLE: usize = 8;

/// The parked buffers of a layer.
///
/// The buffer to evict is the heaviest of a few drawn at random. Its weight is its size times the time for which it has
/// hardly grown. Genuine deliveries are small and grow steadily, so an attacker who fills the budget loses nearly every
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
    freed: (Vec<Vec<u8>>, Released),
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
        self.bytes.max(MIN_SIZE) as u128 * (now.saturating_duration_since(self.since) + GAP).as_micros()
    }
}

impl Slot {
    fn evict(&self) -> Option<Evicted> {
        let mut kept = lock(&self.kept);
        match mem::take(&mut *kept) {
            Kept::Parked(blocks, waker) => {
                *kept = Kept::Evicted;
                Some(Evicted { freed: blocks.evict(), waker })
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
        let Self { freed, waker } = self;
        drop(freed);
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
    use tokio::time::advance;

    use super::{
        super::charge::{Charge, Meter},
        *,
    };

    fn park(parking: &Arc<Parking>, bytes: usize) -> Ticket {
        let meter = Arc::new(Meter::new(bytes));
        assert!(meter.take(bytes));
        let mut ticket = Ticket::new(parking);
        ticket.park(Blocks::new(1000, Charge::new(&meter, bytes)), Waker::noop().clone());
        ticket
    }

    fn evict(parking: &Parking) {
        parking.evict_unless(|| false).unwrap().unwrap().drop_and_wake();
    }

    /// Evicts a buffer, and returns its index.
    fn evicted(parking: &Parking, tickets: &[Ticket]) -> usize {
        evict(parking);
        let evicted = |&n: &usize| matches!(*lock(&tickets[n].slot.kept), Kept::Evicted);
        (0..tickets.len()).find(evicted).expect("a buffer was evicted")
    }

    /// Evicts buffers, and parks an equal one in the place of each. Returns how many of the first ten were evicted.
    fn evicted_of_ten(sizes: &[usize], evictions: usize, parking: &Arc<Parking>, tickets: &mut [Ticket]) -> usize {
        let mut of_ten = 0;
        for _ in 0..evictions {
            let index = evicted(parking, tickets);
            tickets[index] = park(parking, sizes[index]);
            of_ten += usize::from(index < 10);
        }
        of_ten
    }

    #[tokio::test(start_paused = true)]
    async fn few_large_buffers_lose_the_draws() {
        let parking = Arc::new(Parking::new());
        let sizes: Vec<_> = (0..74).map(|index| if index < 10 { 20_000 } else { 1 << 20 }).collect();
        let mut tickets: Vec<_> = sizes.iter().map(|&size| park(&parking, size)).collect();
        assert_eq!(evicted_of_ten(&sizes, 300, &parking, &mut tickets), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn many_small_buffers_lose_the_draws() {
        let parking = Arc::new(Parking::new());
        let sizes: Vec<_> = (0..1000).map(|index| if index < 10 { 20_000 } else { 1024 }).collect();
        let mut tickets: Vec<_> = sizes.iter().map(|&size| park(&parking, size)).collect();
        advance(Duration::from_secs(1)).await;
        // The orders have just come.
        for ticket in &mut tickets[..10] {
            *ticket = park(&parking, 20_000);
        }
        // Each of them is drawn some eight times.
        assert!(evicted_of_ten(&sizes, 500, &parking, &mut tickets) < 10);
    }

    #[tokio::test(start_paused = true)]
    async fn heaviest_of_a_few_is_evicted() {
        const KIB: usize = 1024;
        for (sizes, heaviest) in [(&[100, 300, 200][..], 1), (&[5], 0), (&[40, 40, 40, 40, 40, 40, 40, 41], 7)] {
            let parking = Arc::new(Parking::new());
            let tickets: Vec<_> = sizes.iter().map(|&size| park(&parking, size * KIB)).collect();
            assert_eq!(evicted(&parking, &tickets), heaviest, "{sizes:?}");
        }
    }

    fn grow(ticket: &mut Ticket, bytes: usize) {
        let mut blocks = ticket.unpark().unwrap().unwrap();
        blocks.fill(&vec![b' '; bytes]);
        ticket.park(blocks, Waker::noop().clone());
    }

    #[tokio::test(start_paused = true)]
    async fn growing_makes_a_buffer_lighter() {
        let parking = Arc::new(Parking::new());
        let mut tickets = vec![park(&parking, 200_000), park(&parking, 100_000)];
        advance(Duration::from_secs(1)).await;
        grow(&mut tickets[0], 1);
        grow(&mut tickets[1], 0);
        assert_eq!(evicted(&parking, &tickets), 1, "being polled without a byte is no growth");
    }

    #[tokio::test(start_paused = true)]
    async fn dripping_makes_no_buffer_lighter() {
        let parking = Arc::new(Parking::new());
        let mut tickets = vec![park(&parking, 1000), park(&parking, 1000)];
        tickets.iter_mut().for_each(|ticket| grow(ticket, 400));
        for _ in 0..10 {
            advance(Duration::from_millis(100)).await;
            grow(&mut tickets[0], 60);
            grow(&mut tickets[1], 1);
        }
        assert_eq!(evicted(&parking, &tickets), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_tickets_leave_no_entry() {
        let parking = Arc::new(Parking::new());
        let mut tickets: Vec<_> = (1..10).map(|n| park(&parking, n)).collect();
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
